"""WebSockets: handshake, messages, control frames and the end of it, frame by frame (RFC 6455, ASGI 3.0)."""

import ast
import base64
import struct

import pytest
from harness.asgi import open_gate, seen, wait_for_seen
from harness.http import Closed, WireError, request_bytes
from harness.servers import wait_until
from harness.websocket import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    WebSocket,
    close_bytes,
    frame_bytes,
    handshake_fields,
)

KEY = base64.b64encode(b"sixteen bytes ok").decode()
TRICORN = pytest.mark.servers("tricorn")


# ---- handshake
def test_the_scope_of_a_websocket(asgi):
    fields = [("X-Two", "1"), ("X-Two", "2"), ("X_Under", "3")]
    with WebSocket(
        asgi, "/scope/gr%C3%BC%C3%9Fe?a=%20b", protocols="chat, superchat", fields=fields
    ) as socket:
        port = socket.connection.socket.getsockname()[1]
        doc = ast.literal_eval(socket.read_message())
    scope = doc["scope"]
    assert scope["type"] == "websocket"
    assert scope["asgi"]["version"] == "3.0"
    assert (scope["http_version"], scope["scheme"]) == ("1.1", "ws")
    assert (scope["path"], scope["raw_path"]) == ("/scope/grüße", b"/scope/gr%C3%BC%C3%9Fe")
    assert (scope["query_string"], scope["root_path"]) == (b"a=%20b", "")
    assert list(scope["server"]) == ["127.0.0.1", asgi.port]
    assert list(scope["client"]) == ["127.0.0.1", port]
    assert list(scope["subprotocols"]) == ["chat", "superchat"]
    assert "method" not in scope
    names = [name for name, _ in scope["headers"]]
    assert names.count(b"x-two") == 2 and b"x_under" not in names and b"sec-websocket-key" in names
    assert doc["state"]["number"] == 1


def test_no_subprotocols_are_an_empty_list(asgi):
    with WebSocket(asgi, "/scope") as socket:
        assert list(ast.literal_eval(socket.read_message())["scope"]["subprotocols"]) == []


@TRICORN
def test_subprotocols_may_come_in_several_fields(asgi):
    """Gunicorn takes the first field only."""
    with WebSocket(
        asgi, "/scope", fields=[("Sec-WebSocket-Protocol", "a, b"), ("Sec-WebSocket-Protocol", "c")]
    ) as s:
        assert list(ast.literal_eval(s.read_message())["scope"]["subprotocols"]) == ["a", "b", "c"]


@TRICORN
def test_the_denial_extension_is_announced(asgi):
    with WebSocket(asgi, "/scope") as socket:
        extensions = ast.literal_eval(socket.read_message())["scope"]["extensions"]
    assert extensions["websocket.http.response"] == {}


def test_a_trusted_proxy_makes_it_wss(asgi):
    with WebSocket(asgi, "/scope", fields=[("X-Forwarded-Proto", "https")]) as socket:
        assert ast.literal_eval(socket.read_message())["scope"]["scheme"] == "wss"


@pytest.mark.parametrize("choose", ["chat", "superchat", None])
def test_the_application_chooses_the_subprotocol_and_adds_fields(asgi, choose):
    target = f"/subprotocol?choose={choose}" if choose else "/subprotocol"
    with WebSocket(asgi, target, protocols="superchat,chat") as socket:
        assert socket.response.get("Sec-WebSocket-Protocol") == choose
        assert socket.response.get("X-Shaken") == "yes"
        assert socket.response.get_all("Set-Cookie") == ["a=1", "b=2"]
        assert socket.response.get("Sec-WebSocket-Extensions") is None
        assert socket.read_message() == "['superchat', 'chat']"
        assert socket.read_close().code == 1000


def test_nothing_is_answered_before_the_application_has_accepted(asgi, mark):
    with asgi.connect() as client:
        client.send(request_bytes("GET", f"/hold?mark={mark}", handshake_fields(KEY)))
        wait_for_seen(asgi, mark, "websocket.connect")
        client.expect_silent(0.1)
        open_gate(asgi, mark)
        assert client.read_response().status == 101


