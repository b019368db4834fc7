"""start_response, write(), the iterable and its close(), and the mistakes applications make with them."""

import json

import pytest
from harness.http import Closed, WireError, request_bytes
from harness.servers import wait_until


@pytest.fixture
def app(server, worker):
    return server.shared("wsgi_app:app", worker=worker)


def events(app):
    return json.loads(app.request("GET", "/events").body)


def closed(app, mark):
    wait_until(lambda: mark in events(app), what=f"close() of {mark}")
    return events(app).count(mark)


# ---- the protocol
@pytest.mark.parametrize("name", ["lazy", "keywords"])
def test_start_response_may_be_called_late_and_by_name(app, name):
    response = app.request("GET", f"/{name}")
    assert (response.status, response.body) == (200, name.encode())


def test_a_second_start_response_without_exc_info_is_refused(app):
    response = app.request("GET", "/twice")
    assert (response.status, response.body) == (200, b"refused")


@pytest.mark.servers("tricorn")
def test_exc_info_replaces_a_head_that_has_not_left(app):
    response = app.request("GET", "/replaced")
    assert (response.status, response.reason, response.body) == (503, "Sorry", b"sorry")
    assert response.get("X-First") is None and response.get("X-Second") == "2"


def test_exc_info_after_the_head_raises_and_cuts(server, worker):
    app = server.start("wsgi_app:app", worker=worker)
    with app.connect() as client:
        client.send(request_bytes("GET", "/too_late"))
        with pytest.raises(Closed):
            client.read_response()
    app.wait_for_line("Error handling request$")
    app.wait_for_line("ValueError: after the head")
    assert not app.log.matches("never")


@pytest.mark.servers("tricorn")
def test_an_empty_block_does_not_send_the_head(app):
    response = app.request("GET", "/empty_first")
    assert (response.status, response.body) == (503, b"sorry")


def test_write_sends_before_what_is_returned(app):
    assert app.request("GET", "/write").body == b"by write, twice, and returned"


def test_write_of_nothing_is_an_answer(app):
    response = app.request("GET", "/write_nothing")
    assert (response.status, response.body) == (200, b"")


def test_early_hints_may_be_sent_often_and_are_checked(app):
    response = app.request("GET", "/hints")
    assert [hint.status for hint in response.interim] == [103, 103]
    links = [hint.get_all("Link") for hint in response.interim]
    assert links == [["</a.css>; rel=preload", "</b.css>; rel=preload"], ["</c.css>; rel=preload"]]
    assert json.loads(response.body) == "refused"


@pytest.mark.parametrize(
    "head, field, value",
    [
        ("no reason", "Content-Type", "text/plain"),
        ("latin-1", "X-Latin", "caf\xe9"),
        ("blanks", "X-Blanks", "kept"),
        ("tuple of lists", "X-Pair", "list"),
        ("iterator", "X-Pair", "iterator"),
    ],
)
def test_odd_but_right_heads_pass(app, head, field, value):
    if (app.name, head) == ("gunicorn", "no reason"):
        pytest.skip("Gunicorn leaves out the blank after the status code (RFC 9112, 4)")
    response = app.request("GET", "/heads?head=" + head.replace(" ", "+"))
    assert (response.status, response.get(field), response.body) == (200, value, b"hello")


@pytest.mark.parametrize(
    "head",
    [
        "status bytes",
        "status int",
        "status short",
        "status joined",
        "status split",
        "status empty",
        "status wide",
        "name bytes",
        "name empty",
        "name colon",
        "name space",
        "name wide",
        "value int",
        "value none",
        "value split",
        "value lf",
        "value nul",
        "value wide",
        "length word",
        "not a pair",
        "not a list",
    ],
)
def test_wrong_heads_become_one_500(app, head):
    with app.connect() as client:
        response = client.request("GET", "/heads?head=" + head.replace(" ", "+"))
        assert (response.status, response.reason) == (500, "Internal Server Error")
        assert response.get("X-Split") is None
        assert b"hello" not in client.read_to_end()


