# What a person does here: serve an application, run the tests, tidy the code. Everything else is set up on the way:
# a venv with pinned tools in .venv, the extension module built from crates/, stamps in .make that say what is fresh.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
APP ?=
ARGS ?=
PYTEST_ARGS ?=
SCENARIOS ?=
SERVERS ?=
ROUNDS ?= 7
PORT ?= 8080
BENCH_PYTHON ?=

venv := .venv
bin := $(CURDIR)/$(venv)/bin
# One interpreter for every cargo command: another one would rebuild the bindings each time.
export PYO3_PYTHON := $(bin)/python

python_sources := $(shell find python -name '*.py')
rust_sources := $(shell find crates -name '*.rs' -o -name Cargo.toml) Cargo.toml Cargo.lock
# The benchmark's own environment; with BENCH_PYTHON it is another one, named for that Python's version.
bench_suffix := $(if $(BENCH_PYTHON),-$(shell $(BENCH_PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])'))
ifeq ($(BENCH_PYTHON:%=given)$(bench_suffix),given)
$(error BENCH_PYTHON: $(BENCH_PYTHON) does not run)
endif
bench_venv := .venv$(bench_suffix)
export BENCH_VENV := $(bench_venv)

pytest := $(bin)/python -m pytest -n 4 --dist worksteal $(PYTEST_ARGS)

.PHONY: help
help:
	@echo 'make serve             build if something changed, then serve the example on http://127.0.0.1:8000'
	@echo "make serve APP=module:app ARGS='-w 4'"
	@echo '                       serve your own application, found from this folder'
	@echo 'make serve-zope        a filled Zope in a throw-away folder, served by Tricorn; PORT=8080 chooses where'
	@echo 'make serve-plone       the same with a Plone site; the first run installs Plone, which takes minutes'
	@echo 'make test              everything that must hold before a change lands'
	@echo 'make test-rust         only cargo test'
	@echo 'make test-python       only pytest, against Gunicorn and Tricorn'
	@echo 'make test-conformance  only HTTP/1.1: our own cases, and the corpora beside the checkout when present'
	@echo 'make test-compat       only the applications of frameworks: Flask, Django, Pyramid, FastAPI and more'
	@echo 'make test-zope         Zope in every worker model, with and without ZEO, and behind nginx, HAProxy and Varnish'
	@echo '                       where they are installed; its buildout (some minutes)'
	@echo 'make test-load         1,000 clients, HUP every second, TERM at the end: counts lost requests; 1,000 slow'
	@echo '                       clients beside a quick one: how long it waits'
	@echo 'make bench             Tricorn and its rivals side by side, two hours; SCENARIOS=hello SERVERS=granian'
	@echo '                       ROUNDS=7 choose; BENCH_PYTHON=python3.13 runs all of them on another Python'
	@echo 'make bench-report      bench/results.md and its charts anew, from bench/figures and bench/findings.md'
	@echo 'make bench-micro       what parsing, environ, encoding and hand-off cost, in nanoseconds'
	@echo 'make lint              formatting, clippy, ruff'
	@echo 'make fmt               format Rust and Python'
	@echo
	@echo "PYTHON=python3.12 chooses the interpreter of $(venv); PYTEST_ARGS='-k name --servers tricorn' narrows pytest."

# ---- what must be there already; each line says what to install
.PHONY: needs
needs:
	@command -v cargo >/dev/null || { echo 'cargo is missing: install the Rust toolchain (https://rustup.rs), 1.89 or newer' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'cc is missing: install a C compiler (Debian: apt-get install gcc libc6-dev)' >&2; exit 1; }
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) is missing: install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is $$($(PYTHON) -V): Python 3.10 or newer is needed; name one: make PYTHON=python3.12" >&2; exit 1; }
	@[ -e .make/venv ] || $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo '$(PYTHON) cannot make a venv: install its venv module (Debian: apt-get install python3-venv)' >&2; exit 1; }