@pytest.mark.parametrize("target, status", [("/reject", 403), ("/leave", 403), ("/crash", 500)])
def test_a_handshake_that_is_not_accepted_is_refused(asgi, target, status, mark):
    with asgi.connect() as client:
        response = client.request("GET", f"{target}?mark={mark}", handshake_fields(KEY))
        assert response.status == status
        assert response.get("Upgrade") is None and response.get("Sec-WebSocket-Accept") is None
        client.expect_closed()
    if target == "/reject":
        assert wait_for_seen(asgi, mark, "websocket.disconnect") == ["asked", "websocket.disconnect"]


def test_a_failing_handshake_is_in_the_log(asgi):
    begun = asgi.log.mark()
    assert asgi.request("GET", "/crash", handshake_fields(KEY)).status == 500
    asgi.wait_for_line("Error in .*ASGI application", after=begun)
    asgi.wait_for_line("RuntimeError: the application fails on purpose", after=begun)


@pytest.mark.parametrize("version", ["12", "8", "0", None, "13, 8"])
def test_another_version_is_told_ours(asgi, version):
    response = asgi.request("GET", "/echo", handshake_fields(KEY, version=version))
    assert (response.status, response.get("Sec-WebSocket-Version")) == (426, "13")


@pytest.mark.parametrize("key", ["", "short", "A" * 22, KEY + "AAAA", "!" * 24, KEY[:-2]])
def test_a_key_that_is_not_sixteen_bytes_is_refused(asgi, key):
    assert asgi.request("GET", "/echo", handshake_fields(key)).status == 400


def test_a_handshake_without_a_key_is_refused(asgi):
    fields = [field for field in handshake_fields(KEY) if "Key" not in field[0]]
    assert asgi.request("GET", "/echo", fields).status == 400


@pytest.mark.parametrize(
    "fields",
    [
        [("Upgrade", "WebSocket"), ("Connection", "keep-alive, Upgrade")],
        [("upgrade", "WEBSOCKET"), ("connection", "UPGRADE")],
        [("Connection", "upgrade,keep-alive"), ("Upgrade", "websocket")],
    ],
)
def test_the_fields_of_the_handshake_in_any_case_and_company(asgi, fields):
    more = [("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13")]
    with asgi.connect() as client:
        client.send(request_bytes("GET", "/echo", fields + more))
        assert client.read_response().status == 101


@pytest.mark.parametrize(
    "method, version, upgrade, connection",
    [
        ("POST", "HTTP/1.1", "websocket", "Upgrade"),
        ("GET", "HTTP/1.1", "h2c", "Upgrade"),
        ("GET", "HTTP/1.1", "websocket", "keep-alive"),
        ("GET", "HTTP/1.1", None, "Upgrade"),
    ],
)
def test_what_is_no_handshake_is_a_request(asgi, method, version, upgrade, connection):
    fields = [("Connection", connection), ("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Version", "13")]
    fields += [("Upgrade", upgrade)] if upgrade else []
    response = asgi.request(method, "/pid", fields, version=version)
    assert response.status == 200 and response.body.isdigit()


def test_http_1_0_is_never_upgraded(asgi):
    fields = [field for field in handshake_fields(KEY)]
    assert asgi.request("GET", "/pid", fields, version="HTTP/1.0").status != 101


def test_a_kept_connection_can_become_a_websocket(asgi):
    with asgi.connect() as client:
        assert client.request("GET", "/pid").status == 200
        client.send(request_bytes("GET", "/echo", handshake_fields(KEY)))
        assert client.read_response().status == 101
        client.send(frame_bytes(TEXT, b"hello"))
        assert client.read_exactly(7) == b"\x81\x05hello"


@TRICORN
@pytest.mark.parametrize("code, length", [(401, ""), (404, "&length=9"), (302, "")])
def test_a_denial_is_the_applications_answer(asgi, code, length):
    response = asgi.request("GET", f"/denial?code={code}{length}", handshake_fields(KEY))
    assert (response.status, response.body, response.get("X-Denied")) == (code, b"not today", "yes")
    assert response.get("Sec-WebSocket-Accept") is None


