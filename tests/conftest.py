"""Options, markers and fixtures of the black-box tests.

`server` runs a test once with Gunicorn (the oracle) and once with Tricorn; `worker` once with each class.
`@pytest.mark.servers("tricorn")` and `@pytest.mark.workers("gthread")` narrow that down.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.servers import Launcher, Running

# It keeps what Gunicorn has given up: https://pypi.org/project/gunicorn/25.3.0/
GUNICORN_25 = Path(__file__).resolve().parent.parent / ".venv-gunicorn25" / "bin" / "python"
# What it is asked: how the worker class behaves, not how strictly that version parses.
ABOUT_WORKERS = {
    "test_http1_bodies",
    "test_http1_drain",
    "test_http1_response",
    "test_wsgi_environ",
    "test_wsgi_file_wrapper",
    "test_wsgi_input",
    "test_wsgi_response",
    "test_arbiter_signals",
    "test_green_worker",
    "test_worker",
}
OTHERWISE_IN_25 = {
    "test_204_and_304_have_no_body_whatever_the_application_says",
    "test_a_refused_value_is_not_logged",
    "test_a_split_response_never_leaves",
    "test_early_hints_may_be_sent_often_and_are_checked",
    "test_head_has_no_body",
    "test_head_has_the_fields_of_get_and_no_body",
    "test_wrong_heads_become_one_500",
}
SERVERS = ("gunicorn", "tricorn")
WORKERS = ("sync", "gthread", "gevent", "eventlet", "tornado")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--servers", default=",".join(SERVERS), help="servers to test, comma separated")
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")
    parser.addoption("--workers", default=",".join(WORKERS), help="worker classes to test, comma separated")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "servers(*names): run with these servers only")
    config.addinivalue_line("markers", "long: takes minutes; left out without --long")
    config.addinivalue_line("markers", "workers(*names): run with these worker classes only")


def _chosen(metafunc: pytest.Metafunc, option: str, marker: str) -> list[str]:
    names = metafunc.config.getoption(option).split(",")
    mark = metafunc.definition.get_closest_marker(marker)
    return [name for name in names if mark is None or name in mark.args]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        metafunc.parametrize("server", _chosen(metafunc, "--servers", "servers"), indirect=True)
    if "worker" in metafunc.fixturenames:
        metafunc.parametrize("worker", _chosen(metafunc, "--workers", "workers"), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the long tests, and lets Gunicorn try again.

    The oracle may lose a race of its own (it has some); a mistake of the test fails every time.

    Tricorn gets no second chance.
    """
    for item in items:
        if item.get_closest_marker("long") and not config.getoption("--long"):
            item.add_marker(pytest.mark.skip(reason="takes minutes: run with --long"))
        call = getattr(item, "callspec", None)
        if call is not None and call.params.get("server") == "gunicorn":
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def shared_servers() -> Iterator[dict[object, Running]]:
    """Servers that several tests use. They end with the session; a leftover process fails the last test."""
    running: dict[object, Running] = {}
    yield running
    for server in running.values():
        server.begin_to_end()
    wrong = [said for server in running.values() if (said := server.end())]
    if wrong:
        raise AssertionError("\n".join(wrong))


@pytest.fixture
def server(request: pytest.FixtureRequest, shared_servers: dict[object, Running]) -> Iterator[Launcher]:
    """A `Launcher` for the server that this run of the test is about."""
    name = request.param
    if not Launcher.installed(name):
        pytest.skip(f"{name} is not installed in this Python: run the tests with `make test-python`")
    if name == "gunicorn" and "tornado" in request.node.callspec.params.values():
        pytest.skip("Gunicorn's tornado worker speaks HTTP as Tornado's own server does")
    launcher = Launcher(name, shared_servers)
    if name == "gunicorn" and "eventlet" in request.node.callspec.params.values():
        if not GUNICORN_25.exists():
            pytest.skip("Gunicorn 25, the last with an eventlet worker, is not there: run `make test-python`")
        if request.node.path.stem not in ABOUT_WORKERS or request.node.originalname in OTHERWISE_IN_25:
            pytest.skip("not asked of Gunicorn 25")
        launcher.python = (str(GUNICORN_25), "-W", "ignore")
    yield launcher
    launcher.end()


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> str:
    """Name of the worker class; give it to `server.start(..., worker=worker)`."""
    return request.param


@pytest.fixture
def mark() -> str:
    """A name of this run's own, for what requests to the ASGI fixtures tell each other."""
    return uuid.uuid4().hex
