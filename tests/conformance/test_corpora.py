"""HTTP/1 corpora collected by others, when they lie beside the checkout: `../shared/corpora`.

The runner starts the server itself and judges each case. A case below level `pass` fails unless it is listed
in ON_PURPOSE with a reason.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

CORPORA = Path(__file__).resolve().parents[3] / "shared" / "corpora"
LATER = {"proxy-protocol", "uwsgi"}
# Seconds for an answer. The runner waits for the port of a server and not for its workers, which can need
# more than its own second to start while other tests use both cores.
PATIENCE = 3

# Case -> why Tricorn's own choice is kept. All but the first are Gunicorn's choices as well.
ON_PURPOSE = {
    "gunicorn-valid-099": "a body cut short by the client is not given to the application as if whole",
    "aiohttp-parse-uri-utf8": "raw bytes beyond ASCII are not part of a target (RFC 3986)",
    "aiohttp-request-te-last-chunked": "an unknown transfer coding is 501 (RFC 9112 section 6.1)",
    "h11-chunked-07": "blanks after a chunk size are not in the grammar (RFC 9112 section 7.1)",
    "h11-io-33-readers-unusual": "folded fields need permit_obsolete_folding",
    "h11-io-44-allow-some-garbage-in-cookies": "control bytes are refused in every field (RFC 9110, 5.5)",
    "h11-io-45-allow-some-garbage-in-cookies": "control bytes are refused in every field (RFC 9110, 5.5)",
    "h11-conn-17-empty-request": "an empty line before a request is skipped (RFC 9112 section 2.2)",
}


def judge(arguments, application, tmp_path):
    """Runs every case. Returns the document of the runner."""
    if not (CORPORA / "runner.py").exists():
        pytest.skip(f"no corpora at {CORPORA}")
    files = [str(path) for path in sorted(CORPORA.glob("http1/*.json")) if path.stem not in LATER]
    command = f"{sys.executable} -m tricorn {arguments} -w 2"
    command += f" -b 127.0.0.1:{{port}} {{flags}} {application}"
    results = tmp_path / "results.json"
    options = ["--start", command, "--json", str(results), "--patience", str(PATIENCE)]
    done = subprocess.run(
        [sys.executable, str(CORPORA / "runner.py"), *options, *files],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    print(done.stdout)
    assert results.exists(), done.stderr
    return json.loads(results.read_text())


def assert_passed(document, on_purpose):
    assert document["crashes"] == []
    ran = {case: result for case, result in document["results"].items() if "level" in result}
    assert len(ran) > 400, "the runner ran almost nothing"
    below = {
        case: {mode["why"] for mode in result["modes"].values()}
        for case, result in ran.items()
        if result["level"] < 2
    }
    assert {case: why for case, why in below.items() if case not in on_purpose} == {}
    assert on_purpose.keys() - below.keys() == set(), "passes now: take it off the list"
    not_run = {case: result["skip"] for case, result in document["results"].items() if "skip" in result}
    # The PROXY protocol comes later: its setting is refused, so the server does not start with it.
    unexpected = {
        case: why for case, why in not_run.items() if why != "interface" and "proxy_protocol" not in why
    }
    assert unexpected == {}


@pytest.mark.servers("tricorn")
@pytest.mark.timeout(600)
def test_every_case_passes(server, worker, tmp_path):
    threads = " --threads 8" if worker == "gthread" else ""
    assert_passed(judge(f"-k {worker}{threads}", "echo_wsgi:app", tmp_path), ON_PURPOSE)


@pytest.mark.servers("tricorn")
@pytest.mark.timeout(600)
def test_every_case_passes_on_asgi(server, tmp_path):
    """Where a body is cut short, the application hears of it and has no answer to give."""
    on_purpose = {case: why for case, why in ON_PURPOSE.items() if case != "gunicorn-valid-099"}
    assert_passed(judge("-k asgi", "echo_asgi:app", tmp_path), on_purpose)
