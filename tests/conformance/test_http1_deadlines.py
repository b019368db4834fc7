"""Deadlines and slow clients: what a proxy in front used to be needed for. Tricorn only."""

import json
import socket
import time

import pytest
from harness.http import Connection, WireError, chunked, request_bytes
from harness.servers import wait_until

pytestmark = pytest.mark.servers("tricorn")


@pytest.fixture
def hasty(server, worker):
    """Deadlines of one second, and a minimum rate."""
    return server.shared(
        "web:app",
        "--client-header-timeout=1",
        "--client-body-timeout=1",
        "--client-body-min-rate=1000",
        "--send-timeout=1",
        "--keep-alive=30",
        worker=worker,
    )


def closes_between(client: Connection, low: float, high: float, began: float) -> None:
    client.expect_closed(within=high + 5)
    assert low <= time.monotonic() - began <= high


def test_a_head_that_never_ends_is_408(hasty):
    began = time.monotonic()
    with hasty.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        response = client.read_response()
        assert (response.status, response.reason) == (408, "Request Timeout")
        assert response.get("Connection") == "close"
        closes_between(client, 0.8, 4, began)


def test_a_drip_does_not_put_the_header_deadline_off(hasty):
    began = time.monotonic()
    with hasty.connect() as client:
        try:
            client.send_pieces(b"GET / HTTP/1.1\r\nX: " + b"a" * 60, 1, pause=0.1)
        except ConnectionError:
            pass
        assert 0.8 <= time.monotonic() - began
        try:
            assert client.read_response().status == 408
        except WireError as error:
            assert "reset" in str(error)


def test_a_silent_new_connection_is_closed(hasty):
    began = time.monotonic()
    with hasty.connect() as client:
        data = client.read_to_end()
        assert data == b"" or data.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_that_stops_is_408(hasty, framing):
    fields = [("Content-Length", "100")] if framing == "length" else [("Transfer-Encoding", "chunked")]
    with hasty.connect() as client:
        client.send(request_bytes("POST", "/echo", fields) + b"10\r\nabc")
        response = client.read_response()
        assert response.status == 408
        client.expect_closed()


def test_a_body_below_the_minimum_rate_is_408(hasty):
    with hasty.connect() as client:
        client.send(request_bytes("POST", "/digest", [("Content-Length", "100000")]))
        began = time.monotonic()
        try:
            client.send_pieces(b"x" * 100, 10, pause=0.4)
        except ConnectionError:
            pass
        assert time.monotonic() - began < 5.5
        try:
            assert client.read_response().status == 408
        except WireError as error:
            assert "reset" in str(error)


def test_a_steady_body_takes_as_long_as_it_needs(hasty):
    body = chunked(*[b"y" * 1000] * 15)
    with hasty.connect() as client:
        client.send(request_bytes("POST", "/digest", [("Transfer-Encoding", "chunked")]))
        client.send_pieces(body, 600, pause=0.1)
        assert client.read_response().body.startswith(b"15000 ")


def test_a_reader_that_stalls_is_cut(hasty):
    # A worker that answers has opened all it needs.
    assert hasty.request("GET", "/pid").status == 200
    before = hasty.descriptors()
    with hasty.connect(receive_buffer=4096) as client:
        client.send(request_bytes("GET", "/length?size=30000000"))
        time.sleep(3)  # the deadline itself: one second without progress
        assert hasty.request("GET", "/pid").status == 200
        with pytest.raises(WireError):
            client.read_response()
    deadline = time.monotonic() + 5
    while hasty.descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert hasty.descriptors() <= before


def test_a_slow_but_steady_reader_gets_everything(hasty):
    with hasty.connect(receive_buffer=65536) as client:
        client.send(request_bytes("GET", "/length?size=4000000"))
        response = client.read_head()
        got = len(client.buffer)
        client.buffer = b""
        while got < int(response.get("Content-Length")):
            data = client.socket.recv(200000)
            assert data, f"cut after {got} bytes"
            got += len(data)
            time.sleep(0.1)


def test_readers_that_wait_hold_neither_memory_nor_threads(server, worker):
    """Forty answers of 10 MB that nobody reads wait in unlinked files, and other clients are served."""
    running = server.start("web:app", "--response-buffer-memory=65536", worker=worker)
    size = 10_000_000
    pid = int(running.request("GET", "/pid").body)
    before = running.memory_kib(pid)
    readers = [running.connect(receive_buffer=4096) for _ in range(40)]
    for reader in readers:
        reader.send(request_bytes("GET", f"/whole?size={size}"))
        assert reader.read_head().status == 200
    assert running.request("GET", "/pid").status == 200
    # The allocator keeps a good part of what the application has used: what counts is that it is not 400 MB.
    assert running.memory_kib(pid) - before < 200_000
    # The head is out before the rest of its answer is in the file.
    wait_until(
        lambda: len(json.loads(running.request("GET", "/temporary").body)) == len(readers),
        what="a file for each reader",
    )
    last = readers[-1]
    body = last.read_exactly(size)
    third = size // 3
    assert body == b"a" * third + b"b" * third + b"c" * (size - 2 * third)
    assert last.request("GET", "/pid").status == 200
    for reader in readers:
        reader.close()
    wait_until(lambda: json.loads(running.request("GET", "/temporary").body) == [], what="no file left")


def test_the_deadline_starts_anew_with_each_request(hasty):
    with hasty.connect() as client:
        for _ in range(3):
            assert client.request("GET", "/pid").status == 200
            client.expect_silent(0.6)


@pytest.mark.parametrize("target, framing", [("/echo", b""), ("/digest", b"Content-Length: 5000\r\n")])
def test_two_hundred_dripping_clients_do_not_delay_another(server, target, framing):
    """One byte a second each; the median and the worst of the fast client's answers are bounded."""
    running = server.start("web:app", worker="sync")
    method = b"POST" if framing else b"GET"
    head = b"%s %s HTTP/1.1\r\nHost: x\r\n%s" % (method, target.encode(), framing)
    crowd = []
    try:
        for _ in range(200):
            client = socket.create_connection(("127.0.0.1", running.port))
            client.sendall(head + (b"\r\n" if framing else b"X-Slow: "))
            crowd.append(client)
        times = []
        with running.connect() as fast:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                for client in crowd[len(times) % 20 :: 20]:
                    client.sendall(b"a")
                began = time.monotonic()
                assert fast.request("GET", "/pid").status == 200
                times.append(time.monotonic() - began)
                time.sleep(0.05)
        times.sort()
        assert len(times) > 30
        assert times[len(times) // 2] < 0.05 and times[-1] < 1.0, (times[len(times) // 2], times[-1])
    finally:
        for client in crowd:
            client.close()


@pytest.mark.servers("tricorn")
def test_slow_uploads_do_not_keep_newcomers_out(server, worker):
    running = server.start("web:app", "--worker-connections", "1", worker=worker)
    with running.connect() as slow:
        slow.send(request_bytes("POST", "/digest", [("Content-Length", "1000")]) + b"half")
        slow.expect_silent(0.3)
        for _ in range(3):
            assert running.request("GET", "/pid").status == 200
