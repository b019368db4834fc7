"""Stopping, reloading and recycling under load: what was accepted is answered."""

import asyncio
import ctypes
import errno
import os
import select
import signal
import socket
import struct
import sys
import time

import pytest
from harness.crowd import Crowd
from harness.http import Closed, request_bytes
from harness.servers import Held, wait_until

SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
KEPT = request_bytes("GET", "/pid")
ONCE = request_bytes("GET", "/pid", [("Connection", "close")])


def test_term_lets_the_request_in_flight_finish(server, worker, tmp_path):
    running = server.start("web:app", worker=worker)
    with running.connect() as client:
        held = Held(client, tmp_path)
        running.send_signal(signal.SIGTERM)
        client.expect_silent(0.4)
        held.let_go()
        client.expect_closed()
    assert running.wait() == 0


@pytest.mark.servers("tricorn")
def test_a_draining_worker_says_close_and_idle_connections_end(server, worker, tmp_path):
    # Idle connections are kept for longer than the test waits, unless the worker drains.
    running = server.start("web:app", "--keep-alive", "60", worker=worker)
    with running.connect() as idle, running.connect() as busy:
        assert idle.request("GET", "/pid").get("Connection") == "keep-alive"
        held = Held(busy, tmp_path)
        running.send_signal(signal.SIGTERM)
        idle.expect_closed(within=20)
        assert held.let_go().get("Connection") == "close"
        busy.expect_closed()
    assert running.wait() == 0


@pytest.mark.servers("tricorn")
def test_what_waits_in_the_accept_queue_is_answered_before_the_end(server, tmp_path):
    """One sync worker is busy; ten more clients are connected and have asked when TERM comes."""
    running = server.start("web:app", worker="sync")
    with running.connect() as busy:
        held = Held(busy, tmp_path)
        waiting = [running.connect() for _ in range(10)]
        for client in waiting:
            client.send(ONCE)
        running.send_signal(signal.SIGTERM)
        running.wait_for_line("Handling signal: term")
        held.let_go()
        for client in waiting:
            assert client.read_response().body.isdigit()
            client.close()
    assert running.wait() == 0


def test_quit_does_not_wait(server, worker, tmp_path):
    if (server.name, worker) == ("gunicorn", "gthread"):
        pytest.skip("Gunicorn's gthread worker joins its threads before it leaves")
    running = server.start("web:app", "--graceful-timeout", "30", worker=worker)
    with running.connect() as client:
        Held(client, tmp_path)
        running.send_signal(signal.SIGQUIT)
        try:
            assert client.read_response().status == 500
        except Closed:
            pass
    assert running.wait(8) == 0


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("request_", [KEPT, ONCE], ids=["kept", "closed"])
def test_hup_under_load_loses_nothing(server, worker, request_):
    running = server.start("web:app", "-w", "2", worker=worker)
    crowd = Crowd(running.port, 50, request_, seconds=30)

    async def conductor():
        await crowd.hears_another(10)
        for _ in range(3):
            running.send_signal(signal.SIGHUP)
            await crowd.hears_another(10)
        await crowd.hears_more_than(100, 10)
        crowd.stop()

    tally = asyncio.run(crowd.run(conductor))
    assert (tally.failures, tally.refused) == ([], 0)
    assert set(tally.statuses) == {200} and tally.answered > 100
    assert len(tally.bodies) >= 4, "the workers were not replaced"
    running.wait_for_line("Worker exiting")
    assert running.stop() == 0


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("request_", [KEPT, ONCE], ids=["kept", "closed"])
def test_max_requests_under_load_loses_nothing(server, worker, request_):
    running = server.start(
        "web:app", "-w", "2", "--max-requests", "100", "--max-requests-jitter", "20", worker=worker
    )
    crowd = Crowd(running.port, 20, request_, seconds=60)
    tally = asyncio.run(crowd.run(lambda: crowd.stops_after(4, 10)))
    assert (tally.failures, tally.refused) == ([], 0)
    assert set(tally.statuses) == {200}
    assert len(tally.bodies) > 2, "no worker was recycled"
    running.wait_for_line("Autorestarting worker after current request")


def test_max_requests_answers_the_last_request_with_close(server, worker):
    running = server.start("web:app", "--max-requests", "1", worker=worker)
    response = running.request("GET", "/pid")
    assert response.get("Connection") == "close"
    first = int(response.body)
    wait_until(lambda: not os.path.exists(f"/proc/{first}"), what="the end of the recycled worker")
    assert int(running.request("GET", "/pid").body) != first


@pytest.mark.servers("tricorn")
def test_term_under_load_fails_nothing_that_was_accepted(server, worker):
    running = server.start("web:app", "-w", "2", worker=worker)
    crowd = Crowd(running.port, 50, ONCE, seconds=30)

    async def conductor():
        await crowd.hears_another(10)
        running.send_signal(signal.SIGTERM)
        await asyncio.to_thread(running.process.wait, 20)
        crowd.stop()

    tally = asyncio.run(crowd.run(conductor))
    assert tally.failures == []
    assert running.wait() == 0


# struct sock_filter of classic BPF: `ret 0`, which drops every packet to the socket.
DEAF = struct.pack("HBBI", 0x06, 0, 0, 0)


def half_open(port):
    """A client whose SYN has come and who does not hear the answer; and when the server first answered."""
    client = socket.socket()
    program = ctypes.create_string_buffer(DEAF)
    client.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program)))
    client.setblocking(False)
    assert client.connect_ex(("127.0.0.1", port)) == errno.EINPROGRESS
    return client, time.monotonic()


@pytest.mark.servers("tricorn")
@pytest.mark.skipif(sys.platform != "linux", reason="needs the socket filters of Linux")
def test_a_handshake_that_has_begun_when_term_comes_is_served(server, worker):
    """Half a handshake is not in the accept queue yet, and its client will believe that it is connected."""
    running = server.start("web:app", worker=worker)
    assert running.request("GET", "/pid").status == 200, "a worker that boots may leave at once"
    client, begun = half_open(running.port)
    # The kernel repeats its answer to a SYN after a second: TERM comes shortly before.
    time.sleep(max(0.0, begun + 0.7 - time.monotonic()))
    running.send_signal(signal.SIGTERM)
    client.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
    client.settimeout(10)
    wait_until(lambda: select.select([], [client], [], 0)[1], what="the handshake")
    client.sendall(ONCE)
    assert client.recv(65536).startswith(b"HTTP/1.1 200")
    client.close()
    assert running.wait() == 0
