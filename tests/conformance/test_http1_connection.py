"""Connections: kept, pipelined, closed; HTTP/1.0 and HTTP/1.1."""

import json
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness.http import request_bytes


def test_a_connection_is_kept_between_requests(lasting):
    with lasting.connect() as client:
        for number in range(5):
            response = client.request("GET", f"/echo?n={number}")
            assert json.loads(response.body)["QUERY_STRING"] == f"n={number}"
            assert response.get("Connection") == "keep-alive"
        assert client.is_open()


def test_close_is_answered_with_close(web):
    with web.connect() as client:
        response = client.request("GET", "/echo", [("Connection", "close")])
        assert response.get("Connection") == "close"
        client.expect_closed()


def test_close_is_found_in_a_list_of_options_in_any_case(web):
    with web.connect() as client:
        response = client.request("GET", "/echo", [("Connection", "foo, Close")])
        assert response.status == 200
        client.expect_closed()


def test_nothing_after_connection_close_is_answered(web):
    with web.connect() as client:
        client.send(
            request_bytes("GET", "/echo", [("Connection", "close")])
            + request_bytes("GET", "/seen?mark=after-close")
        )
        assert client.read_response().status == 200
        client.expect_closed()
    assert b"after-close" not in web.request("GET", "/seen").body


@pytest.mark.parametrize("fields", [[], [("Connection", "close")]], ids=["no-field", "close"])
def test_http_1_0_closes_by_default(web, fields):
    with web.connect() as client:
        response = client.request("GET", "/echo", fields, version="HTTP/1.0")
        assert response.version in ("HTTP/1.0", "HTTP/1.1")
        assert json.loads(response.body)["SERVER_PROTOCOL"] == "HTTP/1.0"
        assert response.get("Connection") == "close"
        client.expect_closed()


def test_http_1_0_is_kept_when_it_asks(lasting):
    with lasting.connect() as client:
        for _ in range(2):
            response = client.request("GET", "/echo", [("Connection", "Keep-Alive")], version="HTTP/1.0")
            assert response.get("Connection") == "keep-alive"


def test_http_1_0_without_length_is_ended_by_the_close(web):
    with web.connect() as client:
        response = client.request(
            "GET", "/blocks?count=3&size=4", [("Connection", "keep-alive")], version="HTTP/1.0"
        )
        assert (response.framing, response.body) == ("close", b"aaaabbbbcccc")


def test_pipelined_requests_are_answered_in_order(lasting):
    rng = random.Random(20261124)
    delays = [rng.choice((0, 0, 0, 1, 5, 20)) for _ in range(50)]
    with lasting.connect() as client:
        client.send(b"".join(request_bytes("GET", f"/sleep?n={n}&ms={ms}") for n, ms in enumerate(delays)))
        for number, ms in enumerate(delays):
            assert client.read_response().body == f"n={number}&ms={ms}".encode()
        client.expect_silent(0.05)


def test_pipelined_requests_with_bodies_keep_their_borders(lasting):
    with lasting.connect() as client:
        client.send(
            b"".join(
                request_bytes("POST", f"/echo?{n}", body=b"GET /no HTTP/1.1\r\n\r\n" * n) for n in range(8)
            )
        )
        for number in range(8):
            doc = json.loads(client.read_response().body)
            assert (doc["QUERY_STRING"], len(doc["body"])) == (str(number), 20 * number)


def test_a_pipeline_cut_anywhere_gives_the_same_answers(lasting):
    data = b"".join(request_bytes("POST", f"/echo?{n}", body=b"z" * 5) for n in range(4))
    rng = random.Random(7)
    for size in (1, 3, rng.randint(5, 50)):
        with lasting.connect() as client:
            client.send_pieces(data, size, pause=0.0002)
            queries = [json.loads(client.read_response().body)["QUERY_STRING"] for _ in range(4)]
            assert queries == ["0", "1", "2", "3"]


def test_an_empty_line_before_the_request_line_is_skipped(web):
    with web.connect() as client:
        client.send(b"\r\n" + request_bytes("GET", "/echo"))
        assert client.read_response().status == 200


def test_a_client_that_half_closes_still_gets_its_answer(web):
    with web.connect() as client:
        client.send(request_bytes("GET", "/sleep?ms=50"))
        client.half_close()
        assert client.read_response().body == b"ms=50"
        client.expect_closed()


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize(
    "begun",
    [b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc"],
    ids=["head", "body"],
)
def test_half_a_request_before_a_half_close_is_400(web, begun):
    """Gunicorn closes without a word."""
    with web.connect() as client:
        client.send(begun)
        client.half_close()
        assert client.read_response().status == 400
        client.expect_closed()


def test_an_unread_body_does_not_become_the_next_request(lasting):
    hidden = request_bytes("GET", "/seen?mark=hidden-in-body")
    with lasting.connect() as client:
        client.send(request_bytes("POST", "/ignore", body=hidden))
        assert client.read_response().body == b"ignored"
        if client.is_open():
            assert client.request("GET", "/echo?next").status == 200
    assert b"hidden-in-body" not in lasting.request("GET", "/seen").body


def test_a_get_with_a_body_is_framed_like_any_other(lasting):
    with lasting.connect() as client:
        client.send(request_bytes("GET", "/ignore", body=request_bytes("GET", "/seen?mark=get-body")))
        assert client.read_response().body == b"ignored"
    assert b"get-body" not in lasting.request("GET", "/seen").body


def test_the_idle_connection_is_closed_after_keepalive(server, worker):
    if (server.name, worker) == ("gunicorn", "sync"):
        pytest.skip("Gunicorn's sync worker has no keep-alive")
    running = server.start("web:app", "--keep-alive", "1", worker=worker)
    with running.connect() as client:
        client.request()
        client.expect_silent(0.7)
        client.expect_closed(within=4)


def test_keepalive_zero_closes_after_the_answer(server, worker):
    running = server.start("web:app", "--keep-alive", "0", worker=worker)
    with running.connect() as client:
        assert client.request().get("Connection") == "close"
        client.expect_closed()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_newcomers_get_their_turn_while_kept_connections_always_ask(server, workers):
    arguments = ["-k", "gthread", "-w", workers, "--threads", "1", "--keep-alive", "30"]
    running = server.start("web:app", *arguments)
    running.wait_for_workers(int(workers))
    over = threading.Event()

    def regular():
        with running.connect() as client:
            while not over.is_set():
                assert client.request("GET", "/sleep?ms=20").status == 200

    with ThreadPoolExecutor(8) as regulars:
        asked = [regulars.submit(regular) for _ in range(8)]
        try:
            for _ in range(5):
                begun = time.monotonic()
                with running.connect() as newcomer:
                    assert newcomer.request("GET", "/pid").status == 200
                assert time.monotonic() - begun < 2
        finally:
            over.set()
        for one in asked:
            one.result(timeout=20)