@pytest.mark.servers("tricorn")
def test_objects_that_come_again_mean_what_they_meant(app):
    """A server may know them by then: it must not matter what they came with."""
    type_, length, blanks = ("Content-Type", "text/plain"), ("Content-Length", "5"), ("X-Blanks", "kept")
    cases = [
        ("200", "type,length", 200, [type_, length]),
        ("200", "length,type,blanks", 200, [length, type_, blanks]),
        ("204", "type,length", 204, [type_]),
        ("404", "blanks,length,length", 404, [blanks, length]),
        ("200", "length,other length", 500, None),
        ("200", "type,split", 500, None),
        ("200", "type,wide", 500, None),
        ("200", "type,length,close", 200, [type_, length]),
    ]
    for status, fields, expected_status, expected in cases * 4 + cases[:1] * 100 + cases:
        query = f"status={status}&fields={fields.replace(' ', '+')}"
        response = app.request("GET", f"/same_objects?{query}")
        ours = ("Server", "Date", "Connection")
        own = [field for field in response.fields if field[0] not in ours]
        assert response.status == expected_status, query
        if expected is not None:
            assert own == expected, query
        if "close" in fields:
            assert response.get("Connection") == "close"
        assert response.get("X-Split") is None


def test_a_refused_value_is_not_logged(server, worker):
    app = server.start("wsgi_app:app", worker=worker)
    assert app.request("GET", "/heads?head=value+lf").status == 500
    app.wait_for_line("^[\\w.]*(Error|InvalidResponseHeader)\\b.*X-Value", after=0)
    assert not app.log.matches("secret.X-Split")


# ---- what is returned
@pytest.mark.parametrize("kind", ["list", "blocks", "tuple", "iterator"])
def test_blocks_arrive_whole(app, kind):
    assert app.request("GET", f"/returns?kind={kind}").body == b"abc"


@pytest.mark.parametrize("kind", ["empty+list", "one+empty", "empty+iterator"])
def test_no_blocks_are_an_empty_answer(app, kind):
    response = app.request("GET", f"/returns?kind={kind}")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("kind", ["list", "blocks", "tuple", "empty+list", "empty+iterator"])
def test_blocks_at_hand_get_a_content_length(app, kind):
    response = app.request("GET", f"/returns?kind={kind}")
    assert response.framing == "length"


@pytest.mark.servers("tricorn")
def test_blocks_at_hand_keep_an_http_1_0_connection(app):
    with app.connect() as client:
        for _ in range(2):
            fields = [("Connection", "keep-alive")]
            response = client.request("GET", "/returns?kind=list", fields, version="HTTP/1.0")
            assert (response.framing, response.body) == ("length", b"abc")


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("kind", ["text", "texts", "mixed", "bytearray", "none"])
def test_anything_but_bytes_becomes_a_500(app, kind):
    assert app.request("GET", f"/returns?kind={kind}").status == 500


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("name", ["never", "write_text"])
def test_other_mistakes_become_a_500(app, name):
    assert app.request("GET", f"/{name}").status == 500


def test_the_applications_length_wins(app):
    response = app.request("GET", "/returns?kind=list&length=2")
    assert (response.get("Content-Length"), response.body) == ("2", b"ab")


# ---- close()
def test_close_is_called_once_after_an_answer(app):
    assert app.request("GET", "/closing?mark=ok").body == b"xxx"
    assert closed(app, "ok") == 1


def test_close_is_called_once_after_a_failure(app):
    with app.connect() as client:
        client.send(request_bytes("GET", "/closing?mark=failed&fail=1"))
        with pytest.raises(WireError):
            client.read_response()
    assert closed(app, "failed") == 1


def test_close_is_called_once_when_nothing_was_sent(app):
    assert app.request("GET", "/closing?mark=unsent&fail=1&count=0").status == 500
    assert closed(app, "unsent") == 1


