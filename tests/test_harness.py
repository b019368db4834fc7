"""The harness itself: what it promises to the other tests."""

import signal

import pytest
from harness.http import WireError


def test_a_server_starts_answers_and_leaves(server, worker):
    running = server.start("hello:app", worker=worker)
    with running.connect() as connection:
        response = connection.request()
    assert (response.status, response.body, response.framing) == (200, b"hello\n", "length")
    assert len(running.workers()) == 1
    assert running.stop(signal.SIGTERM) == 0
    assert running.processes() == []


def test_a_start_that_fails_shows_its_log_and_exit_code(server):
    running = server.start("no_such_module:app", wait=None)
    assert running.wait() == 3
    assert "no_such_module" in running.log.text()


def test_shared_servers_are_started_once(server):
    first = server.shared("hello:app")
    assert server.shared("hello:app") is first
    assert server.shared("hello:app", "-w", "2") is not first


def test_the_client_refuses_a_malformed_answer():
    import socket

    from harness.http import Connection

    with socket.create_server(("127.0.0.1", 0)) as listener:
        for answer in (
            b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        ):
            with Connection(listener.getsockname()[1]) as client:
                peer, _ = listener.accept()
                with peer:
                    peer.sendall(answer)
                with pytest.raises(WireError):
                    client.read_response()