.PHONY: needs-lint
needs-lint: needs
	@cargo fmt --version >/dev/null 2>&1 || { echo 'cargo fmt is missing: rustup component add rustfmt' >&2; exit 1; }
	@cargo clippy --version >/dev/null 2>&1 || { echo 'cargo clippy is missing: rustup component add clippy' >&2; exit 1; }

# ---- set up on the way
.make/venv: | needs
	@echo 'Making $(venv) ...'
	@$(PYTHON) -m venv --clear $(venv)
	@$(bin)/pip install -q --disable-pip-version-check 'maturin==1.16.0'
	@mkdir -p .make && touch $@

.make/test-tools: tests/requirements.txt .make/venv
	@echo 'Installing what the tests need ...'
	@$(bin)/pip install -q --disable-pip-version-check -r tests/requirements.txt
	@touch $@

# Zope pins much of what it stands on, so it lives apart; the extension is the one of $(venv).
.make/zope: tests/requirements-zope.txt tests/requirements-relstorage.txt .make/venv
	@echo 'Installing a Zope for the tests ...'
	@$(PYTHON) -m venv --clear .venv-zope
	@.venv-zope/bin/pip install -q --disable-pip-version-check -r tests/requirements-zope.txt
	@.venv-zope/bin/pip install -q --disable-pip-version-check -r tests/requirements-relstorage.txt \
	  || echo 'RelStorage did not install: the test of it will be skipped' >&2
	@touch $@

# The versions are those of the example, where they are pinned for buildout.
.make/gunicorn25: tests/requirements-gunicorn25.txt .make/venv
	@echo 'Installing Gunicorn 25 for the tests ...'
	@$(PYTHON) -m venv --clear .venv-gunicorn25
	@.venv-gunicorn25/bin/pip install -q --disable-pip-version-check -r tests/requirements-gunicorn25.txt
	@touch $@

.make/plone: examples/plone-buildout/versions.cfg .make/venv
	@echo 'Installing Plone (some minutes) ...'
	@$(PYTHON) -m venv --clear .venv-plone
	@sed -n 's/^\([A-Za-z].*\) = /\1==/p' $< > .make/plone-versions.txt
	@.venv-plone/bin/pip install --disable-pip-version-check --progress-bar off -c .make/plone-versions.txt \
	  Plone ZEO Paste PasteDeploy setuptools
	@touch $@

# PasteDeploy finds servers by the metadata of their distributions, so it is not enough to be importable.
.make/zope-finds-us .make/plone-finds-us: .make/%-finds-us: .make/% .make/release
	@there="$$(echo .venv-$*/lib/python3.*/site-packages)"; rm -rf "$$there"/tricorn-*.dist-info; \
	  cp -r $(venv)/lib/python3.*/site-packages/tricorn-*.dist-info "$$there"; \
	  echo '$(CURDIR)/python' > "$$there/tricorn.pth"
	@touch $@

.make/wheel: $(rust_sources) $(python_sources) pyproject.toml .make/venv
	@echo 'Building the wheel ...'
	@rm -rf dist
	@VIRTUAL_ENV=$(CURDIR)/$(venv) $(bin)/maturin build -q --release --locked -o dist
	@touch $@

.make/release: $(rust_sources) pyproject.toml .make/venv
	@echo 'Building Tricorn (the first time takes a minute or two) ...'
	@VIRTUAL_ENV=$(CURDIR)/$(venv) $(bin)/maturin develop -q --release --locked
	@touch $@

# The rivals live apart, each on its own terms: one that does not install is left out, and the benchmark says so.
.make/rivals$(bench_suffix): bench/rivals.txt .make/venv
	@echo 'Installing the rivals ...'
	@$(or $(BENCH_PYTHON),$(PYTHON)) -m venv --clear bench/$(bench_venv)
	@grep -v '^#' bench/rivals.txt | while read -r rival; do \
	  bench/$(bench_venv)/bin/pip install -q --disable-pip-version-check "$$rival" || echo "$$rival did not install" >&2; done
	@echo '$(CURDIR)/python' > "$$(echo bench/$(bench_venv)/lib/python3.*/site-packages)/tricorn.pth"
	@touch $@

