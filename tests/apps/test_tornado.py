"""Native Tornado applications on `-k tornado`, against the same class of Gunicorn where they share behaviour.

Not the rules of HTTP, which the conformance tests show with plain WSGI applications.
"""

from __future__ import annotations

import gzip
import json
import re
import signal
import time
from urllib.parse import urlencode

import pytest
from harness.http import chunked, request_bytes
from harness.servers import wait_until
from harness.websocket import PING, PONG, TEXT, WebSocket, frame_bytes, handshake_fields

FORM = [("Content-Type", "application/x-www-form-urlencoded")]


def at_rest(running, pattern):
    """How often the log has matched once nothing more of it comes."""
    counts = [-1]

    def unchanged():
        counts.append(len(running.log.matches(pattern)))
        time.sleep(0.2)
        return counts[-1] == counts[-2] and counts[-1] > 0

    wait_until(unchanged, what=f"an end of {pattern!r}")
    return counts[-1]


@pytest.fixture
def site(server):
    return server.shared("tornado_site:app", worker="tornado")


def test_a_get_is_answered_with_its_length_and_an_etag(site):
    answer = site.request("GET", "/hello/J%C3%BCrgen?q=a%20b")
    assert (answer.status, answer.body) == (200, "hello Jürgen, a b".encode())
    assert answer.framing == "length" and answer.get("Etag")
    again = site.request("GET", "/hello/J%C3%BCrgen?q=a%20b", [("If-None-Match", answer.get("Etag"))])
    assert (again.status, again.body) == (304, b"")


def test_a_head_has_no_body(site):
    with site.connect() as client:
        answer = client.request("HEAD", "/")
        assert (answer.status, answer.get("Content-Length"), answer.body) == (200, "12", b"")
        assert client.request("GET", "/").body == b"hello world, -"


def test_the_application_sees_the_request_as_it_was_sent(site):
    fields = [("X-Two", "a"), ("X-Two", "b"), ("X-Latin", "\xfc")]
    seen = json.loads(site.request("GET", "/seen?x=%20&y", fields).body)
    given = dict(map(tuple, seen.pop("fields")))
    assert seen == {
        "method": "GET",
        "uri": "/seen?x=%20&y",
        "version": "HTTP/1.1",
        "host": given["Host"],
        "remote_ip": "127.0.0.1",
        "protocol": "http",
        "context": "127.0.0.1",
    }
    assert given["X-Latin"] == "\xfc"


@pytest.mark.servers("tricorn")
def test_the_scheme_of_a_trusted_proxy_is_believed(site):
    seen = json.loads(site.request("GET", "/seen", [("X-Forwarded-Proto", "https")]).body)
    assert seen["protocol"] == "https"


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_form_arrives(site, framing):
    body = urlencode({"a": "1 2"}).encode()
    if framing == "length":
        answer = site.request("POST", "/form", FORM, body)
    else:
        with site.connect() as client:
            client.send(request_bytes("POST", "/form", [*FORM, ("Transfer-Encoding", "chunked")]))
            client.send(chunked(body[:2], body[2:]))
            answer = client.read_response()
    assert json.loads(answer.body) == {"a": "1 2", "files": [], "size": len(body)}


def test_a_file_is_uploaded(site):
    body = (
        b'--cut\r\nContent-Disposition: form-data; name="f"; filename="f.bin"\r\n\r\n'
        + b"x" * 300_000
        + b"\r\n--cut--\r\n"
    )
    answer = site.request("POST", "/form", [("Content-Type", "multipart/form-data; boundary=cut")], body)
    assert json.loads(answer.body)["files"] == [["f.bin", 300_000]]


def test_flushed_blocks_arrive_one_by_one(site):
    with site.connect() as client:
        client.send(request_bytes("GET", "/blocks?count=3&pause=0.3"))
        assert client.read_head().get("Transfer-Encoding") == "chunked"
        assert client.read_line() == b"8"
        assert client.read_exactly(10) == b"block 0\n\r\n"
        client.expect_silent(0.1)
        assert client.read_line() == b"8"


def test_a_compressing_transform_works(site):
    answer = site.request("GET", "/blocks?count=400", [("Accept-Encoding", "gzip")])
    assert answer.get("Content-Encoding") == "gzip"
    assert gzip.decompress(answer.body).count(b"block") == 400


