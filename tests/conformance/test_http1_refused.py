"""Requests that must be refused: limits, broken grammar, framing that two readers would read differently.

Every refused request is followed by a second, whole one on the same connection. That one must never be
answered and never reach the application, whatever the first one said about its own length.
"""

import itertools

import pytest
from harness.http import chunked, request_bytes

COUNTER = itertools.count()
HOST = b"Host: x\r\n"


def post(*lines: bytes, body: bytes = b"") -> bytes:
    return b"POST /echo HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def get(*lines: bytes) -> bytes:
    return b"GET /echo HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


TE = b"Transfer-Encoding: chunked"

FRAMING = {
    "length-and-chunked": post(b"Content-Length: 4", TE, body=chunked(b"x")),
    "chunked-and-length": post(TE, b"Content-Length: 5", body=chunked()),
    "two-lengths-that-differ": post(b"Content-Length: 4", b"Content-Length: 5", body=b"12345"),
    "two-lengths-alike": post(b"Content-Length: 4", b"Content-Length: 4", body=b"1234"),
    "length-list": post(b"Content-Length: 4, 4", body=b"1234"),
    "length-plus": post(b"Content-Length: +4", body=b"1234"),
    "length-minus": post(b"Content-Length: -4", body=b"1234"),
    "length-underscore": post(b"Content-Length: 1_0", body=b"1234567890"),
    "length-hex": post(b"Content-Length: 0x4", body=b"1234"),
    "length-empty": post(b"Content-Length:", body=b""),
    "length-blank-inside": post(b"Content-Length: 1 0", body=b"1234567890"),
    "length-not-ascii": post(b"Content-Length: \xb2", body=b"12"),
    "unknown-coding": post(b"Transfer-Encoding: xchunked", body=chunked(b"x")),
    "identity": post(b"Transfer-Encoding: identity", b"Content-Length: 1", body=b"x"),
    "chunked-twice": post(b"Transfer-Encoding: chunked, chunked", body=chunked(b"x")),
    "chunked-on-two-lines": post(TE, TE, body=chunked(b"x")),
    "chunked-not-last": post(b"Transfer-Encoding: chunked, gzip", body=chunked(b"x")),
    "gzip-without-chunked": post(b"Transfer-Encoding: gzip", body=b"x"),
    "chunked-with-vertical-tab": post(b"Transfer-Encoding: \x0bchunked", body=chunked(b"x")),
    "chunked-with-parameter": post(b"Transfer-Encoding: chunked;a=b", body=chunked(b"x")),
    "chunked-with-nbsp": post(b"Transfer-Encoding: \xa0chunked", body=chunked(b"x")),
    "chunked-with-nul": post(b"Transfer-Encoding: chunked\x00", body=chunked(b"x")),
    "chunked-name-with-blank": post(b"Transfer-Encoding : chunked", body=chunked(b"x")),
    "chunked-folded": post(b"Transfer-Encoding:", b" chunked", body=chunked(b"x")),
    "chunked-on-http-1-0": b"POST /echo HTTP/1.0\r\n" + HOST + TE + b"\r\n\r\n" + chunked(b"x"),
    "chunk-size-0x": post(TE, body=b"0x1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-plus": post(TE, body=b"+1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-minus": post(TE, body=b"-1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-underscore": post(TE, body=b"1_0\r\n1234567890123456\r\n0\r\n\r\n"),
    "chunk-size-leading-blank": post(TE, body=b" 1\r\nx\r\n0\r\n\r\n"),
    "chunk-size-empty": post(TE, body=b"\r\nx\r\n0\r\n\r\n"),
    "chunk-size-ended-by-lf": post(TE, body=b"1\nx\r\n0\r\n\r\n"),
    "chunk-data-too-long": post(TE, body=b"1\r\nxy\r\n0\r\n\r\n"),
    "chunk-data-without-crlf": post(TE, body=b"3\r\nabcd0\r\n\r\n"),
    "chunk-extension-with-cr": post(TE, body=b"1;a\rb\r\nx\r\n0\r\n\r\n"),
    "chunk-extension-with-lf": post(TE, body=b"1;a\nb\r\nx\r\n0\r\n\r\n"),
    "trailer-content-length": post(TE, body=chunked(b"x", trailers=[("Content-Length", "5")])),
    "trailer-transfer-encoding": post(TE, body=chunked(b"x", trailers=[("Transfer-Encoding", "chunked")])),
    "trailer-host": post(TE, body=chunked(b"x", trailers=[("Host", "evil")])),
    "trailer-without-colon": post(TE, body=b"1\r\nx\r\n0\r\nnonsense\r\n\r\n"),
}

# Gunicorn counts in Python's unbounded integers and waits for the rest of such a body.
TOO_BIG = {
    "length-over-64-bits": post(b"Content-Length: 99999999999999999999999", body=b"12"),
    "length-over-the-limit": post(b"Content-Length: 9223372036854775808", body=b"12"),
    "chunk-size-over-64-bits": post(TE, body=b"fffffffffffffffff\r\nx\r\n0\r\n\r\n"),
}

GRAMMAR = {
    "bare-lf-line-ends": b"GET /echo HTTP/1.1\nHost: x\n\n",
    "bare-lf-after-a-field": b"GET /echo HTTP/1.1\r\nHost: x\nX-A: b\r\n\r\n",
    "bare-cr-in-a-value": get(b"X-A: a\rb"),
    "nul-in-a-value": get(b"X-A: a\x00b"),
    "escape-in-a-value": get(b"X-A: a\x1bb"),
    "delete-in-a-value": get(b"X-A: a\x7fb"),
    "folded-field": get(b"X-A: a", b" b"),
    "first-field-indented": b"GET /echo HTTP/1.1\r\n Host: x\r\n\r\n",
    "field-without-colon": get(b"X-A"),
    "field-without-name": get(b": value"),
    "blank-before-colon": get(b"X-A : b"),
    "blank-in-a-name": get(b"X A: b"),
    "not-ascii-in-a-name": get(b"X-\xe4: b"),
    "two-hosts": get(b"Host: y"),
    "two-blanks-in-request-line": b"GET  /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "four-parts": b"GET /echo HTTP/1.1 x\r\nHost: x\r\n\r\n",
    "no-version": b"GET /echo\r\nHost: x\r\n\r\n",
    "tab-as-separator": b"GET\t/echo\tHTTP/1.1\r\nHost: x\r\n\r\n",
    "version-2": b"GET /echo HTTP/2.0\r\nHost: x\r\n\r\n",
    "version-lower-case": b"GET /echo http/1.1\r\nHost: x\r\n\r\n",
    "version-with-two-digits": b"GET /echo HTTP/1.10\r\nHost: x\r\n\r\n",
    "method-lower-case": b"get /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "method-with-brackets": b"G[E]T /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "control-byte-in-target": b"GET /ec\x01ho HTTP/1.1\r\nHost: x\r\n\r\n",
    "raw-utf-8-in-target": b"GET /ec\xc3\xbcho HTTP/1.1\r\nHost: x\r\n\r\n",
    "relative-target": b"GET echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk-for-get": b"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
    "two-empty-lines-first": b"\r\n\r\nGET /echo HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls-hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n",
}


def refused(web, data: bytes, statuses: set[int], size: int) -> None:
    """The request is answered once with one of `statuses`, or not at all; nothing that follows is served."""
    mark = f"m{next(COUNTER)}"
    with web.connect() as client:
        try:
            client.send_pieces(data + request_bytes("GET", f"/seen?mark={mark}"), size)
        except ConnectionError:
            pass  # refused before the last byte was out
        try:
            response = client.read_response()
            assert response.status in statuses, (response.status, response.body)
            assert response.get("Connection") == "close"
            client.expect_closed()
        except ConnectionResetError:
            pass
    assert mark.encode() not in web.request("GET", "/seen").body


@pytest.mark.parametrize("size", [100000, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", FRAMING)
def test_ambiguous_framing_is_refused(web, name, size):
    refused(web, FRAMING[name], {400, 501}, size)


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("size", [100000, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", TOO_BIG)
def test_a_size_beyond_reason_is_refused(web, name, size):
    refused(web, TOO_BIG[name], {400, 413}, size)


@pytest.mark.parametrize("size", [100000, 1], ids=["whole", "bytes"])
@pytest.mark.parametrize("name", GRAMMAR)
def test_broken_grammar_is_refused(web, name, size):
    refused(web, GRAMMAR[name], {400, 505}, size)


# ---- limits
def test_a_long_request_line_is_414(web):
    response = web.request("GET", "/echo?" + "a" * 4100)
    assert (response.status, response.reason) == (414, "URI Too Long")


def test_a_request_line_at_the_limit_passes(web):
    target = "/echo?" + "a" * (4094 - len("GET /echo? HTTP/1.1"))
    assert web.request("GET", target).status == 200
    assert web.request("GET", target + "a").status == 414


def test_too_many_fields_are_431(web):
    response = web.request("GET", "/echo", [(f"X-{n}", "v") for n in range(100)])
    assert (response.status, response.reason) == (431, "Request Header Fields Too Large")
    assert web.request("GET", "/echo", [(f"X-{n}", "v") for n in range(99)]).status == 200


def test_a_long_field_is_431(web):
    assert web.request("GET", "/echo", [("X-Long", "v" * 8200)]).status == 431
    assert web.request("GET", "/echo", [("X-Long", "v" * 8100)]).status == 200


@pytest.mark.parametrize(
    "endless",
    [b"G" * 70000, b"GET /" + b"a" * 70000, b"GET / HTTP/1.1\r\nX: " + b"a" * 900000],
    ids=["method", "target", "field"],
)
def test_an_endless_line_is_refused_before_it_ends(web, endless):
    with web.connect() as client:
        try:
            client.send(endless)
        except ConnectionError:
            pass
        try:
            assert client.read_response().status in (400, 414, 431)
        except (ConnectionError, AssertionError) as error:
            assert "reset" in str(error), error


@pytest.mark.parametrize(
    "option, status, request_",
    [
        (("--limit-request-line", "100"), 414, request_bytes("GET", "/" + "a" * 100)),
        (
            ("--limit-request-fields", "3"),
            431,
            request_bytes("GET", "/", [(f"X-{n}", "v") for n in range(3)]),
        ),
        (("--limit-request-field_size", "50"), 431, request_bytes("GET", "/", [("X-Long", "v" * 50)])),
    ],
    ids=["line", "fields", "field-size"],
)
def test_limits_are_settings(server, option, status, request_):
    running = server.shared("web:app", *option)
    with running.connect() as client:
        client.send(request_)
        assert client.read_response().status == status
    assert running.request("GET", "/pid").status == 200


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_over_limit_request_body_is_413(server, worker, framing):
    running = server.shared("web:app", "--limit-request-body", "1000", worker=worker)
    with running.connect() as client:
        assert client.request("POST", "/digest", body=b"x" * 1000).status == 200
    with running.connect() as client:
        if framing == "length":
            client.send(request_bytes("POST", "/digest", [("Content-Length", "1001")]))
        else:
            client.send(request_bytes("POST", "/digest", [("Transfer-Encoding", "chunked")]))
            client.send(b"3e9\r\n" + b"x" * 500)
        response = client.read_response()
        assert (response.status, response.reason) == (413, "Content Too Large")
        client.expect_closed()


# ---- the pages
@pytest.mark.parametrize(
    "data, status, reason",
    [
        (b"nonsense\r\n\r\n", 400, "Bad Request"),
        (request_bytes("GET", "/echo", [("Bad Name", "x")]), 400, "Bad Request"),
        (request_bytes("GET", "/" + "a" * 5000), 414, "URI Too Long"),
        (request_bytes("GET", "/echo", [("X", "v" * 9000)]), 431, "Request Header Fields Too Large"),
    ],
    ids=["request-line", "field", "line-length", "field-length"],
)
def test_a_refusal_is_an_html_page_with_the_reason(web, data, status, reason):
    mark = web.log.mark()
    with web.connect() as client:
        client.send(data)
        response = client.read_response()
        assert (response.status, response.reason) == (status, reason)
        assert response.get("Content-Type", "").startswith("text/html")
        assert response.get("Connection") == "close"
        assert f"<h1><p>{reason}</p></h1>".encode() in response.body
        client.expect_closed()
    web.wait_for_line("Invalid request from ip=127.0.0.1: ", after=mark)


def test_a_refusal_escapes_what_it_quotes(web):
    with web.connect() as client:
        client.send(b"<script> HTTP/1.1\r\n\r\n")
        assert b"<script>" not in client.read_response().body


def test_control_bytes_of_a_bad_request_do_not_reach_the_log(web):
    mark = web.log.mark()
    with web.connect() as client:
        client.send(b"GET /\x1b[2J HTTP/1.1\r\nHost: x\r\n\r\n")
        client.read_response()
    web.wait_for_line("Invalid request from ip=127.0.0.1: ", after=mark)
    assert "\x1b" not in web.log.text()
