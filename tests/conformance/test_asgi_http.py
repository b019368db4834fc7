"""Answers of an ASGI application: how they are framed, when they leave, what becomes of the connection."""

import datetime
import email.utils

import pytest
from harness.asgi import open_gate, seen, wait_for_seen
from harness.http import request_bytes


def test_every_answer_has_one_server_and_one_date(asgi, server):
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    response = asgi.request("GET", "/echo")
    after = datetime.datetime.now(datetime.timezone.utc)
    assert response.get("Server").startswith(server.name)
    date = email.utils.parsedate_to_datetime(response.get("Date"))
    assert before - datetime.timedelta(seconds=1) <= date <= after
    assert response.get("Date").endswith(" GMT")


@pytest.mark.parametrize(
    "name, value", [("Server", "mine"), ("Date", "Tue, 15 Nov 1994 08:12:31 GMT")], ids=["server", "date"]
)
def test_server_and_date_may_be_the_applications(asgi, name, value):
    response = asgi.request("GET", f"/owned?name={name.lower()}")
    assert response.get(name) == value
    assert response.body == b"owned."


def test_a_coding_that_the_application_names_is_applied_once(asgi):
    with asgi.connect() as client:
        response = client.request("GET", "/owned?name=chunked")
        assert (response.framing, response.body) == ("chunked", b"owned.")
        assert client.request("GET", "/pid").status == 200


@pytest.mark.servers("tricorn")
def test_connection_close_of_the_application_is_honoured(asgi):
    """Gunicorn sends the field and keeps the connection."""
    with asgi.connect() as client:
        response = client.request("GET", "/owned?name=close")
        assert (response.get("Connection").lower(), response.body) == ("close", b"owned.")
        client.expect_closed()


@pytest.mark.parametrize("size", [0, 1, 100, 65536, 3_000_000])
def test_a_body_with_a_length_is_sent_as_it_is(asgi, size):
    with asgi.connect() as client:
        response = client.request("GET", f"/whole?size={size}")
        assert (response.framing, response.body) == ("length", b"w" * size)
        assert client.request("GET", "/pid").body.isdigit()


@pytest.mark.parametrize("block", [1, 1000, 65536, 1_000_000])
def test_a_body_with_a_length_may_come_in_blocks(asgi, block):
    size = min(block * 300, 2_000_000)
    with asgi.connect() as client:
        response = client.request("GET", f"/length?size={size}&block={block}")
        assert (response.framing, response.body) == ("length", b"x" * size)
        assert client.request("GET", "/pid").status == 200


def test_a_body_without_a_length_is_chunked(asgi):
    with asgi.connect() as client:
        for _ in range(2):
            response = client.request("GET", "/blocks?count=3&size=4")
            assert (response.framing, response.body) == ("chunked", b"aaaabbbbcccc")


def test_a_body_without_a_length_ends_http_1_0(asgi):
    with asgi.connect() as client:
        response = client.request("GET", "/blocks?count=3&size=4", version="HTTP/1.0")
        assert (response.framing, response.body) == ("close", b"aaaabbbbcccc")


@pytest.mark.servers("tricorn")
def test_a_body_without_a_length_ends_http_1_0_at_once_also_when_it_asks_to_stay(asgi):
    """Gunicorn keeps the connection, and the client waits for the end until the server is tired of it."""
    with asgi.connect(timeout=1) as client:
        fields = [("Connection", "keep-alive")]
        response = client.request("GET", "/blocks?count=3&size=4", fields, version="HTTP/1.0")
        assert (response.framing, response.body) == ("close", b"aaaabbbbcccc")


def test_a_body_with_a_length_is_sent_to_http_1_0(asgi):
    with asgi.connect() as client:
        response = client.request("GET", "/length?size=100000", version="HTTP/1.0")
        assert (response.framing, response.body) == ("length", b"x" * 100000)
        client.expect_closed()


def test_empty_blocks_do_not_end_a_body(asgi):
    with asgi.connect() as client:
        response = client.request("GET", "/ending")
        assert (response.framing, response.body) == ("chunked", b"onetwo")
        assert client.request("GET", "/blocks?count=5&size=0").body == b""
        assert client.request("GET", "/pid").status == 200


def test_two_thousand_small_blocks_arrive_whole(asgi):
    with asgi.connect() as client:
        response = client.request("GET", "/blocks?count=2000&size=7")
        assert response.body == b"".join(bytes([97 + n % 26]) * 7 for n in range(2000))
        assert client.request("GET", "/pid").status == 200