# ---- messages
@pytest.mark.parametrize("data", ["hello", b"hello", "", b"", "grüße \U0001f984", bytes(range(256))])
def test_a_message_comes_back_as_it_was(asgi, data):
    with WebSocket(asgi, "/echo") as socket:
        for _ in range(3):
            socket.send(data)
            assert socket.read_message() == data
        socket.leave()


@pytest.mark.parametrize("size", [124, 125, 126, 127, 65535, 65536, 65537, 1_000_000])
@pytest.mark.parametrize("kind", [str, bytes])
def test_a_message_of_any_length(asgi, size, kind):
    data = "x" * size if kind is str else bytes(range(251)) * (size // 251) + b"y" * (size % 251)
    with WebSocket(asgi, "/echo") as socket:
        socket.send(data)
        assert socket.read_message() == data


def test_a_message_has_the_keys_of_the_specification(asgi):
    with WebSocket(asgi, "/messages") as socket:
        socket.send("text")
        assert ast.literal_eval(socket.read_message()) == {"type": "websocket.receive", "text": "text"}
        socket.send(b"bytes")
        assert ast.literal_eval(socket.read_message()) == {"type": "websocket.receive", "bytes": b"bytes"}


def test_a_message_may_come_byte_by_byte(asgi):
    with WebSocket(asgi, "/echo") as socket:
        socket.connection.send_pieces(frame_bytes(TEXT, "grüße".encode()) + frame_bytes(BINARY, b"z" * 130))
        assert socket.read_message() == "grüße"
        assert socket.read_message() == b"z" * 130


def test_fragments_become_one_message(asgi):
    with WebSocket(asgi, "/echo") as socket:
        text = "grüße".encode()
        for n, opcode in [(3, TEXT), (1, BINARY)]:
            parts = [text[i : i + n] for i in range(0, len(text), n)]
            for index, part in enumerate(parts):
                last = index == len(parts) - 1
                socket.send_frame(CONTINUATION if index else opcode, part, final=last)
            assert socket.read_message() == (text.decode() if opcode == TEXT else text)
        socket.send_frame(TEXT, b"", final=False)
        socket.send_frame(CONTINUATION, b"", final=False)
        socket.send_frame(CONTINUATION, b"end")
        assert socket.read_message() == "end"


def test_control_frames_come_between_fragments(asgi):
    with WebSocket(asgi, "/echo") as socket:
        socket.send_frame(TEXT, b"one ", final=False)
        socket.send_frame(PING, b"now")
        frame = socket.read_frame()
        assert (frame.opcode, frame.payload) == (PONG, b"now")
        socket.send_frame(PONG, b"unasked")
        socket.send_frame(CONTINUATION, b"two")
        assert socket.read_message() == "one two"


@pytest.mark.parametrize("payload", [b"", b"ping", bytes(range(125))])
def test_a_ping_is_answered_with_its_payload(asgi, payload):
    with WebSocket(asgi, "/echo") as socket:
        socket.send_frame(PING, payload)
        frame = socket.read_frame()
        assert (frame.opcode, frame.payload) == (PONG, payload)
        socket.send("still here")
        assert socket.read_message() == "still here"


def test_a_ping_is_answered_while_the_application_is_busy(asgi, mark):
    with WebSocket(asgi, f"/deaf?mark={mark}") as socket:
        wait_for_seen(asgi, mark, "deaf")
        socket.send_frame(PING, b"there?")
        assert socket.read_frame().payload == b"there?"
        open_gate(asgi, mark)


def test_two_thousand_messages_at_once(asgi):
    with WebSocket(asgi, "/echo") as socket:
        socket.connection.send(b"".join(frame_bytes(TEXT, b"%d" % n) for n in range(2000)))
        for number in range(2000):
            assert socket.read_message() == str(number)
        socket.leave()


def test_messages_from_the_application_alone(asgi):
    with WebSocket(asgi, "/push?count=500&size=1000") as socket:
        for number in range(500):
            assert socket.read_message() == b"%06d" % number + b"p" * 994


def test_an_application_may_send_from_another_task(asgi):
    with WebSocket(asgi, "/both") as socket:
        for number in range(50):
            socket.send(f"{number}")
        assert [socket.read_message() for _ in range(50)] == [str(n) for n in range(50)]
        socket.leave()


def test_fifty_websockets_at_once(asgi):
    sockets = [WebSocket(asgi, "/echo") for _ in range(50)]
    try:
        for number, socket in enumerate(sockets):
            socket.send(f"{number}")
        for number, socket in reversed(list(enumerate(sockets))):
            assert socket.read_message() == str(number)
        assert asgi.request("GET", "/pid").status == 200
    finally:
        for socket in sockets:
            socket.connection.close()


# ---- the end
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 3000, 4999])
def test_a_client_that_closes_is_answered_and_the_application_told(asgi, mark, code):
    with WebSocket(asgi, f"/echo?mark={mark}") as socket:
        socket.send_close(code, b"enough")
        assert socket.read_close().code == code
        socket.expect_closed()
    assert wait_for_seen(asgi, mark, "disconnect")[0].startswith(f"disconnect {code}")


