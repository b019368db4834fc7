"""WebSockets with a client that people use, compression, and what outlasts a conversation."""

import base64
import random
import signal
import time
import zlib

import pytest
from harness.asgi import literal, seen, wait_for_seen
from harness.http import request_bytes
from harness.servers import wait_until
from harness.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    DEFLATE_TAIL,
    PING,
    PONG,
    TEXT,
    WebSocket,
    frame_bytes,
    handshake_fields,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

TRICORN = pytest.mark.servers("tricorn")
KEY = base64.b64encode(b"sixteen bytes ok").decode()
OFFER = "permessage-deflate; client_max_window_bits"
MIB = 1 << 20


def url(running, target):
    return f"ws://127.0.0.1:{running.port}{target}"


# ---- the client of the websockets library
@pytest.mark.parametrize("compression", ["deflate", None])
def test_a_real_client_talks(asgi, compression):
    with connect(url(asgi, "/echo"), compression=compression, proxy=None) as client:
        for data in ["hello", b"bytes", "", "grüße " * 20_000, bytes(300_000)]:
            client.send(data)
            assert client.recv(10) == data
        client.send(["in ", "three ", "fragments"])
        assert client.recv(10) == "in three fragments"
        assert client.ping().wait(5)
    assert client.close_code == 1000


def test_a_real_client_hears_the_code_and_the_reason(asgi):
    with connect(url(asgi, "/close?code=4100&reason=enough"), proxy=None) as client:
        with pytest.raises(ConnectionClosed):
            client.recv(5)
    assert (client.close_code, client.close_reason) == (4100, "enough")


def test_a_real_client_hears_that_it_is_refused(asgi):
    with pytest.raises(InvalidStatus) as told:
        connect(url(asgi, "/reject"), proxy=None)
    assert told.value.response.status_code == 403


def test_a_real_client_gets_its_subprotocol(asgi):
    with connect(url(asgi, "/subprotocol?choose=b"), subprotocols=["a", "b"], proxy=None) as client:
        assert client.subprotocol == "b"
        assert client.recv(5) == "['a', 'b']"


# ---- receive and send as awaitables
def test_a_receive_that_was_given_up_loses_no_message(asgi, mark):
    with WebSocket(asgi, f"/patient?mark={mark}") as socket:
        for number in range(20):
            socket.send(f"{number}")
            assert socket.read_message() == f"{number}"
            if number % 3:
                asgi.request("GET", "/sleep?ms=15")
        socket.connection.send(b"".join(frame_bytes(TEXT, b"%d" % n) for n in range(50)))
        assert [socket.read_message() for _ in range(50)] == [str(n) for n in range(50)]
    wait_for_seen(asgi, mark, "disconnect")


@pytest.mark.parametrize("size", [10, 100_000])
def test_messages_of_many_tasks_do_not_mix(asgi, size):
    with WebSocket(asgi, f"/crowd?count=20&size={size}") as socket:
        messages = {socket.read_message() for _ in range(20)}
        assert messages == {bytes([65 + n]) * size for n in range(20)}
        assert socket.read_close().code == 1000


def test_two_receivers_share_the_messages(asgi):
    with WebSocket(asgi, "/pair") as socket:
        for number in range(10):
            socket.send(f"{number}")
        answers = [socket.read_message() for _ in range(10)]
        assert sorted(int(text.split()[0]) for text in answers) == list(range(10))


