"""Zope instances for the tests; see `playground`."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BIN = HERE.parents[1] / ".venv-zope" / "bin"
PAGE = HERE.parents[1] / "docs" / "zope.md"


def _load(name: str):
    """A module of this folder: tests are imported without it on the path."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


playground = _load("playground")


@pytest.fixture(scope="session")
def zope_bin() -> Path:
    """The programs of a virtual environment with Zope."""
    if not BIN.exists():
        pytest.skip("no Zope here: `make test-zope` installs one into .venv-zope")
    return BIN


@pytest.fixture(scope="session")
def furnished(zope_bin, tmp_path_factory):
    """An instance with something in it, which tests copy."""
    made = playground.Instance(tmp_path_factory.mktemp("zope") / "instance", zope_bin)
    made.make()
    made.furnish()
    return made


@pytest.fixture
def instance(furnished, tmp_path):
    """An instance of the test's own."""
    own = playground.Instance(tmp_path / "instance", furnished.bin)
    shutil.copytree(furnished.folder, own.folder)
    own.write_conf()
    return own


@pytest.fixture
def zeo_instance(instance) -> Iterator:
    """The same behind a ZEO server."""
    with instance.zeo() as port:
        instance.write_conf(zeo_port=port)
        yield instance


@pytest.fixture
def relstorage_instance(zope_bin, tmp_path):
    """One whose objects are in SQLite: made anew, since the files of the others are no use there."""
    look = [zope_bin / "python", "-c", "import relstorage.adapters.sqlite"]
    if subprocess.run(look, capture_output=True).returncode != 0:
        pytest.skip("no RelStorage here: it did not install into .venv-zope when `make test-zope` made that")
    made = playground.Instance(tmp_path / "instance", zope_bin)
    made.make()
    made.furnish(relstorage=True)
    return made


@pytest.fixture(scope="session")
def snippet() -> Callable[[str, str], str]:
    """Gives the one block of a section of docs/zope.md that has this language, or begins like this."""

    def find(section: str, what: str) -> str:
        text = PAGE.read_text().split(f"\n## {section}\n")[1].split("\n## ")[0]
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
        (block,) = (block for language, block in blocks if language == what or block.startswith(what))
        return block

    return find