@TRICORN
def test_the_application_is_told_the_reason(asgi, mark):
    with WebSocket(asgi, f"/echo?mark={mark}") as socket:
        socket.send_close(4000, "genüg".encode())
        socket.read_close()
    assert wait_for_seen(asgi, mark, "disconnect") == ["disconnect 4000 genüg"]


def test_a_close_without_a_code_is_1005_for_the_application(asgi, mark):
    with WebSocket(asgi, f"/echo?mark={mark}") as socket:
        socket.send_close()
        assert socket.read_close().code in (None, 1000)
        socket.expect_closed()
    assert wait_for_seen(asgi, mark, "disconnect") == ["disconnect 1005"]


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_just_leaves_is_1006_for_the_application(asgi, mark, how):
    socket = WebSocket(asgi, f"/echo?mark={mark}")
    socket.send("hello")
    assert socket.read_message() == "hello"
    getattr(socket.connection, how)()
    assert wait_for_seen(asgi, mark, "disconnect") == ["disconnect 1006"]


def test_a_client_that_leaves_before_it_is_accepted_is_1006(asgi, mark):
    with asgi.connect() as client:
        client.send(request_bytes("GET", f"/unaccepted?mark={mark}", handshake_fields(KEY)))
        wait_for_seen(asgi, mark, "websocket.connect")
    wait_for_seen(asgi, mark, "websocket.disconnect 1006")


def test_messages_before_the_close_are_received(asgi, mark):
    with WebSocket(asgi, f"/listen?mark={mark}") as socket:
        data = b"".join(frame_bytes(TEXT, b"%d" % n) for n in range(20))
        socket.connection.send(data + close_bytes(1000))
        assert socket.read_close().code == 1000
    assert wait_for_seen(asgi, mark, "disconnect") == [*map(str, range(20)), "disconnect 1000"]


@pytest.mark.parametrize(
    "query, code, reason",
    [("", 1000, ""), ("?code=1001", 1001, ""), ("?code=4321&reason=gen%C3%BCg", 4321, "genüg")],
)
def test_the_application_closes_with_its_code(asgi, query, code, reason):
    with WebSocket(asgi, f"/close{query}") as socket:
        frame = socket.read_close()
        assert (frame.code, frame.reason) == (code, reason)
        socket.send_close(code)
        socket.expect_closed()


def test_the_application_is_told_that_its_own_close_is_the_end(asgi, mark):
    with WebSocket(asgi, f"/close?code=4000&mark={mark}") as socket:
        assert socket.read_close().code == 4000
        socket.send_close(4000)
        socket.expect_closed()
    wait_for_seen(asgi, mark, "websocket.disconnect")
    wait_for_seen(asgi, mark, "OSError")


@TRICORN
def test_a_client_that_does_not_answer_the_close_is_left_in_the_end(asgi):
    """Gunicorn does that too, after five seconds that the tests can do without."""
    with WebSocket(asgi, "/close", timeout=8) as socket:
        assert socket.read_close().code == 1000
        socket.expect_closed()