def test_keys_that_may_be_left_out(asgi):
    with asgi.connect() as client:
        response = client.request("GET", "/no_headers")
        assert (response.status, response.body) == (200, b"bare")
        assert client.request("GET", "/pid").status == 200


@pytest.mark.parametrize("kind", ["lists", "tuples", "tuple", "mixed", "str"])
def test_fields_keep_their_order_however_they_are_held(asgi, kind):
    response = asgi.request("GET", f"/heads?kind={kind}")
    own = [(name.lower(), value) for name, value in response.fields if name.lower().startswith("x-")]
    assert own == [("x-first", "1"), ("x-second", "2"), ("x-cased", "3"), ("x-first", "4")]
    assert response.body == b"ok"


@pytest.mark.servers("tricorn")
def test_fields_may_come_from_a_generator(asgi):
    """The specification asks for an iterable. Gunicorn loses what it can iterate over only once."""
    response = asgi.request("GET", "/heads?kind=generator")
    own = [(name.lower(), value) for name, value in response.fields if name.lower().startswith("x-")]
    assert own == [("x-first", "1"), ("x-second", "2"), ("x-cased", "3"), ("x-first", "4")]


def test_cookies_stay_separate(asgi):
    assert asgi.request("GET", "/cookies").get_all("Set-Cookie") == ["a=1", "b=2; Path=/"]


@pytest.mark.parametrize("kind", ["bytearray", "memoryview"])
@pytest.mark.parametrize("size", [5, 1_000_000])
def test_a_body_is_what_it_was_when_it_was_sent(asgi, kind, size):
    assert asgi.request("GET", f"/bodies?kind={kind}&size={size}").body == b"a" * size


@pytest.mark.parametrize("target", ["/echo", "/length?size=100000", "/blocks?count=3", "/whole?size=10"])
def test_head_has_the_fields_of_get_and_no_body(asgi, target):
    with asgi.connect() as client:
        client.send(request_bytes("HEAD", target) + request_bytes("GET", "/pid"))
        response = client.read_response("HEAD")
        assert (response.status, response.body) == (200, b"")
        if target.startswith("/length"):
            assert response.get("Content-Length") == "100000"
        assert client.read_response().body.isdigit()


@pytest.mark.parametrize("code", [204, 304])
@pytest.mark.parametrize("more", ["", "&body=surplus", "&body=surplus&length=7", "&length=7"])
def test_204_and_304_have_no_body_whatever_the_application_says(asgi, code, more):
    with asgi.connect() as client:
        client.send(request_bytes("GET", f"/status?code={code}{more}"))
        response = client.read_response()
        assert (response.status, response.body) == (code, b"")
        assert client.request("GET", "/pid").body.isdigit()


@pytest.mark.parametrize(
    "code, reason",
    [
        (200, "OK"),
        (201, "Created"),
        (301, "Moved Permanently"),
        (404, "Not Found"),
        (422, None),
        (503, "Service Unavailable"),
        (418, None),
        (299, None),
        (599, None),
    ],
)
def test_the_status_is_the_applications(asgi, code, reason):
    response = asgi.request("GET", f"/status?code={code}&body=b")
    assert (response.status, response.body) == (code, b"b")
    if reason is not None:
        assert response.reason == reason


def test_a_block_leaves_before_the_next_one_is_made(asgi, mark):
    """The application waits until the client has said that it got the block before."""
    with asgi.connect() as client:
        client.send(request_bytes("GET", f"/steps?mark={mark}&count=3"))
        assert client.read_head().status == 200
        for number in range(3):
            assert client.read_line() == b"6"
            assert client.read_exactly(8) == b"step %d\r\n" % number
            open_gate(asgi, mark)
        assert client.read_line() == b"0"
        assert client.read_line() == b""


def test_twenty_streams_take_turns(asgi, mark):
    """One loop, twenty answers under way: each gets its block when its gate opens, in any order."""
    clients = [asgi.connect() for _ in range(20)]
    try:
        for number, client in enumerate(clients):
            client.send(request_bytes("GET", f"/steps?mark={mark}-{number}&count=1"))
        for client in clients:
            assert client.read_head().status == 200
            assert client.read_line() == b"6"
            assert client.read_exactly(8) == b"step 0\r\n"
        for number in reversed(range(20)):
            open_gate(asgi, f"{mark}-{number}")
            assert clients[number].read_line() == b"0"
    finally:
        for client in clients:
            client.close()


