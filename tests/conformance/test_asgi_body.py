"""The request body as receive() gives it, and what keeps it from filling the memory."""

import select
import socket

import pytest
from harness.asgi import literal, open_gate, wait_for_seen
from harness.http import Closed, chunked, request_bytes
from harness.servers import wait_until

CHUNKED = [("Transfer-Encoding", "chunked")]


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_no_body_is_one_empty_message(asgi, method):
    ((kind, keys, length, more),) = literal(asgi.request(method, "/messages"))
    assert (kind, length) == ("http.request", 0)
    assert not more
    assert set(keys) >= {"type"}


def test_a_small_body_is_there_whole(asgi):
    doc = literal(asgi.request("POST", "/messages", body=b"abc"))
    assert [kind for kind, _, _, _ in doc] == ["http.request"] * len(doc)
    assert sum(length for _, _, length, _ in doc) == 3
    assert [bool(more) for _, _, _, more in doc] == [True] * (len(doc) - 1) + [False]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "OPTIONS"])
def test_any_method_may_have_a_body(asgi, method):
    assert asgi.request(method, "/echo", body=b"a body").body == b"a body"


@pytest.mark.parametrize("size", [1, 1000, 65536, 100_000, 5_000_000])
def test_a_body_arrives_as_it_was_sent(asgi, size):
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    with asgi.connect() as client:
        assert client.request("POST", "/echo", body=data).body == data
        assert client.request("GET", "/pid").status == 200


def test_a_large_body_comes_in_messages_of_a_bounded_size(asgi):
    doc = literal(asgi.request("POST", "/digest", body=b"z" * 8_000_000))
    assert doc["total"] == 8_000_000
    assert doc["messages"] > 3 and doc["largest"] < 4_000_000


def test_a_chunked_body_is_decoded(asgi):
    with asgi.connect() as client:
        body = chunked(b"one", b" ", b"t" * 5000, b"four", trailers=[("X-Sum", "1")])
        client.send(request_bytes("POST", "/echo", CHUNKED) + body)
        assert client.read_response().body == b"one " + b"t" * 5000 + b"four"
        client.send(request_bytes("POST", "/messages", CHUNKED) + chunked())
        doc = literal(client.read_response())
        assert sum(length for _, _, length, _ in doc) == 0 and not doc[-1][3]
        assert client.request("GET", "/pid").status == 200


def test_a_chunked_body_may_come_byte_by_byte(asgi):
    with asgi.connect() as client:
        client.send_pieces(request_bytes("POST", "/echo", CHUNKED) + chunked(b"one", b"two", b"three"))
        assert client.read_response().body == b"onetwothree"


def test_a_piece_is_received_before_the_next_is_sent(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("POST", "/upper", [("Content-Length", "9")]))
        client.send(b"one")
        assert client.read_head().status == 200
        assert client.read_line() == b"3"
        assert client.read_exactly(5) == b"ONE\r\n"
        client.send(b"two")
        assert client.read_line() == b"3"
        assert client.read_exactly(5) == b"TWO\r\n"
        client.send(b"end")
        assert client.read_line() == b"3"
        assert client.read_exactly(5) == b"END\r\n"
        assert client.read_line() == b"0"
        assert client.read_line() == b""
        assert client.request("GET", "/pid").status == 200


def test_a_chunk_is_received_before_the_next_is_sent(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("POST", "/upper", CHUNKED) + b"3\r\none\r\n")
        assert client.read_head().status == 200
        assert client.read_line() == b"3"
        assert client.read_exactly(5) == b"ONE\r\n"
        client.send(b"3\r\nt")
        client.send(b"wo\r\n0\r\n\r\n")
        block = b""
        while line := client.read_line():
            block += client.read_exactly(int(line, 16) + 2)[:-2] if line != b"0" else b""
        assert block == b"TWO"


def test_the_body_may_be_read_when_the_answer_has_begun(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("POST", "/late", [("Content-Length", "5")]))
        assert client.read_head().status == 200
        assert client.read_line() == b"6"
        assert client.read_exactly(8) == b"begun \r\n"
        client.send(b"later")
        assert client.read_line() == b"5"
        assert client.read_exactly(7) == b"later\r\n"
        assert client.read_line() == b"0"


def test_100_continue_is_sent_when_the_application_asks_for_the_body(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("POST", "/echo", [("Content-Length", "5"), ("Expect", "100-continue")]))
        assert client.read_head().status == 100
        client.send(b"hello")
        assert client.read_response().body == b"hello"
        assert client.request("GET", "/pid").status == 200


def test_100_continue_is_not_sent_when_the_application_does_not_ask(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("POST", "/ignore", [("Content-Length", "5"), ("Expect", "100-continue")]))
        response = client.read_response()
        assert (response.status, response.interim, response.body) == (200, [], b"ignored")


def test_100_continue_is_not_sent_to_http_1_0(asgi):
    with asgi.connect() as client:
        client.send(
            request_bytes(
                "POST", "/echo", [("Content-Length", "5"), ("Expect", "100-continue")], version="HTTP/1.0"
            )
            + b"hello"
        )
        response = client.read_response()
        assert (response.interim, response.body) == ([], b"hello")