def test_messages_behind_the_close_of_the_application_are_not_read(asgi):
    with WebSocket(asgi, "/close") as socket:
        assert socket.read_close().code == 1000
        socket.connection.send(frame_bytes(TEXT, b"late") * 100 + close_bytes(1000))
        socket.expect_closed()


@pytest.mark.parametrize("target", ["/crash_later", "/return_later"])
def test_an_application_that_ends_without_a_close_is_1011(asgi, target):
    begun = asgi.log.mark()
    with WebSocket(asgi, target) as socket:
        assert socket.read_message() == "begun"
        assert socket.read_close().code == 1011
        socket.send_close(1011)
        socket.expect_closed()
    if target == "/crash_later":
        asgi.wait_for_line("Error in .*ASGI application", after=begun)
        asgi.wait_for_line("RuntimeError: the application fails in the conversation", after=begun)


@pytest.mark.parametrize("closes", [True, False])
def test_sending_to_a_client_that_left_is_an_os_error(asgi, mark, closes):
    begun = asgi.log.mark()
    with WebSocket(asgi, f"/stubborn?mark={mark}") as socket:
        if closes:
            socket.leave()
    assert wait_for_seen(asgi, mark, "OSError") == ["OSError True"]
    assert "ERROR" not in "\n".join(asgi.log.text().splitlines()[begun:])


