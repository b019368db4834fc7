"""Large bodies both ways: flat memory, temporary files, streaming, clients that leave in the middle."""

import json
import time

import pytest
from harness.http import chunked, request_bytes
from harness.servers import wait_until

MIB = 1 << 20


def test_a_large_download_does_not_grow_the_worker(server, worker):
    running = server.start("web:app", worker=worker)
    running.request("GET", "/length?size=1000000")
    before = running.memory_kib()
    with running.connect() as client:
        client.send(request_bytes("GET", f"/length?size={100 * MIB}"))
        response = client.read_head()
        left = int(response.get("Content-Length")) - len(client.buffer)
        while left:
            left -= len(client.socket.recv(min(left, MIB)))
    assert running.memory_kib() - before < 16 * 1024


@pytest.mark.servers("tricorn")
def test_a_stalled_reader_stops_the_application_not_the_server(server):
    running = server.start("web:app", worker="gthread")
    running.request("GET", "/pid")
    before = running.memory_kib()
    with running.connect(receive_buffer=4096) as client:
        client.send(request_bytes("GET", f"/length?size={200 * MIB}"))
        client.read_head()
        for _ in range(20):
            assert running.request("GET", "/pid").status == 200
            time.sleep(0.02)
        assert running.memory_kib() - before < 16 * 1024


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_upload_does_not_grow_the_worker(server, worker, framing):
    running = server.start("web:app", worker=worker)
    running.request("POST", "/digest", body=b"x" * 100000)
    before = running.memory_kib()
    block = b"x" * MIB
    with running.connect(timeout=30) as client:
        if framing == "length":
            client.send(request_bytes("POST", "/digest", [("Content-Length", str(60 * MIB))]))
            for _ in range(60):
                client.send(block)
        else:
            client.send(request_bytes("POST", "/digest", [("Transfer-Encoding", "chunked")]))
            for _ in range(60):
                client.send(chunked(block)[:-5])
            client.send(b"0\r\n\r\n")
        assert client.read_response().body.startswith(b"%d " % (60 * MIB))
    assert running.memory_kib() - before < 16 * 1024


@pytest.mark.servers("tricorn")
def test_the_body_is_complete_before_the_application_is_called(web):
    with web.connect() as client:
        client.send(request_bytes("POST", "/seen?mark=buffered", [("Content-Length", "3")]) + b"ab")
        client.expect_silent(0.3)
        assert b"buffered" not in web.request("GET", "/seen").body
        client.send(b"c")
        assert b"buffered" in client.read_response().body


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("size", [10, 200_000, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_buffered_body_can_be_read_twice(web, size, framing):
    body = bytes(n % 251 for n in range(1000)) * (size // 1000 + 1)
    with web.connect() as client:
        if framing == "length":
            client.send(request_bytes("POST", "/seekable", body=body[:size]))
        else:
            client.send(request_bytes("POST", "/seekable", [("Transfer-Encoding", "chunked")]))
            client.send(chunked(body[:size]))
        assert client.read_response().body == b"same"


@pytest.mark.servers("tricorn")
def test_a_body_beyond_the_memory_limit_waits_in_an_unlinked_file(server, worker):
    running = server.start(
        "web:app", "--request-buffer-memory=10000", "--worker-buffer-memory=0", worker=worker
    )
    small = json.loads(running.request("POST", "/temporary", body=b"x" * 9000).body)
    large = json.loads(running.request("POST", "/temporary", body=b"x" * 90000).body)
    assert sorted(large) == sorted([*small, 90000])
    after = json.loads(running.request("POST", "/temporary", body=b"x").body)
    # Kept for the next one, and empty.
    assert sorted(after) == sorted([*small, 0])


@pytest.mark.servers("tricorn")
def test_what_the_workers_memory_has_room_for_needs_no_file(server, worker):
    running = server.start(
        "web:app", "--request-buffer-memory=10000", "--worker-buffer-memory=100000", worker=worker
    )
    small = json.loads(running.request("POST", "/temporary", body=b"x" * 9000).body)
    assert json.loads(running.request("POST", "/temporary", body=b"x" * 90000).body) == small
    large = json.loads(running.request("POST", "/temporary", body=b"x" * 100001).body)
    assert sorted(large) == sorted([*small, 100001])


@pytest.mark.servers("tricorn")
def test_the_file_of_one_body_shows_nothing_of_it_to_the_next(server, worker):
    running = server.start("web:app", "--worker-buffer-memory=0", worker=worker)
    for byte, size in ((b"a", 2_000_000), (b"b", 300_000), (b"c", 1_000_000)):
        body = byte * size
        seen = json.loads(running.request("POST", "/echo", body=body).body)
        assert seen["body"] == body.decode()


@pytest.mark.servers("tricorn")
@pytest.mark.workers("sync", "gthread", "gevent", "eventlet")
def test_without_request_buffering_the_application_sees_the_first_byte(server, worker):
    running = server.start("web:app", worker=worker, config="request_buffering = False\n")
    with running.connect() as client:
        client.send(request_bytes("POST", "/first_byte", [("Content-Length", "6")]) + b"a")
        response = client.read_head()
        assert response.status == 200
        assert client.read_line() == b"7"
        assert client.read_exactly(9) == b"first:a\r\n"
        client.send(b"bcdef")
        assert client.read_line() == b"b"
        assert client.read_exactly(13) == b" rest:bcdef\r\n"


def test_a_client_that_leaves_in_a_download_is_forgotten(server, worker):
    running = server.start("web:app", worker=worker)
    running.request("GET", "/pid")
    before = running.descriptors()
    for _ in range(10):
        client = running.connect()
        client.send(request_bytes("GET", "/length?size=20000000"))
        client.read_head()
        client.reset()
    assert running.request("GET", "/pid").status == 200
    wait_until(lambda: running.descriptors() <= before, 10, "descriptors of gone clients")
    assert len(running.workers()) == 1
    assert not running.log.matches("Traceback")


def test_a_client_that_leaves_in_an_upload_is_forgotten(server, worker):
    running = server.start("web:app", worker=worker)
    running.request("GET", "/pid")
    before = running.descriptors()
    for _ in range(10):
        client = running.connect()
        client.send(request_bytes("POST", "/digest", [("Content-Length", "1000000")]) + b"x" * 1000)
        client.reset()
    assert running.request("GET", "/pid").status == 200
    wait_until(lambda: running.descriptors() <= before, 10, "descriptors of gone clients")


def test_connections_that_say_nothing_and_go_cost_nothing(server):
    running = server.start("web:app", worker="gthread")
    running.request("GET", "/pid")
    before = running.descriptors()
    for _ in range(500):
        running.connect().reset()
    assert running.request("GET", "/pid").status == 200
    wait_until(lambda: running.descriptors() <= before, 10, "descriptors of gone clients")
