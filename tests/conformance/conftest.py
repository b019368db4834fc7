"""A shared server per worker class with the `web` application, on default settings."""

import pytest


@pytest.fixture
def web(server, worker):
    """Both servers, both worker classes."""
    return server.shared("web:app", worker=worker)


@pytest.fixture
def lasting(server, worker):
    """The same, where connections are kept: Gunicorn's sync worker closes after every answer."""
    if (server.name, worker) == ("gunicorn", "sync"):
        pytest.skip("Gunicorn's sync worker has no keep-alive")
    return server.shared("web:app", worker=worker)


@pytest.fixture
def asgi(server):
    """The raw ASGI application, on default settings."""
    return server.shared("asgi_app:app", worker="asgi")
