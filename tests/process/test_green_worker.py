"""The workers of green threads: a call that blocks holds up nobody but its own request."""

import socket
from contextlib import ExitStack

import pytest
from harness.http import request_bytes

REQUESTS = 20
ANSWER = {"socket": b"x", "http": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"}


@pytest.mark.workers("gevent", "eventlet")
@pytest.mark.parametrize("call", ["sleep", "queue", "event", "dns", "socket", "http"])
def test_a_call_that_blocks_holds_up_nobody_else(server, worker, call):
    if (worker, call) == ("eventlet", "dns"):
        pytest.skip("eventlet finds localhost in /etc/hosts, where nothing has to be waited for")
    running = server.start("green:app", worker=worker)
    with ExitStack() as stack:
        peer = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=REQUESTS))
        peer.settimeout(10)
        port = peer.getsockname()[1]
        clients = [stack.enter_context(running.connect()) for _ in range(REQUESTS)]
        for client in clients:
            client.send(request_bytes("GET", f"/{call}?of={REQUESTS}&port={port}"))
        if call in ANSWER:
            # Nobody is answered before all of them have called.
            calls = [stack.enter_context(peer.accept()[0]) for _ in range(REQUESTS)]
            for one in calls:
                one.sendall(ANSWER[call])
                one.shutdown(socket.SHUT_WR)
        assert [client.read_response().body for client in clients] == [b"done"] * REQUESTS


@pytest.mark.parametrize("alias", ["gevent_wsgi", "gevent_pywsgi"])
def test_the_older_names_of_gevent_still_serve(server, alias):
    running = server.start("hello:app", "-k", alias)
    assert running.request().status == 200
    running.wait_for_line(f"Using worker: {alias}")


@pytest.mark.workers("gevent", "eventlet")
def test_worker_connections_bounds_the_requests_in_progress(server, worker):
    running = server.start("green:app", "--worker-connections", "3", worker=worker)
    with ExitStack() as stack:
        peer = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        target = f"/socket?of=5&port={peer.getsockname()[1]}"
        clients = [stack.enter_context(running.connect()) for _ in range(5)]
        for client in clients:
            client.send(request_bytes("GET", target, [("Connection", "close")]))
        peer.settimeout(10)
        calls = [stack.enter_context(peer.accept()[0]) for _ in range(3)]
        peer.settimeout(0.5)
        with pytest.raises(TimeoutError):
            peer.accept()
        peer.settimeout(10)
        for _ in range(2):
            # Each that ends makes room for one.
            calls.pop(0).sendall(ANSWER["socket"])
            calls.append(stack.enter_context(peer.accept()[0]))
        for call in calls:
            call.sendall(ANSWER["socket"])
        assert [client.read_response().body for client in clients] == [b"done"] * 5