# ---- rules that clients break
BROKEN = {
    "unmasked": (frame_bytes(TEXT, b"plain", masked=False), 1002),
    "rsv3": (frame_bytes(TEXT, b"x", reserved=1), 1002),
    "rsv2": (frame_bytes(TEXT, b"x", reserved=2), 1002),
    "rsv1": (frame_bytes(TEXT, b"x", reserved=4), 1002),
    "reserved opcode": (frame_bytes(0x3, b"x"), 1002),
    "reserved control opcode": (frame_bytes(0xB, b""), 1002),
    "fragmented ping": (frame_bytes(PING, b"x", final=False), 1002),
    "long ping": (frame_bytes(PING, b"x" * 126), 1002),
    "continuation of nothing": (frame_bytes(CONTINUATION, b"x"), 1002),
    "message in a message": (frame_bytes(TEXT, b"x", final=False) + frame_bytes(TEXT, b"x"), 1002),
    "length in 2 bytes": (frame_bytes(TEXT, b"x" * 5, length_bytes=2), 1002),
    "length in 8 bytes": (frame_bytes(TEXT, b"x" * 500, length_bytes=8), 1002),
    "length of 64 bits": (b"\x82\xff\x80" + b"\0" * 7 + b"mask", 1002),
    "no utf-8": (frame_bytes(TEXT, b"\xff\xfe"), 1007),
    "surrogate": (frame_bytes(TEXT, b"\xed\xa0\x80"), 1007),
    "cut utf-8": (frame_bytes(TEXT, b"\xf0\x9f"), 1007),
    "utf-8 in fragments": (
        frame_bytes(TEXT, b"\xc3", final=False) + frame_bytes(CONTINUATION, b"x"),
        1007,
    ),
    "close of one byte": (frame_bytes(CLOSE, b"\x03"), 1002),
    "reason without utf-8": (close_bytes(1000, b"\xff"), 1007),
}
BROKEN |= {
    f"code {code}": (close_bytes(code), 1002)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_rule_ends_the_connection_with_its_code(asgi, name):
    data, code = BROKEN[name]
    with WebSocket(asgi, "/echo") as socket:
        socket.connection.send(data)
        assert socket.read_close().code == code
        socket.expect_closed()
    assert asgi.request("GET", "/pid").status == 200


@pytest.mark.parametrize("kind", ["frame", "fragments"])
def test_a_message_over_the_limit_is_1009(server, kind):
    running = server.shared("asgi_app:app", "--websocket-max-message-size", "1000", worker="asgi")
    with WebSocket(running, "/echo") as socket:
        socket.send("x" * 1000)
        assert socket.read_message() == "x" * 1000
        if kind == "frame":
            socket.send("x" * 1001)
        else:
            socket.send_frame(TEXT, b"x" * 600, final=False)
            socket.send_frame(CONTINUATION, b"x" * 600)
        assert socket.read_close().code == 1009
        socket.expect_closed()


def test_a_message_over_the_limit_is_refused_before_it_is_sent(asgi):
    """The limit is 16 MiB. Nobody reserves room for what a client promises."""
    with WebSocket(asgi, "/echo") as socket:
        socket.connection.send(b"\x82\xff" + struct.pack("!Q", 1 << 40) + b"mask")
        assert socket.read_close().code == 1009


# ---- backpressure and lasting
def test_a_client_that_does_not_read_stops_the_application(asgi, mark):
    before = asgi.memory_kib()
    with WebSocket(asgi, f"/push?mark={mark}&count=4000&size=65536", receive_buffer=65536) as socket:
        stuck = wait_until(lambda: _stuck(asgi, mark), 20, "a standstill")
        assert stuck < 500
        assert asgi.memory_kib() - before < 16 * 1024
        for number in range(50):
            assert socket.read_message()[:6] == b"%06d" % number


def _stuck(asgi, mark):
    """How many messages the application has sent, when it sends no more."""
    first = seen(asgi, mark)
    if not first:
        return None
    asgi.request("GET", "/sleep?ms=400")
    return first[0] if seen(asgi, mark) == first else None


def test_a_client_that_nobody_listens_to_cannot_fill_the_memory(asgi, mark):
    before = asgi.memory_kib()
    frame = frame_bytes(BINARY, b"u" * 65536)
    with WebSocket(asgi, f"/deaf?mark={mark}") as socket:
        wait_for_seen(asgi, mark, "deaf")
        socket.connection.socket.settimeout(0.5)
        sent = 0
        whole = memoryview(frame * 800)
        while sent < len(whole):
            try:
                sent += socket.connection.socket.send(whole[sent : sent + 262144])
            except TimeoutError:
                break
        assert sent < 24 << 20, "the server took it all"
        assert asgi.memory_kib() - before < 16 * 1024
        open_gate(asgi, mark)
        socket.connection.socket.settimeout(20)
        count = -(-sent // len(frame))
        socket.connection.send(whole[sent : count * len(frame)])
        socket.send(b"!")
        assert socket.read_message() == str(count * 65536 + 1)


def test_an_idle_websocket_outlives_the_keepalive_time(server):
    running = server.shared("asgi_app:app", "--keep-alive", "1", worker="asgi")
    with WebSocket(running, "/echo") as socket:
        socket.connection.expect_silent(1.6)
        socket.send("still here")
        assert socket.read_message() == "still here"


# ---- misuse by the application
@pytest.mark.parametrize("name", ["twice", "wrong_text"])
def test_a_mistake_ends_the_conversation_with_1011(asgi, mark, name):
    with WebSocket(asgi, f"/misuse?mark={mark}&name={name}") as socket:
        assert socket.read_close().code == 1011
    assert wait_for_seen(asgi, mark, "1 ")


@TRICORN
@pytest.mark.parametrize("name", ["neither", "none", "unknown", "http", "wrong_bytes"])
def test_a_message_that_is_none_ends_the_conversation_with_1011(asgi, mark, name):
    """Gunicorn ignores some of these."""
    with WebSocket(asgi, f"/misuse?mark={mark}&name={name}") as socket:
        assert socket.read_close().code == 1011
    assert wait_for_seen(asgi, mark, "1 ")


@pytest.mark.parametrize("name", ["early", "split", "split_protocol"])
def test_a_mistake_in_the_handshake_is_a_500(asgi, mark, name):
    response = asgi.request("GET", f"/misuse?mark={mark}&name={name}", handshake_fields(KEY))
    assert response.status == 500 and response.get("x-split") is None
    assert wait_for_seen(asgi, mark, "0 ")


def test_a_websocket_that_ends_leaves_nothing_open(asgi):
    before = asgi.descriptors()
    sockets = [WebSocket(asgi, "/echo") for _ in range(20)]
    for number, socket in enumerate(sockets):
        if number % 2:
            socket.leave()
        socket.connection.close()
    wait_until(lambda: asgi.descriptors() <= before + 1, what="the end of the connections")
    with pytest.raises((Closed, WireError, OSError)):
        sockets[0].read_frame()
