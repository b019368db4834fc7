"""Applications that break the specification or fail: what the client sees and the log says."""

import re
import sys

import pytest
from harness.asgi import seen, wait_for_seen
from harness.http import Closed, WireError, request_bytes

REFUSED = [
    "body_first",
    "nothing",
    "no_type",
    "not_a_dict",
    "field_split",
    "field_nul",
    "field_name",
    "field_empty",
    "field_int",
    "field_none",
    "field_single",
    "fields_none",
    "crash",
]


def everything(asgi, target):
    """All bytes that the server sends for one request until it closes or has answered a second request."""
    with asgi.connect() as client:
        client.send(request_bytes("GET", target) + request_bytes("GET", "/pid", [("Connection", "close")]))
        return client.read_to_end()


def statuses(data):
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


@pytest.mark.parametrize("name", REFUSED)
def test_what_never_became_an_answer_is_one_500(asgi, name):
    with asgi.connect() as client:
        response = client.request("GET", f"/{name}")
        assert (response.status, response.reason) == (500, "Internal Server Error")
        assert b"on purpose" not in response.body and b"Traceback" not in response.body
    data = everything(asgi, f"/{name}")
    assert statuses(data)[0] == 500 and b"stolen" not in data


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize(
    "name", ["no_status", "str_status", "status_99", "status_1000", "length_odd", "length_twice"]
)
def test_a_head_that_must_not_be_sent_is_a_500(asgi, name):
    """Gunicorn sends it, or closes without a word."""
    assert asgi.request("GET", f"/{name}").status == 500


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("name", ["unknown", "websocket_type"])
def test_a_message_of_an_unknown_type_is_refused(asgi, name, mark):
    """ASGI: the server should raise an exception out of the send awaitable. Gunicorn ignores the message."""
    assert asgi.request("GET", f"/{name}?mark={mark}").status == 500
    assert "sent" not in seen(asgi, mark)


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize(
    "name", ["body_first", "start_twice", "str_body", "none_body", "int_body", "field_int"]
)
def test_a_mistake_is_raised_where_it_is_made(asgi, name, mark):
    """Gunicorn waits for some of them until the application returns."""
    everything(asgi, f"/{name}?mark={mark}")
    wait_for_seen(asgi, mark, "")
    assert "sent" not in seen(asgi, mark)


def test_an_exception_is_in_the_log(asgi):
    mark = asgi.log.mark()
    assert asgi.request("GET", "/crash").status == 500
    asgi.wait_for_line("Error in ASGI application", after=mark)
    asgi.wait_for_line("RuntimeError: the application fails on purpose", after=mark)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="needs groups")
def test_an_exception_group_is_in_the_log(asgi):
    mark = asgi.log.mark()
    assert asgi.request("GET", "/crash_group").status == 500
    asgi.wait_for_line("RuntimeError: the application fails in a group", after=mark)


@pytest.mark.servers("tricorn")
def test_an_application_that_sends_nothing_is_in_the_log(asgi):
    """Gunicorn says nothing about it."""
    mark = asgi.log.mark()
    assert asgi.request("GET", "/nothing").status == 500
    asgi.wait_for_line("ASGI application returned without", after=mark)


@pytest.mark.parametrize("name", ["str_body", "none_body", "crash_started", "start_only"])
def test_a_head_whose_body_never_came_is_a_500_or_nothing(asgi, name):
    """None of it has left yet. Gunicorn closes without a word."""
    data = everything(asgi, f"/{name}")
    assert statuses(data)[:1] in ([], [500])


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("name", ["str_body", "none_body", "int_body", "crash_started", "start_only"])
def test_a_head_whose_body_never_came_is_a_500(asgi, name):
    """ASGI: the head is not sent before the first body message, so there is still time to say so.

    Gunicorn closes without a word, and sends five NUL bytes for the body 5.
    """
    assert asgi.request("GET", f"/{name}").status == 500


@pytest.mark.parametrize("name", ["crash_later", "crash_length", "unfinished"])
def test_an_answer_that_breaks_off_ends_the_connection(asgi, name):
    with asgi.connect() as client:
        client.send(request_bytes("GET", f"/{name}") + request_bytes("GET", "/pid"))
        with pytest.raises(Closed):
            client.read_response()
        assert b"HTTP/1.1" not in client.buffer and b"0\r\n\r\n" not in client.buffer