def test_close_is_called_once_after_head(app):
    with app.connect() as client:
        assert client.request("HEAD", "/closing?mark=head").body == b""
    assert closed(app, "head") == 1


def test_close_that_fails_is_logged_and_spoils_nothing(server, worker):
    app = server.start("wsgi_app:app", worker=worker)
    response = app.request("GET", "/closing?mark=bad&fail_close=1")
    assert (response.framing, response.body) == ("chunked", b"xxx")
    app.wait_for_line("Error handling request$")
    app.wait_for_line("RuntimeError: fails in close")
    assert closed(app, "bad") == 1


def test_the_answer_is_complete_before_close_returns(server):
    app = server.start("wsgi_app:app", worker="gthread")
    assert app.request("GET", "/slow_close?mark=slow").body == b"complete"
    assert "slow" not in events(app)
    app.request("GET", "/release")
    assert closed(app, "slow") == 1


@pytest.mark.parametrize("name", ["closing", "closing_generator"])
def test_close_is_called_once_when_the_client_leaves(server, worker, name):
    app = server.start("wsgi_app:app", "--log-level", "debug", worker=worker)
    with app.connect(receive_buffer=4096) as client:
        client.send(request_bytes("GET", f"/{name}?mark=left&count=2000&size=65536"))
        client.read_exactly(1000)
        client.reset()
    assert closed(app, "left") == 1
    app.wait_for_line("Ignoring (EPIPE|connection reset)")
    assert not app.log.matches("Traceback")


# ---- exceptions
@pytest.mark.parametrize("kind", ["exception", "base"])
def test_an_exception_is_answered_and_logged_with_its_request(server, worker, kind):
    if (server.name, kind) == ("gunicorn", "base"):
        pytest.skip("Gunicorn's workers differ in what they make of such an exception")
    app = server.start("wsgi_app:app", worker=worker)
    response = app.request("GET", f"/raises?kind={kind}&x=1")
    assert response.status == 500
    app.wait_for_line(rf"\[ERROR\] Error handling request GET /raises\?kind={kind}&x=1$")
    app.wait_for_line("with a message|no Exception")


def test_a_failure_after_the_head_is_logged_once(server, worker):
    app = server.start("wsgi_app:app", worker=worker)
    with app.connect() as client:
        client.send(request_bytes("GET", "/raises?kind=exception&begun=1"))
        with pytest.raises(Closed):
            client.read_response()
    app.wait_for_line("RuntimeError: with a message")
    assert app.request("GET", "/lazy").body == b"lazy"
    assert len(app.log.matches("Error handling request")) == 1


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("kind", ["os", "pipe"])
def test_an_applications_own_network_error_is_a_500(app, kind):
    assert app.request("GET", f"/raises?kind={kind}").status == 500


@pytest.mark.workers("sync")
@pytest.mark.parametrize("kind", ["exit", "interrupt"])
def test_an_exit_is_answered_before_the_worker_goes(server, worker, kind):
    app = server.start("wsgi_app:app", worker=worker)
    before = app.wait_for_workers(1)
    if server.name == "gunicorn" and kind == "interrupt":
        pytest.skip("Gunicorn answers but stays")
    assert app.request("GET", f"/raises?kind={kind}").status == 500
    wait_until(lambda: app.workers() and app.workers() != before or server.name == "gunicorn")
    assert app.request("GET", "/lazy").body == b"lazy"


# ---- kept beyond the request
@pytest.mark.servers("tricorn")
def test_what_is_kept_of_a_request_touches_no_other(app):
    with app.connect() as client:
        assert client.request("GET", "/keep").body == b"kept"
        for _ in range(2):
            response = client.request("GET", "/use_kept")
            assert response.get("X-Stolen") is None and response.interim == []
            doc = json.loads(response.body)
            assert doc == {
                "start_response": "RuntimeError",
                "write": "RuntimeError",
                "read": "''",
                "hints": "None",
            }