def test_a_download_waits_for_its_client(server):
    running = server.start("tornado_site:app", worker="tornado")
    with running.connect() as client:
        client.send(request_bytes("GET", "/download"))
        assert at_rest(running, r"^download \d+") < 40
        assert len(client.read_response().body) == 64 * 1024 * 1024
    running.wait_for_line(r"download 63")


def test_a_download_whose_client_leaves_breaks_off(server):
    running = server.start("tornado_site:app", worker="tornado")
    with running.connect() as client:
        client.send(request_bytes("GET", "/download"))
        running.wait_for_line(r"download 0")
        client.reset()
    running.wait_for_line(r"download broke off at \d+")
    assert running.request("GET", "/").status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_an_upload_is_streamed_to_its_handler(server, framing):
    running = server.start("tornado_site:app", worker="tornado")
    fields = [("Content-Length", "9")] if framing == "length" else [("Transfer-Encoding", "chunked")]
    wire = chunked(b"def", b"ghi") if framing == "chunked" else b"defghi"
    with running.connect() as client:
        client.send(request_bytes("PUT", "/upload", fields))
        client.send(b"3\r\nabc\r\n" if framing == "chunked" else b"abc")
        running.wait_for_line("upload has 3$")
        client.send(wire)
        assert json.loads(client.read_response().body)["size"] == 9


def test_a_slow_handler_holds_its_upload_back(server):
    running = server.start("tornado_site:app", worker="tornado")
    running.request("GET", "/")
    memory = running.memory_kib()
    with running.connect() as client:
        client.send(request_bytes("PUT", "/upload?pause=60", [("Content-Length", str(1 << 30))]) + b"x")
        running.wait_for_line("upload has")
        client.socket.settimeout(1)
        sent = 0
        with pytest.raises(TimeoutError):
            while sent < 1 << 28:
                sent += client.socket.send(b"x" * 65536)
    assert running.memory_kib() - memory < 32 * 1024


def test_an_upload_whose_client_leaves_breaks_off(server):
    running = server.start("tornado_site:app", worker="tornado")
    with running.connect() as client:
        client.send(request_bytes("PUT", "/upload", [("Content-Length", "9")]) + b"abc")
        running.wait_for_line("upload has 3$")
    running.wait_for_line("upload broke off at 3")
    assert running.request("GET", "/").status == 200
    assert len(running.log.matches("upload broke off")) == 1


def test_an_upload_beyond_the_handlers_limit_is_a_400(site):
    with site.connect() as client:
        client.send(request_bytes("PUT", "/upload?max=5", [("Content-Length", "9")]) + b"123456789")
        assert client.read_head().status == 400


def test_an_upload_that_takes_too_long_for_its_handler_ends(site):
    with site.connect() as client:
        client.send(request_bytes("PUT", "/upload?timeout=0.3", [("Content-Length", "9")]) + b"123")
        answer = client.read_to_end()
    # Tornado's server says nothing.
    assert answer.startswith(b"HTTP/1.1 400 ") or site.name == "gunicorn"


def test_an_upload_may_be_refused_before_it_comes(site):
    with site.connect() as client:
        fields = [("Content-Length", "9"), ("Expect", "100-continue")]
        client.send(request_bytes("PUT", "/upload?refuse=1", fields))
        answer = client.read_response()
    assert answer.status == 401
    # Gunicorn's asks for the body all the same.
    assert not answer.interim or site.name == "gunicorn"


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_handler_hears_that_its_client_has_left(server, how):
    running = server.start("tornado_site:app", worker="tornado")
    with running.connect() as client:
        client.send(request_bytes("GET", "/waiting"))
        running.wait_for_line("waiting began")
        getattr(client, how)()
    running.wait_for_line("waiting was left alone")
    assert running.request("GET", "/").status == 200


def test_a_handler_that_has_answered_hears_nothing_of_its_client(server):
    running = server.start("tornado_site:app", worker="tornado")
    with running.connect() as client:
        assert client.request("GET", "/waiting?seconds=0").body == b"waited"
    running.wait_for_line("waiting has ended")
    assert running.request("GET", "/").status == 200
    assert not running.log.matches("left alone")


def test_a_client_that_shuts_its_side_still_gets_its_answer(site):
    with site.connect() as client:
        client.send(request_bytes("GET", "/hello/you"))
        client.half_close()
        assert client.read_response().body == b"hello you, -"


