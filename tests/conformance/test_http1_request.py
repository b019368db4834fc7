"""Requests: what the application is told, bodies and their framing, Expect."""

import json

import pytest
from harness.http import chunked, request_bytes


def echo(response):
    assert response.status == 200, response
    return json.loads(response.body)


def test_target_and_query_reach_the_application(web):
    doc = echo(web.request("GET", "/echo/a%20b/%C3%BC?x=%41&y"))
    assert doc["RAW_URI"] == "/echo/a%20b/%C3%BC?x=%41&y"
    assert doc["PATH_INFO"] == "/echo/a b/\xc3\xbc"
    assert doc["QUERY_STRING"] == "x=%41&y"


def test_repeated_fields_are_joined_with_a_comma(web):
    doc = echo(web.request("GET", "/echo", [("X-Many", "1"), ("X-Other", "o"), ("X-Many", "2")]))
    assert doc["HTTP_X_MANY"] == "1,2"


def test_underscore_names_are_dropped(web):
    doc = echo(web.request("GET", "/echo", [("X_Forged", "1"), ("X-Real", "2")]))
    assert "HTTP_X_FORGED" not in doc and doc["HTTP_X_REAL"] == "2"


def test_content_length_and_type_have_their_own_keys(web):
    doc = echo(web.request("POST", "/echo", [("Content-Type", "text/x")], b"12345"))
    assert (doc["CONTENT_LENGTH"], doc["CONTENT_TYPE"], doc["body"]) == ("5", "text/x", "12345")
    assert "HTTP_CONTENT_LENGTH" not in doc


def test_absolute_form_is_accepted(web):
    doc = echo(web.request("GET", "http://example.org/echo/x?y"))
    assert (doc["PATH_INFO"], doc["QUERY_STRING"]) == ("/echo/x", "y")


def test_obs_text_in_a_field_is_latin_1(web):
    with web.connect() as client:
        client.send(b"GET /echo HTTP/1.1\r\nHost: x\r\nX-Text: \xfc\xff\r\n\r\n")
        assert echo(client.read_response())["HTTP_X_TEXT"] == "\xfc\xff"


def test_a_head_cut_at_every_byte_is_the_same_head(web):
    data = request_bytes("POST", "/echo?q", [("X-A", "1"), ("X-B", "2")], b"body")
    with web.connect() as client:
        client.send_pieces(data)
        doc = echo(client.read_response())
    assert (doc["HTTP_X_A"], doc["HTTP_X_B"], doc["body"]) == ("1", "2", "body")


@pytest.mark.parametrize("size", [1, 7, 4096], ids=lambda size: f"pieces-of-{size}")
def test_a_chunked_body_is_decoded(web, size):
    blocks = [b"abc", b"d" * 300, b"\r\n0\r\n\r\n", b"e"]
    data = request_bytes("POST", "/echo", [("Transfer-Encoding", "chunked")]) + chunked(*blocks)
    with web.connect() as client:
        client.send_pieces(data, size)
        assert echo(client.read_response())["body"].encode() == b"".join(blocks)


def test_chunk_extensions_are_skipped(web):
    with web.connect() as client:
        client.send(request_bytes("POST", "/echo", [("Transfer-Encoding", "chunked")]))
        client.send(b'3;a=b;c="d;e"\r\nabc\r\n0;last\r\n\r\n')
        assert echo(client.read_response())["body"] == "abc"


def test_trailers_end_the_body_and_never_reach_environ(lasting):
    with lasting.connect() as client:
        client.send(
            request_bytes("POST", "/echo", [("Transfer-Encoding", "chunked")])
            + chunked(b"abc", trailers=[("X-Trailer", "1"), ("X-Sum", "2")])
        )
        doc = echo(client.read_response())
        assert doc["body"] == "abc"
        assert not [key for key in doc if "TRAILER" in key or "X_SUM" in key]
        assert echo(client.request("GET", "/echo?next"))["QUERY_STRING"] == "next"


def test_a_large_body_arrives_whole(web):
    body = bytes(range(256)) * 20000
    response = web.request("POST", "/digest", body=body)
    assert response.body.startswith(b"5120000 ")


def test_a_large_chunked_body_arrives_whole(web):
    with web.connect() as client:
        client.send(request_bytes("POST", "/digest", [("Transfer-Encoding", "chunked")]))
        client.send(chunked(*[b"x" * 65536] * 40))
        assert client.read_response().body.startswith(b"2621440 ")


# ---- Expect
def test_continue_is_sent_before_the_body_is_there(web):
    with web.connect() as client:
        client.send(request_bytes("POST", "/echo", [("Content-Length", "4"), ("Expect", "100-continue")]))
        assert (client.read_head().status, client.buffer) == (100, b"")
        client.send(b"body")
        assert echo(client.read_response())["body"] == "body"


def test_continue_is_case_insensitive(web):
    with web.connect() as client:
        client.send(request_bytes("POST", "/echo", [("Content-Length", "1"), ("Expect", "100-Continue")]))
        assert client.read_head().status == 100
        client.send(b"x")
        assert client.read_response().status == 200


def test_no_continue_on_http_1_0(web):
    with web.connect() as client:
        client.send(
            request_bytes(
                "POST", "/echo", [("Content-Length", "4"), ("Expect", "100-continue")], version="HTTP/1.0"
            )
            + b"body"
        )
        response = client.read_response()
        assert (response.status, response.interim) == (200, [])


def test_an_unknown_expectation_is_417(web):
    with web.connect() as client:
        client.send(request_bytes("POST", "/echo", [("Content-Length", "4"), ("Expect", "miracles")]))
        response = client.read_response()
        assert (response.status, response.reason) == (417, "Expectation Failed")
        client.expect_closed()