# ---- compression (RFC 7692)
def compress(data, bits=15):
    """One message, compressed without context."""
    squeeze = zlib.compressobj(wbits=-bits)
    return (squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


@TRICORN
def test_a_real_client_agrees_on_compression(asgi):
    with connect(url(asgi, "/echo"), proxy=None) as client:
        assert [extension.name for extension in client.protocol.extensions] == ["permessage-deflate"]


@TRICORN
def test_compression_saves_bytes(asgi):
    text = "the same again and again " * 4000
    with WebSocket(asgi, "/echo", extensions=OFFER) as socket:
        socket.send_frame(TEXT, compress(text.encode()), reserved=4)
        frame = socket.read_frame()
        assert frame.compressed and len(frame.payload) < 5000
        assert socket.inflate.decompress(frame.payload + DEFLATE_TAIL).decode() == text


@TRICORN
@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; server_no_context_takeover",
        "permessage-deflate; client_no_context_takeover",
        "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; client_max_window_bits=10",
        'permessage-deflate; client_max_window_bits="12"',
        "x-unknown, permessage-deflate",
        "permessage-deflate; x_unknown=1, permessage-deflate",
    ],
)
def test_an_offer_is_agreed_on_or_left_and_messages_pass(asgi, offer):
    dice = random.Random(offer)
    with WebSocket(asgi, "/echo", extensions=offer) as socket:
        agreed = socket.response.get("Sec-WebSocket-Extensions") or ""
        assert "unknown" not in agreed
        if "server_no_context_takeover" in offer and agreed:
            assert "server_no_context_takeover" in agreed
        for _ in range(10):
            data = bytes(dice.choices(b"abcd", k=dice.randint(0, 20_000)))
            if agreed:
                # Without context and with the smallest window any agreement can ask for.
                socket.send_frame(BINARY, compress(data, 10), reserved=4)
            else:
                socket.send(data)
            assert socket.read_message() == data


@TRICORN
@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; client_max_window_bits=99",
        "permessage-deflate; server_no_context_takeover=1",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; nonsense",
        "x-webkit-deflate-frame",
    ],
)
def test_an_offer_that_makes_no_sense_is_left(asgi, offer):
    """RFC 7692 section 7.1: such an offer is declined, and the conversation goes on without it."""
    with WebSocket(asgi, "/echo", extensions=offer) as socket:
        assert socket.response.get("Sec-WebSocket-Extensions") is None
        socket.send("plain")
        assert socket.read_message() == "plain"


@TRICORN
def test_compressed_fragments_and_plain_messages_mix(asgi):
    with WebSocket(asgi, "/echo", extensions=OFFER) as socket:
        data = compress(b"first second third " * 50)
        socket.send_frame(TEXT, data[:5], final=False, reserved=4)
        socket.send_frame(PING, b"between")
        assert socket.read_frame().opcode == PONG
        socket.send_frame(CONTINUATION, data[5:9], final=False)
        socket.send_frame(CONTINUATION, data[9:])
        assert socket.read_message() == "first second third " * 50
        socket.send("plain")
        assert socket.read_message() == "plain"
        socket.send_frame(TEXT, compress(b""), reserved=4)
        assert socket.read_message() == ""


@TRICORN
def test_clients_are_told_to_begin_anew_with_each_message(asgi):
    """A context that is kept costs 40 KiB for each connection."""
    with WebSocket(asgi, "/echo", extensions="permessage-deflate") as socket:
        assert "client_no_context_takeover" in socket.response.get("Sec-WebSocket-Extensions")
        for _ in range(5):
            squeeze = zlib.compressobj(wbits=-15)
            data = squeeze.compress(b"over and over " * 10) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            socket.send_frame(TEXT, data[:-4], reserved=4)
            assert socket.read_message() == "over and over " * 10


@TRICORN
def test_a_message_that_inflates_over_the_limit_is_1009(asgi):
    """64 MiB of zeros in 64 KiB: nobody's memory pays for that."""
    before = asgi.memory_kib()
    squeeze = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(squeeze.compress(bytes(MIB)) for _ in range(64)) + squeeze.flush(zlib.Z_SYNC_FLUSH)
    with WebSocket(asgi, "/echo", extensions=OFFER) as socket:
        socket.send_frame(BINARY, bomb[:-4], reserved=4)
        assert socket.read_close().code == 1009
        assert asgi.memory_kib() - before < 48 * 1024


@TRICORN
@pytest.mark.parametrize(
    "opcode, data, how, codes",
    [
        (TEXT, b"\x06nonsense", {"reserved": 4}, (1002, 1007)),
        (TEXT, compress(b"\xff\xfe"), {"reserved": 4}, (1007,)),
        (PING, b"x", {"reserved": 4}, (1002,)),
        (CLOSE, b"\x03\xe8", {"reserved": 4}, (1002,)),
        (TEXT, b"x", {"reserved": 6}, (1002,)),
    ],
    ids=["corrupt", "utf-8", "ping", "close", "rsv2"],
)
def test_broken_rules_of_compression(asgi, opcode, data, how, codes):
    with WebSocket(asgi, "/echo", extensions=OFFER) as socket:
        socket.send_frame(opcode, data, **how)
        assert socket.read_close().code in codes
        socket.expect_closed()