@pytest.mark.parametrize("status", [400, 404, 403, 500, 503])
def test_errors_have_tornados_page(site, status):
    answer = site.request("GET", f"/fails/{status}")
    assert answer.status == status
    assert f"<title>{status}: {answer.reason}</title>".encode() in answer.body


def test_an_unknown_path_is_a_404_and_an_unknown_method_a_405(site):
    assert site.request("GET", "/nowhere").status == 404
    assert site.request("DELETE", "/").status == 405


def test_an_exception_is_a_500_with_a_traceback_in_the_log(server):
    running = server.start("tornado_site:app", worker="tornado")
    assert running.request("GET", "/fails/early").status == 500
    running.wait_for_line("RuntimeError: on purpose")
    assert running.request("GET", "/").status == 200


def test_an_exception_after_the_head_ends_the_answer(site):
    assert site.request("GET", "/fails/late").body == b"begun"


def test_a_reason_of_the_applications_own_is_sent(site):
    answer = site.request("GET", "/fails/reason")
    assert (answer.status, answer.reason) == (418, "Short And Stout")


def test_an_answer_without_content_keeps_the_connection(site):
    with site.connect() as client:
        answer = client.request("GET", "/fails/nothing")
        assert (answer.status, answer.get("Content-Length")) == (204, None)
        assert client.request("GET", "/").status == 200


def test_a_field_with_a_line_break_never_leaves(site):
    with site.connect() as client:
        client.send(request_bytes("GET", "/fails/split"))
        try:
            answer = client.read_response()
        except AssertionError:
            # Tornado's server closes the connection.
            return
        assert answer.status == 500 and answer.get("X-More") is None


def test_the_server_field_is_ours_unless_the_application_has_one(site):
    assert site.request("GET", "/signed").get("Server").startswith("mine")
    mine = site.request("GET", "/").get("Server")
    assert mine == "tricorn" or site.name == "gunicorn"


def test_connections_are_kept_and_closed_as_clients_want(site):
    with site.connect() as client:
        for _ in range(3):
            assert client.request("GET", "/").status == 200
        answer = client.request("GET", "/", [("Connection", "close")])
        assert answer.get("Connection") == "close"
        client.expect_closed(within=5)


def test_pipelined_requests_are_answered_in_order(site):
    with site.connect() as client:
        names = ["a", "b", "c", "d"]
        client.send(b"".join(request_bytes("GET", f"/hello/{name}") for name in names))
        bodies = [client.read_response().body for _ in names]
    assert bodies == [f"hello {name}, -".encode() for name in names]


def test_a_streamed_answer_is_followed_by_the_next(site):
    with site.connect() as client:
        client.send(request_bytes("GET", "/blocks") + request_bytes("GET", "/hello/next"))
        assert client.read_response().body == b"block 0\nblock 1\nblock 2\n"
        assert client.read_response().body == b"hello next, -"


def test_cookies_and_the_xsrf_token_make_a_login(server):
    site = server.shared("tornado_site:guarded", worker="tornado")
    first = site.request("GET", "/login")
    token = first.body.split()[1].decode()
    cookie = first.get("Set-Cookie").split(";")[0]
    body = urlencode({"name": "me"}).encode()
    assert site.request("POST", "/login", [*FORM, ("Cookie", cookie)], body).status == 403
    fields = [*FORM, ("Cookie", cookie), ("X-XSRFToken", token)]
    answer = site.request("POST", "/login", fields, body)
    assert (answer.status, answer.get("Location")) == (302, "/login")
    user = answer.get("Set-Cookie").split(";")[0]
    again = site.request("GET", "/login", [("Cookie", f"{cookie}; {user}")])
    assert again.body.startswith(b"me ")


def test_static_files_are_served_in_ranges(site):
    answer = site.request("GET", "/static/tornado_site.py", [("Range", "bytes=3-12")])
    assert (answer.status, answer.body) == (206, b"A Tornado ")


def test_a_wsgi_application_within_a_native_one_answers(site):
    assert site.request("POST", "/wsgi/x", body=b"!").body == b"wsgi /wsgi/x!"


def test_a_wsgi_container_is_served(server):
    site = server.shared("tornado_site:contained", worker="tornado")
    assert site.request("POST", "/x", body=b"!").body == b"wsgi /x!"


