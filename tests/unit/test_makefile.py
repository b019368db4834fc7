"""`make` on a machine where something is missing: one line that names it, and what to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("bash", "make", "find", "cargo", "cc", "python3", "sh", "env")


def make(folder: Path, *missing: str, target: str = "needs", stubs: dict[str, str] | None = None):
    """Runs make with a PATH that holds links to the tools, without the missing ones."""
    for tool in TOOLS:
        found = sys.executable if tool == "python3" else shutil.which(tool)
        if found is None:
            pytest.skip(f"{tool} is not on this machine")
        if tool not in missing:
            (folder / tool).symlink_to(found)
    for name, script in (stubs or {}).items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(
        ["make", "-s", target],
        cwd=ROOT,
        env={**environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_nothing_is_said_when_nothing_is_missing(tmp_path):
    done = make(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "tool, advice",
    [
        ("cargo", "install the Rust toolchain"),
        ("cc", "install a C compiler"),
        ("python3", "install Python 3.10"),
    ],
)
def test_a_missing_tool_is_named_in_one_line(tmp_path, tool, advice):
    done = make(tmp_path, tool)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if not line.startswith("make: ***")]
    assert len(said) == 1
    assert said[0].startswith(f"{tool} is missing: ")
    assert advice in said[0]


def test_a_python_that_is_too_old_is_named(tmp_path):
    script = '#!/bin/sh\nif [ "$1" = -V ]; then echo Python 3.9.2; else exit 1; fi\n'
    done = make(tmp_path, stubs={"python3": script})
    assert done.returncode != 0
    assert "python3 is Python 3.9.2: Python 3.10 or newer is needed" in done.stderr


def test_lint_names_the_missing_component(tmp_path):
    script = '#!/bin/sh\n[ "$1" != fmt ]\n'
    done = make(tmp_path, target="needs-lint", stubs={"cargo": script})
    assert done.returncode != 0
    assert "cargo fmt is missing: rustup component add rustfmt" in done.stderr