def test_an_exception_in_the_body_is_in_the_log(asgi):
    mark = asgi.log.mark()
    with pytest.raises(WireError):
        asgi.request("GET", "/crash_later")
    asgi.wait_for_line("Error in ASGI application", after=mark)
    asgi.wait_for_line("RuntimeError: the application fails in the body", after=mark)


def test_an_answer_that_was_never_finished_is_in_the_log(asgi):
    mark = asgi.log.mark()
    with pytest.raises(WireError):
        asgi.request("GET", "/unfinished")
    asgi.wait_for_line("ASGI application returned without completing the response", after=mark)


def test_two_starts_are_never_two_heads(asgi):
    data = everything(asgi, "/start_twice")
    assert statuses(data)[:1] in ([], [200], [500])
    assert b" 201 " not in data and b"x-second" not in data


@pytest.mark.parametrize("name", ["body_twice", "start_after", "crash_after"])
def test_what_comes_behind_a_complete_answer_is_never_seen(asgi, name):
    with asgi.connect() as client:
        assert client.request("GET", f"/{name}").body == b"body"
        # The connection goes on or not: with Gunicorn that depends on who is quicker.
        try:
            assert client.request("GET", "/pid").body.isdigit()
        except (Closed, OSError):
            pass


@pytest.mark.servers("tricorn")
def test_an_exception_behind_a_complete_answer_is_in_the_log(asgi):
    """A failing background task. Gunicorn tells it at debug level only, where nobody looks."""
    mark = asgi.log.mark()
    assert asgi.request("GET", "/crash_after").body == b"body"
    asgi.wait_for_line("RuntimeError: the application fails behind its answer", after=mark)


@pytest.mark.parametrize("name, body", [("too_long", b"body"), ("too_long_parts", b"bodybo")])
def test_bytes_past_content_length_are_cut(asgi, name, body):
    with asgi.connect() as client:
        assert client.request("GET", f"/{name}").body == body
        if client.is_open():
            assert client.request("GET", "/pid").body.isdigit()


def test_a_body_shorter_than_its_length_ends_the_connection(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("GET", "/too_short") + request_bytes("GET", "/pid"))
        with pytest.raises(WireError, match="closed after 4 of 10"):
            client.read_response()


def test_an_informational_answer_in_the_final_one_is_refused(asgi):
    data = everything(asgi, "/late_informational")
    assert b" 103 " not in data


def test_a_split_informational_answer_never_leaves(asgi):
    data = everything(asgi, "/split_informational")
    assert b"x-split" not in data and statuses(data)[0] == 500


def test_an_application_may_survive_its_mistake(asgi):
    with asgi.connect() as client:
        response = client.request("GET", "/swallowed")
        assert (response.status, response.body) == (400, b"sorry")
        assert client.request("GET", "/pid").status == 200


@pytest.mark.servers("tricorn")
def test_a_cancellation_out_of_nowhere_is_a_500(asgi):
    """Gunicorn takes it for a client that left, and closes without a word."""
    assert asgi.request("GET", "/cancelled").status == 500
    assert asgi.request("GET", "/pid").status == 200


@pytest.mark.servers("tricorn")
def test_system_exit_of_one_request_does_not_end_the_worker_of_the_others(server):
    """Gunicorn's worker leaves at once, with everything it has in progress."""
    running = server.start("asgi_app:app", worker="asgi")
    (first,) = running.wait_for_workers(1)
    with running.connect() as client:
        client.send(request_bytes("GET", "/system_exit"))
        try:
            assert client.read_response().status == 500
        except Closed:
            pass
    assert running.request("GET", "/pid").status == 200
    assert running.stop() == 0


@pytest.mark.parametrize("name", ["crash", "crash_later", "nothing", "field_split", "unfinished"])
def test_a_failed_request_leaves_nothing_to_the_next(asgi, name):
    for _ in range(3):
        try:
            asgi.request("GET", f"/{name}")
        except WireError:
            pass
        assert asgi.request("POST", "/echo", body=b"after").body == b"after"