@pytest.mark.servers("tricorn")
def test_a_bare_delegate_is_served(server):
    running = server.start("tornado_site:bare", worker="tornado")
    answer = running.request("POST", "/x?y", body=b"abc")
    assert (answer.reason, answer.body) == ("Fine", b"POST /x?y 3")
    running.wait_for_line("bare closed")
    assert running.request("GET", "/raise").status == 500
    running.wait_for_line("Error in Tornado application")
    running.wait_for_line("message broke off")


@pytest.mark.servers("tricorn")
def test_a_request_without_a_host_is_a_400(site):
    with site.connect() as client:
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.read_response().status == 400


# ---- other protocols


def test_a_websocket_echoes(site):
    with WebSocket(site, "/echo") as socket:
        for message in ("grüße", b"x" * 200_000):
            socket.send(message)
            assert socket.read_message() == message
        socket.send_frame(PING, b"p")
        frame = socket.read_frame()
        assert (frame.opcode, frame.payload) == (PONG, b"p")
        socket.leave()


def test_a_websocket_agrees_on_a_subprotocol_and_on_compression(site):
    offers = {"protocols": "first, second", "extensions": "permessage-deflate"}
    with WebSocket(site, "/echo?deflate=1", **offers) as socket:
        assert socket.response.get("Sec-WebSocket-Protocol") == "second"
        assert socket.inflate is not None
        socket.send("a" * 10_000)
        assert socket.read_message() == "a" * 10_000


def test_messages_that_come_with_the_handshake_are_not_lost(site):
    with WebSocket(site, "/echo", early=frame_bytes(TEXT, b"early")) as socket:
        assert socket.read_message() == "early"


def test_what_is_still_on_its_way_comes_before_the_websocket(site):
    with site.connect(receive_buffer=4096) as client:
        handshake = request_bytes("GET", "/echo", handshake_fields("dGhlIHNhbXBsZSBub25jZQ=="))
        client.send(request_bytes("GET", "/big") + handshake + frame_bytes(TEXT, b"early"))
        assert len(client.read_response().body) == 8_000_000
        assert client.read_head().status == 101
        assert client.read_exactly(7) == b"\x81\x05early"


def test_a_websocket_hears_that_its_client_has_left(server):
    running = server.start("tornado_site:app", worker="tornado")
    with WebSocket(running, "/echo"):
        running.wait_for_line("socket open")
    running.wait_for_line("socket closed")
    before = running.descriptors()
    for _ in range(5):
        with WebSocket(running, "/echo") as socket:
            socket.send("a")
            assert socket.read_message() == "a"
    wait_until(lambda: running.descriptors() <= before, what="as many descriptors as before")


def test_a_handshake_that_is_none_is_a_400(site):
    assert site.request("GET", "/echo").status == 400


def test_a_handler_may_speak_another_protocol(site):
    with site.connect() as client:
        client.send(request_bytes("GET", "/tunnel") + b"a ")
        client.send(b"line\n")
        assert client.read_to_end() == b"raw:a line\n"


# ---- the worker


@pytest.mark.servers("tricorn")
def test_requests_are_in_the_access_log(server):
    running = server.start("tornado_site:app", "--access-logfile", "-", worker="tornado")
    running.request("GET", "/hello/you?q=1")
    running.out.wait_for(r'"GET /hello/you\?q=1 HTTP/1.1" 200 12 ')
    running.request("GET", "/fails/404")
    running.out.wait_for(r'"GET /fails/404 HTTP/1.1" 404 ')
    with WebSocket(running, "/echo"):
        running.out.wait_for(r'"GET /echo HTTP/1.1" 101 ')


@pytest.mark.servers("tricorn")
def test_hooks_run_around_native_requests(server):
    hooks = """
import sys
def pre_request(worker, req):
    sys.stderr.write(f"pre {req.method} {req.path}\\n")
def post_request(worker, req, environ, resp):
    sys.stderr.write(f"post {req.path} {resp.status}\\n")
"""
    running = server.start("tornado_site:app", "--access-logfile", "-", config=hooks, worker="tornado")
    running.request("GET", "/fails/404")
    running.wait_for_line("pre GET /fails/404")
    running.wait_for_line("post /fails/404 404")


@pytest.mark.servers("tricorn")
def test_a_worker_is_replaced_after_max_requests(server):
    running = server.start("tornado_site:app", "--max-requests", "3", worker="tornado")
    pids = [running.request("GET", "/pid").body for _ in range(3)]
    assert len(set(pids)) == 1
    wait_until(lambda: running.request("GET", "/pid").body != pids[0], what="another worker")


