"""What an application expects of the loop and of its task, from its very first step on."""

import sys
import time

import pytest
from harness.asgi import literal, wait_for_seen
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
            assert doc == {
                "task": True,
                "registered": True,
                "main thread": True,
                "cancelling": 0,
                "shown": True,
            }


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


def test_a_sleep_takes_its_time_and_hardly_longer(looped):
    begun = time.monotonic()
    assert looped.request("GET", "/sleep?ms=100").body == b"ms=100"
    assert 0.09 < time.monotonic() - begun < 0.8


def test_a_thread_wakes_the_loop_up(looped):
    assert literal(looped.request("GET", "/thread")) < 1.0


# ---- receive and send as awaitables
def test_receive_and_send_may_be_made_tasks_of(looped):
    with looped.connect() as client:
        for _ in range(2):
            assert client.request("POST", "/as_tasks", body=b"zero").body == b"zero one two three"


def test_a_receive_that_timed_out_loses_nothing(looped, mark):
    with looped.connect() as client:
        client.send(request_bytes("POST", f"/receive_timeout?mark={mark}", [("Content-Length", "10")]))
        wait_for_seen(looped, mark, "gave up")
        client.send(b"ten bytes!")
        assert client.read_response().body == b"ten bytes!"


def test_a_receive_that_was_cancelled_before_it_began_loses_nothing(looped):
    with looped.connect() as client:
        for body in (b"the body", None, b"x" * 100_000):
            response = client.request("POST", "/receive_dropped", body=body)
            assert response.body == b"True " + (body or b"")


def test_a_receive_that_is_cancelled_when_the_message_comes_loses_nothing(looped, mark):
    """A timeout that ends in the same turn of the loop: the message stays for the next receive()."""
    with looped.connect() as client:
        client.send(request_bytes("POST", f"/receive_race?mark={mark}", [("Content-Length", "10")]))
        wait_for_seen(looped, mark, "waiting")
        client.send(b"ten bytes!")
        assert client.read_response().body == b"ten bytes!"


def test_what_one_request_kept_is_of_no_use_to_another(looped, mark):
    """Neither a byte of an answer nor of a body goes astray."""
    with looped.connect() as client:
        assert client.request("POST", f"/keep?mark={mark}", body=b"first").body == b"kept"
        response = client.request("POST", f"/use_kept?mark={mark}", body=b"second")
        said, body = literal(response)
        assert body == b"second"
        assert said[-1] == "http.disconnect"
        assert client.request("GET", "/pid").status == 200


# ---- what an application may return
@pytest.mark.parametrize("kind", ["coroutine", "future", "awaitable"])
def test_an_application_may_return_any_awaitable(server, kind):
    running = server.shared("asgi_kinds:dispatch", worker="asgi")
    assert running.request("GET", f"/{kind}").body == b"asgi"