def test_a_connection_is_kept_for_many_requests(asgi):
    with asgi.connect() as client:
        for number in range(100):
            body = b"%d" % number * (number % 7)
            assert client.request("POST", "/echo", body=body).body == body


def test_http_1_0_is_closed_and_connection_close_closes(asgi):
    for fields, version in [((), "HTTP/1.0"), ([("Connection", "close")], "HTTP/1.1")]:
        with asgi.connect() as client:
            response = client.request("GET", "/echo", fields, version=version)
            assert not response.keeps_alive
            client.expect_closed()


def test_http_1_0_is_kept_alive_when_it_asks(asgi, server):
    with asgi.connect() as client:
        client.request("GET", "/echo", [("Connection", "keep-alive")], version="HTTP/1.0")
        assert client.request("GET", "/pid", version="HTTP/1.0").status == 200
        client.expect_closed()


def test_pipelined_requests_are_answered_in_order(asgi):
    with asgi.connect() as client:
        sizes = [5, 0, 70000, 1, 300]
        requests = [request_bytes("POST", "/echo", body=bytes([65 + n]) * s) for n, s in enumerate(sizes)]
        client.send(requests[0] + request_bytes("GET", "/sleep?ms=50") + b"".join(requests[1:]))
        assert client.read_response().body == b"A" * 5
        assert client.read_response().body == b"ms=50"
        for number, size in list(enumerate(sizes))[1:]:
            assert client.read_response().body == bytes([65 + number]) * size


@pytest.mark.parametrize("size", [16_384, 16_385, 65_536, 65_537, 131_072, 300_000])
def test_a_request_behind_a_large_body_is_not_part_of_it(asgi, size):
    """Whatever is read together with the end of the body."""
    body = bytes(range(256)) * (size // 256) + b"!" * (size % 256)
    with asgi.connect() as client:
        for behind in (b"x", b"y" * 20_000, b"z" * 100_000):
            first = request_bytes("POST", "/echo", body=body)
            second = request_bytes("POST", "/echo", body=behind)
            # The head alone, most of the body, and the rest with the next request.
            client.send(first[: -size + 100])
            client.send(first[-size + 100 : -70])
            client.send(first[-70:] + second + request_bytes("GET", "/pid"))
            assert client.read_response().body == body
            assert client.read_response().body == behind
            assert client.read_response().body.isdigit()


def test_a_slow_answer_is_not_overtaken_on_its_connection(asgi, mark):
    with asgi.connect() as client:
        client.send(request_bytes("GET", f"/held?mark={mark}") + request_bytes("GET", "/pid"))
        wait_for_seen(asgi, mark, "held")
        client.expect_silent(0.1)
        open_gate(asgi, mark)
        assert client.read_response().body == b"released"
        assert client.read_response().body.isdigit()


def test_a_slow_answer_holds_up_nobody_else(asgi, mark):
    with asgi.connect() as slow, asgi.connect() as quick:
        slow.send(request_bytes("GET", f"/held?mark={mark}"))
        wait_for_seen(asgi, mark, "held")
        assert quick.request("GET", "/pid").status == 200
        open_gate(asgi, mark)
        assert slow.read_response().body == b"released"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_background_task_does_not_hold_up_the_next_request(asgi, mark, framing):
    """The answer is complete, the application works on: the connection is free."""
    body = b"some body"
    with asgi.connect(timeout=5) as client:
        if framing == "length":
            client.send(request_bytes("POST", f"/background?mark={mark}", body=body))
        else:
            client.send(
                request_bytes("POST", f"/background?mark={mark}", [("Transfer-Encoding", "chunked")])
                + b"9\r\nsome body\r\n0\r\n\r\n"
            )
        assert client.read_response().body == b"answered"
        for _ in range(3):
            assert client.request("GET", "/pid").status == 200
        assert "done" not in seen(asgi, mark)
        open_gate(asgi, mark)
        wait_for_seen(asgi, mark, "done")
        assert client.request("GET", "/pid").status == 200


def test_a_background_task_outlives_the_connection(asgi, mark):
    with asgi.connect() as client:
        assert client.request("GET", f"/background?mark={mark}").body == b"answered"
    open_gate(asgi, mark)
    wait_for_seen(asgi, mark, "done")


def test_an_application_that_blocks_the_loop_is_served_to_the_end(asgi):
    with asgi.connect() as first, asgi.connect() as second:
        first.send(request_bytes("GET", "/blocking?ms=200"))
        second.send(request_bytes("GET", "/pid"))
        assert first.read_response().body == b"awake"
        assert second.read_response().status == 200