def test_a_graceful_stop_finishes_what_was_begun(server):
    running = server.start("tornado_site:app", worker="tornado")
    with running.connect() as client:
        # Gunicorn's worker stops its loop with its second look at the clock.
        seconds = 1.5 if server.name == "tricorn" else 0.3
        client.send(request_bytes("GET", f"/waiting?seconds={seconds}"))
        running.wait_for_line("waiting began")
        running.send_signal(signal.SIGTERM)
        assert client.read_response().body == b"waited"
    assert running.wait() == 0


@pytest.mark.servers("tricorn")
def test_a_graceful_stop_closes_websockets_with_1012(server):
    running = server.start("tornado_site:app", worker="tornado")
    with WebSocket(running, "/echo") as socket:
        running.wait_for_line("socket open")
        running.send_signal(signal.SIGTERM)
        assert socket.read_close().code == 1012
        socket.send_close(1012)
        assert running.wait() == 0
    running.wait_for_line("socket closed 1012")


def test_a_reload_serves_on_with_other_workers(server):
    running = server.start("tornado_site:app", worker="tornado")
    before = running.request("GET", "/pid").body
    running.send_signal(signal.SIGHUP)
    wait_until(lambda: running.request("GET", "/pid").body != before, what="another worker")
    assert running.stop() == 0


def test_a_quick_stop_waits_for_nobody(server):
    running = server.start("tornado_site:app", worker="tornado")
    with running.connect() as client:
        client.send(request_bytes("GET", "/waiting"))
        running.wait_for_line("waiting began")
        assert running.stop(signal.SIGINT, seconds=10) == 0


@pytest.mark.servers("tricorn")
def test_gunicorns_name_of_the_class_is_understood(server):
    name = "gunicorn.workers.gtornado.TornadoWorker"
    running = server.start("tornado_site:app", "-k", name)
    assert running.request("GET", "/").body == b"hello world, -"


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("found", [None, "6.4.2"])
def test_a_missing_or_old_tornado_is_one_line_and_exit_code_1(server, tmp_path, found):
    # Found first: metadata that says what the test wants, or none at all.
    hide = "import importlib.metadata as m\nreal = m.version\ndef version(name):\n"
    says = f"return {found!r}" if found else "raise m.PackageNotFoundError(name)"
    hide += f"    if name == 'tornado':\n        {says}\n    return real(name)\nm.version = version\n"
    (tmp_path / "sitecustomize.py").write_text(hide)
    env = {"PYTHONPATH": str(tmp_path)}
    running = server.start("tornado_site:app", env=env, worker="tornado", wait=None)
    assert running.wait() == 1
    assert re.search(
        r"Error: the worker class 'tornado' needs tornado 6.5 or newer.*tricorn\[tornado\]",
        running.log.text(),
    )
    assert "Traceback" not in running.log.text()


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("given", ["", "request_buffering = False\n"])
def test_a_setting_about_bodies_is_said_to_have_no_effect(server, given):
    running = server.start("web:app", worker="tornado", config=given)
    assert running.request("POST", "/seekable", body=b"whole").body == b"same"
    assert running.stop() == 0
    warned = running.log.matches(r"\[WARNING\] Tornado worker does not use request_buffering: WSGI")
    assert len(warned) == bool(given)


@pytest.mark.servers("tricorn")
def test_a_wsgi_generator_leaves_the_loop_to_others_while_its_client_is_slow(server):
    running = server.start("tornado_site:plain", worker="tornado")
    with running.connect() as slow:
        slow.send(request_bytes("GET", "/blocks"))
        assert slow.read_head().status == 200
        running.wait_for_line("block 0")
        assert running.request("GET", "/x").body == b"wsgi /x"
        assert running.memory_kib() < 64 * 1024
        assert len(running.log.matches(r"^block \d+")) < 60
        # The head is read: what is left is the body, in blocks of a mebibyte.
        size = 0
        while line := int(slow.read_line(), 16):
            size += len(slow.read_exactly(line + 2)) - 2
        assert size == 64 * 1024 * 1024


@pytest.mark.servers("tricorn")
def test_wsgi_requests_do_not_see_one_anothers_context(server):
    running = server.start("tornado_site:plain", worker="tornado")
    assert [running.request("GET", "/context").body for _ in range(3)] == [b"fresh"] * 3