@TRICORN
def test_a_compressed_continuation_is_a_broken_rule(asgi):
    with WebSocket(asgi, "/echo", extensions=OFFER) as socket:
        data = compress(b"some text to compress")
        socket.send_frame(TEXT, data[:5], final=False, reserved=4)
        socket.send_frame(CONTINUATION, data[5:], reserved=4)
        assert socket.read_close().code == 1002


# ---- keeping alive
PINGS = "websocket_ping_interval = 1\nwebsocket_ping_timeout = 1\n"


@TRICORN
def test_the_server_pings_and_a_pong_keeps_the_connection(server, mark):
    running = server.shared("asgi_app:app", config=PINGS, worker="asgi")
    with WebSocket(running, f"/echo?mark={mark}") as socket:
        for _ in range(2):
            frame = socket.read_frame()
            assert frame.opcode == PING
            socket.send_frame(PONG, frame.payload)
        socket.send("hello")
        assert socket.read_message() == "hello"
        assert seen(running, mark) == []


@TRICORN
def test_a_client_that_does_not_pong_is_left(server, mark):
    running = server.shared("asgi_app:app", config=PINGS, worker="asgi")
    begun = time.monotonic()
    with WebSocket(running, f"/echo?mark={mark}") as socket:
        assert socket.read_frame().opcode == PING
        assert socket.read_close().code == 1011
        assert 1.5 < time.monotonic() - begun < 5
        socket.expect_closed()
    assert wait_for_seen(running, mark, "disconnect")[0].split()[1] in ("1006", "1011")


# ---- the end of the worker
@TRICORN
def test_a_graceful_stop_closes_with_1012(server, mark):
    running = server.start("asgi_app:app", worker="asgi")
    with WebSocket(running, "/echo") as first, WebSocket(running, "/push?count=1&size=10") as second:
        first.send("hello")
        assert first.read_message() == "hello"
        assert second.read_message() == b"000000pppp"
        begun = time.monotonic()
        running.send_signal(signal.SIGTERM)
        for socket in (first, second):
            assert socket.read_close().code == 1012
            socket.send_close(1012)
            socket.expect_closed()
    assert running.wait() == 0
    assert time.monotonic() - begun < 10


@TRICORN
def test_a_websocket_that_does_not_answer_does_not_hold_up_the_stop_for_ever(server):
    running = server.start("asgi_app:app", "--graceful-timeout", "2", worker="asgi")
    with WebSocket(running, "/echo") as socket:
        running.send_signal(signal.SIGTERM)
        assert socket.read_close().code == 1012
        assert running.wait(15) == 0


def test_a_quick_stop_does_not_wait_for_websockets(server):
    running = server.start("asgi_app:app", worker="asgi")
    with WebSocket(running, "/echo") as socket:
        socket.send("hello")
        assert socket.read_message() == "hello"
        running.send_signal(signal.SIGINT)
        assert running.wait(10) == 0


def test_a_conversation_is_silent_in_the_log(asgi):
    begun = asgi.log.mark()
    with WebSocket(asgi, "/echo") as socket:
        socket.send("hello")
        socket.read_message()
    with WebSocket(asgi, "/echo") as socket:
        socket.leave()
    asgi.request("GET", "/echo", handshake_fields(KEY, version="8"))
    assert literal(asgi.request("GET", "/seen?mark=nothing")) == []
    assert asgi.log.text().splitlines()[begun:] == []


def test_a_conversation_does_not_count_as_idle_for_other_requests(asgi):
    """HTTP and WebSockets side by side, on many connections of one worker."""
    with WebSocket(asgi, "/echo") as socket, asgi.connect() as client:
        for number in range(20):
            socket.send(f"{number}")
            client.send(request_bytes("POST", "/echo", body=b"%d" % number))
            assert socket.read_message() == str(number)
            assert client.read_response().body == b"%d" % number
    wait_until(lambda: asgi.request("GET", "/pid").status == 200, what="an answer")