ifneq ($(BENCH_PYTHON),)
# The extension for that Python lies beside the one of $(venv), under a name of its own. It is built in a folder of
# its own as well: in the same one, each of the two would make the other build again.
.make/release$(bench_suffix): $(rust_sources) pyproject.toml .make/release .make/rivals$(bench_suffix)
	@echo 'Building Tricorn for $(BENCH_PYTHON) ...'
	@PYO3_PYTHON=$(CURDIR)/bench/$(bench_venv)/bin/python CARGO_TARGET_DIR=$(CURDIR)/target/bench$(bench_suffix) \
	  VIRTUAL_ENV=$(CURDIR)/bench/$(bench_venv) $(bin)/maturin develop -q --release --locked
	@touch $@
endif

# ---- serve
.PHONY: serve
serve: needs .make/release
ifeq ($(APP),)
	@cd examples/hello && exec $(bin)/tricorn $(ARGS) app:app
else
	@exec $(bin)/tricorn $(ARGS) '$(APP)'
endif

.PHONY: serve-zope
serve-zope: needs .make/zope-finds-us
	@exec .venv-zope/bin/python tests/zope/playground.py --port $(PORT)

.PHONY: serve-plone
serve-plone: needs .make/plone-finds-us
	@exec .venv-plone/bin/python tests/zope/playground.py --port $(PORT) --plone

# ---- measure
.PHONY: bench
bench: needs .make/release$(bench_suffix) .make/rivals$(bench_suffix)
	@cargo build -q --release --locked -p tricorn-engine --example floor
	@$(bin)/python -m bench --scenarios '$(SCENARIOS)' --servers '$(SERVERS)' --rounds $(ROUNDS)

.PHONY: bench-report
bench-report: .make/venv
	@$(bin)/python -m bench --report

.PHONY: bench-micro
bench-micro: needs .make/release$(bench_suffix) .make/rivals$(bench_suffix)
	@cargo bench -q --locked -p tricorn-proto -p tricorn-engine
	@cargo build -q --release --locked -p tricorn-engine --example floor
	@$(bin)/python -m bench.micro

# ---- test
.PHONY: test
test: lint test-rust test-python
	@cat .make/rust.log .make/python.log | $(bin)/python tests/summary.py

.PHONY: test-rust
test-rust: needs .make/venv
	@mkdir -p .make
	cargo test --locked --workspace 2>&1 | tee .make/rust.log

.PHONY: test-python
test-python: needs .make/release .make/test-tools .make/gunicorn25 .make/zope-finds-us
	@mkdir -p .make
	$(pytest) 2>&1 | tee .make/python.log

.PHONY: test-conformance
test-conformance: needs .make/release .make/test-tools .make/gunicorn25
	$(pytest) --long tests/conformance

.PHONY: test-compat
test-compat: needs .make/release .make/test-tools
	$(pytest) tests/apps

.PHONY: test-zope
test-zope: needs .make/release .make/test-tools .make/zope-finds-us .make/wheel
	$(pytest) tests/zope
	$(bin)/python -m pytest tests/zope/test_buildout.py --long $(PYTEST_ARGS) -n 0

.PHONY: test-load
test-load: needs .make/release .make/test-tools
	$(bin)/python tests/load/reload_under_load.py
	$(bin)/python tests/load/slow_clients.py

# ---- tidy
.PHONY: lint
lint: needs-lint .make/test-tools
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	$(bin)/ruff check .
	$(bin)/ruff format --check .

.PHONY: fmt
fmt: needs-lint .make/test-tools
	cargo fmt --all
	$(bin)/ruff check --fix .
	$(bin)/ruff format .