def test_no_100_continue_once_the_answer_has_begun(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("POST", "/late", [("Content-Length", "5"), ("Expect", "100-continue")]))
        response = client.read_head()
        assert response.status == 200
        client.send(b"hello")
        client.read_body(response)
        assert response.body == b"begun hello"


@pytest.mark.parametrize("size", [10, 30_000])
def test_a_body_that_nobody_reads_is_no_request(asgi, size):
    """The connection goes on behind the body, or ends; what is in the body is never taken for a request."""
    smuggled = request_bytes("GET", "/whole?size=3")
    body = (smuggled * (size // len(smuggled) + 1))[:size]
    with asgi.connect() as client:
        last = request_bytes("GET", "/pid", [("Connection", "close")])
        client.send(request_bytes("POST", "/ignore", body=body) + last)
        assert client.read_response().body == b"ignored"
        try:
            assert client.read_response().body.isdigit()
        except Closed:
            pass
        client.expect_closed()


@pytest.mark.parametrize("kind", ["length", "chunk", "bad chunk"])
def test_a_body_that_is_cut_short_is_no_whole_body(asgi, mark, kind):
    """The application gets a disconnect, never an end of the body that was not there."""
    with asgi.connect() as client:
        if kind == "length":
            client.send(request_bytes("POST", f"/digest?mark={mark}", [("Content-Length", "100")]) + b"half")
        else:
            end = b"" if kind == "chunk" else b"nonsense\r\n"
            client.send(request_bytes("POST", f"/digest?mark={mark}", CHUNKED) + b"4\r\nhalf\r\n" + end)
        if kind != "bad chunk":
            client.half_close()
            client.close()
            assert wait_for_seen(asgi, mark, "http.disconnect") == ["http.disconnect"]
        else:
            assert client.read_response().status == 400


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_that_nobody_receives_waits_in_the_network(asgi, mark, framing):
    """The application holds still: after some buffers have filled up, the client cannot send any more."""
    size = 64 << 20
    block = b"u" * 65536
    before = asgi.memory_kib()
    fields = CHUNKED if framing == "chunked" else [("Content-Length", str(size))]
    with asgi.connect(timeout=30) as client:
        client.send(request_bytes("POST", f"/digest?mark={mark}&gate", fields))
        wait_for_seen(asgi, mark, "begun")
        data = (b"10000\r\n" + block + b"\r\n") if framing == "chunked" else block
        whole = memoryview(data * (size // len(block)) + (b"0\r\n\r\n" if framing == "chunked" else b""))
        sent = _send_until_stuck(client.socket, whole)
        assert sent < 24 << 20, "the server took it all"
        assert asgi.memory_kib() - before < 16 * 1024
        open_gate(asgi, mark)
        client.socket.settimeout(30)
        client.socket.sendall(whole[sent:])
        doc = literal(client.read_response())
    assert doc["total"] == size
    assert asgi.memory_kib() - before < 32 * 1024


@pytest.mark.long
def test_a_gigabyte_for_an_application_that_sleeps_needs_no_memory(asgi, mark):
    size, block = 1 << 30, memoryview(bytes(1 << 24))
    before = asgi.memory_kib()
    with asgi.connect(timeout=60) as client:
        client.send(request_bytes("POST", f"/digest?mark={mark}&gate", [("Content-Length", str(size))]))
        wait_for_seen(asgi, mark, "begun")
        most, sent = 0, _send_until_stuck(client.socket, block)
        most = max(most, asgi.memory_kib() - before)
        open_gate(asgi, mark)
        client.socket.settimeout(60)
        while sent < size:
            part = block[: min(len(block), size - sent)]
            client.socket.sendall(part)
            sent += len(part)
            most = max(most, asgi.memory_kib() - before)
        assert literal(client.read_response())["total"] == size
    assert most < 64 * 1024


def _send_until_stuck(sock, data):
    """Sends until the other side takes nothing for half a second. Returns how many bytes went out."""
    sock.setblocking(False)
    sent = 0
    while sent < len(data):
        _, writable, _ = select.select([], [sock], [], 0.5)
        if not writable:
            break
        sent += sock.send(data[sent : sent + (1 << 20)])
    return sent


def test_forty_uploads_at_once(asgi):
    clients = [asgi.connect() for _ in range(40)]
    try:
        for number, client in enumerate(clients):
            client.send(
                request_bytes("POST", "/echo", [("Content-Length", "20000")]) + b"%2d" % number * 5000
            )
        for number, client in enumerate(clients):
            client.send(b"%2d" % number * 5000)
        for number, client in enumerate(clients):
            assert client.read_response().body == b"%2d" % number * 10000
    finally:
        for client in clients:
            client.close()


def test_a_client_that_shuts_its_side_may_be_answered(asgi):
    """Both are right: to answer, since the request is whole, and to take the end for a disconnect."""
    with asgi.connect() as client:
        client.send(request_bytes("POST", "/echo", body=b"whole"))
        client.socket.shutdown(socket.SHUT_WR)
        data = client.read_to_end()
    assert data == b"" or data.endswith(b"whole")
    wait_until(lambda: asgi.request("GET", "/pid").status == 200, what="another answer")
