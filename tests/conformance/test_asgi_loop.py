"""What an application expects of the loop and of its task, from its very first step on."""

import sys

import pytest
from harness.asgi import literal
from harness.http import request_bytes


@pytest.fixture(params=["auto", "asyncio"])
def looped(request, server):
    """Both kinds of loop; `auto` is uvloop here, since that is installed."""
    arguments = () if request.param == "auto" else ("--asgi-loop", request.param)
    return server.shared("asgi_app:app", *arguments, worker="asgi")


def test_the_first_step_is_in_a_task_on_a_running_loop(looped):
    with looped.connect() as client:
        for _ in range(2):
            doc = literal(client.request("GET", "/current"))
            assert doc.pop("loop") in ("uvloop", "asyncio")
            assert doc == {"task": True, "registered": True, "main thread": True, "cancelling": 0}


def test_context_variables_are_fresh_for_each_request(looped):
    with looped.connect() as client:
        for name in ("a", "b"):
            response = client.request("POST", f"/context?mark={name}", body=b"body")
            assert response.body == b"fresh " + name.encode()
        client.send(request_bytes("GET", "/context?mark=c") + request_bytes("GET", "/context?mark=d"))
        assert client.read_response().body == b"fresh c"
        assert client.read_response().body == b"fresh d"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs asyncio.timeout")
def test_asyncio_timeout_works_in_the_first_step(looped):
    with looped.connect() as client:
        for _ in range(2):
            assert client.request("GET", "/timeout").body == b"timed out"


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs asyncio.TaskGroup")
def test_task_groups_work_in_the_first_step(looped):
    assert literal(looped.request("GET", "/group")) == [0, 2, 4, 6, 8]


def test_anyio_works_in_the_first_step(looped):
    assert literal(looped.request("GET", "/anyio")) == [[0, 1, 2], True, True]


def test_a_subprocess_is_waited_for(looped):
    """Nobody but the loop may reap the worker's children."""
    assert looped.request("GET", "/subprocess").body == b"0 child"


def test_an_application_may_be_a_client_of_its_own_worker(looped):
    pid = looped.request("GET", "/pid").body
    assert looped.request("GET", "/streams").body == pid


def test_a_sleep_takes_its_time_and_no_longer(looped):
    assert looped.request("GET", "/sleep?ms=100").body == b"ms=100"
