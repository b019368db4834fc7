"""Answers: who owns which field, how bodies are framed, what an application's mistakes lead to."""

import datetime
import email.utils
import json

import pytest
from harness.http import WireError, request_bytes
from harness.servers import Held


def test_every_answer_has_one_server_and_one_date(web, server):
    before = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    response = web.request("GET", "/fields")
    after = datetime.datetime.now(datetime.timezone.utc)
    assert response.get("Server") == server.name
    date = email.utils.parsedate_to_datetime(response.get("Date"))
    assert before - datetime.timedelta(seconds=1) <= date <= after
    assert response.get("Date").endswith(" GMT")
    assert response.get("Keep-Alive") is None
    assert response.get("X-Mine") == "kept"


def test_application_fields_keep_their_order_and_case(web):
    names = [name for name, _ in web.request("GET", "/fields").fields]
    own = [name for name in names if name not in ("Server", "Date", "Connection")]
    assert own == ["Content-Type", "Content-Length", "X-Mine"]


def test_a_body_without_length_is_chunked(lasting):
    with lasting.connect() as client:
        for _ in range(2):
            response = client.request("GET", "/blocks?count=3&size=4")
            assert (response.framing, response.body) == ("chunked", b"aaaabbbbcccc")


def test_a_block_leaves_before_the_next_one_is_made(web):
    with web.connect(timeout=0.6) as client:
        client.send(request_bytes("GET", "/blocks?count=2&size=4&pause=1000"))
        response = client.read_head()
        assert response.status == 200
        assert client.read_line() == b"4"
        assert client.read_exactly(6) == b"aaaa\r\n"
        client.socket.settimeout(5)
        assert client.read_line() == b"4"


@pytest.mark.parametrize(
    "path", ["/sleep?ms=1500", "/blocks?count=2&size=4&pause=1500"], ids=["known", "new"]
)
def test_an_answer_does_not_wait_for_the_slow_call_behind_it(server, path, tmp_path):
    """Both requests are there when the worker comes free; that the second is slow is known, or not."""
    running = server.start("web:app", worker="sync")
    with running.connect() as busy, running.connect(timeout=1) as quick, running.connect() as slow:
        held = Held(busy, tmp_path)
        quick.send(request_bytes("GET", "/pid"))
        slow.send(request_bytes("GET", path))
        held.let_go()
        # Gunicorn's sync worker waits for it.
        busy.close()
        assert quick.read_response().body.isdigit()
        quick.close()
        assert slow.read_response().status == 200


def test_empty_blocks_do_not_end_a_chunked_body(web):
    response = web.request("GET", "/blocks?count=3&size=0")
    assert (response.framing, response.body) == ("chunked", b"")


@pytest.mark.parametrize("target", ["/echo", "/length?size=100000", "/blocks?count=3"])
def test_head_has_the_fields_of_get_and_no_body(lasting, target):
    with lasting.connect() as client:
        client.send(request_bytes("HEAD", target) + request_bytes("GET", "/pid"))
        response = client.read_response("HEAD")
        assert (response.status, response.body) == (200, b"")
        if target.startswith("/length"):
            assert response.get("Content-Length") == "100000"
        assert client.read_response().body.isdigit()


@pytest.mark.parametrize("line", ["204+No+Content", "304+Not+Modified"])
def test_204_and_304_have_no_body_whatever_the_application_says(lasting, line):
    with lasting.connect() as client:
        client.send(request_bytes("GET", f"/status?line={line}&body=surplus&length=7"))
        response = client.read_response()
        assert (response.status, response.body) == (int(line[:3]), b"")
        assert client.request("GET", "/pid").body.isdigit()


def test_an_empty_200_is_delimited(lasting):
    with lasting.connect() as client:
        response = client.request("GET", "/status?line=200+OK")
        assert response.framing in ("chunked", "length") and response.body == b""
        assert client.request("GET", "/pid").status == 200


def test_the_reason_phrase_is_the_applications(web):
    response = web.request("GET", "/status?line=299+Quite+Well")
    assert (response.status, response.reason) == (299, "Quite Well")


def test_early_hints_come_before_the_answer(web):
    response = web.request("GET", "/hints")
    assert [(r.status, r.get("Link")) for r in response.interim] == [(103, "</style.css>; rel=preload")]
    assert response.body == b"final"


def test_early_hints_are_not_sent_to_http_1_0(web):
    response = web.request("GET", "/hints", version="HTTP/1.0")
    assert (response.interim, response.body) == ([], b"final")


def test_an_exception_becomes_one_500(web):
    mark = web.log.mark()
    with web.connect() as client:
        client.send(request_bytes("GET", "/crash"))
        response = client.read_response()
        assert (response.status, response.reason) == (500, "Internal Server Error")
        assert b"on purpose" not in response.body
        client.expect_closed()
    web.wait_for_line("Error handling request GET? ?/crash|Error handling request", after=mark)
    web.wait_for_line("RuntimeError: the application fails on purpose", after=mark)


def test_an_exception_after_the_head_cuts_the_connection(web):
    mark = web.log.mark()
    with web.connect() as client:
        client.send(request_bytes("GET", "/crash_later"))
        with pytest.raises(WireError):
            client.read_response()
        rest = client.buffer
        assert b"HTTP/1.1 500" not in rest and b"0\r\n\r\n" not in rest
    web.wait_for_line("RuntimeError: the application fails after the head", after=mark)


@pytest.mark.parametrize("target", ["/bad_field", "/bad_status"])
def test_a_split_response_never_leaves(web, target):
    with web.connect() as client:
        client.send(request_bytes("GET", target))
        data = client.read_to_end()
    assert data.startswith(b"HTTP/1.1 500 ")
    assert b"Set-Cookie" not in data and b"X-Split" not in data


def test_bytes_past_content_length_are_cut(lasting):
    with lasting.connect() as client:
        client.send(request_bytes("GET", "/too_long"))
        assert client.read_response().body == b"12345"
        if client.is_open():
            assert client.request("GET", "/pid").body.isdigit()
        else:
            client.expect_closed()


@pytest.mark.servers("tricorn")
def test_a_body_shorter_than_its_length_closes_the_connection(web):
    with web.connect() as client:
        client.send(request_bytes("GET", "/too_short") + request_bytes("GET", "/pid"))
        with pytest.raises(WireError, match="closed after 5 of 50"):
            client.read_response()


def test_a_failed_request_leaves_nothing_to_the_next(web):
    for _ in range(3):
        web.request("GET", "/crash")
        assert json.loads(web.request("GET", "/echo?after").body)["QUERY_STRING"] == "after"


def test_a_file_goes_out_whole(web, tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(256)) * 12000)
    response = web.request("GET", f"/file?path={path}")
    assert response.body == path.read_bytes()
    response = web.request("GET", f"/file?path={path}&offset=1000&length=5000")
    assert response.body == path.read_bytes()[1000:6000]
