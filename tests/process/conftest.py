"""Fixtures of the tests about processes."""

from __future__ import annotations

import pytest
from harness.paste import Paste


@pytest.fixture
def paste(server, tmp_path) -> Paste:
    """Starts the server through a runner of PasteDeploy; see `harness.paste`."""
    return Paste(server, tmp_path)
