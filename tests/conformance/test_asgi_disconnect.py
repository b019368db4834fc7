"""Clients that leave or stop to read, and applications that work on."""

import select
import time

import pytest
from harness.asgi import open_gate, seen, wait_for_seen
from harness.http import Closed, WireError, request_bytes
from harness.servers import wait_until


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("started", ["", "&started"])
@pytest.mark.parametrize("body", [None, b"a body"])
def test_a_client_that_leaves_is_told_to_receive(asgi, mark, how, started, body):
    client = asgi.connect()
    client.send(request_bytes("POST", f"/disconnect?mark={mark}{started}", body=body))
    wait_for_seen(asgi, mark, "waiting")
    left = time.monotonic()
    getattr(client, how)()
    assert wait_for_seen(asgi, mark, "http.disconnect")[:2] == ["waiting", "http.disconnect"]
    assert time.monotonic() - left < 1.0
    wait_for_seen(asgi, mark, "again http.disconnect")


def test_a_client_that_leaves_in_its_body_is_told_to_receive(asgi, mark):
    client = asgi.connect()
    client.send(request_bytes("POST", f"/upper?mark={mark}", [("Content-Length", "10")]) + b"half")
    assert client.read_head().status == 200
    client.close()
    assert wait_for_seen(asgi, mark, "disconnect") == ["disconnect"]


def test_receive_waits_as_long_as_the_client_stays(asgi):
    with asgi.connect() as client:
        assert client.request("POST", "/patient?ms=150", body=b"abc").body == b"waited"
        assert client.request("GET", "/patient?ms=150").body == b"waited"


def test_a_pipelined_request_is_no_disconnect(asgi):
    with asgi.connect() as client:
        client.send(request_bytes("GET", "/patient?ms=150") + request_bytes("GET", "/pid"))
        assert client.read_response().body == b"waited"
        assert client.read_response().body.isdigit()


def test_an_application_that_does_not_care_is_cancelled_after_the_grace_period(server, mark):
    running = server.shared("asgi_app:app", "--asgi-disconnect-grace-period", "1", worker="asgi")
    with running.connect() as client:
        client.send(request_bytes("GET", f"/stubborn?mark={mark}"))
        wait_for_seen(running, mark, "begun")
    have = wait_for_seen(running, mark, "cancelled")
    told, cancelled = (float(line.split()[1]) for line in have[1:])
    assert 0.9 < cancelled - told < 2.0


def test_a_grace_period_of_zero_cancels_at_once(server, mark):
    running = server.shared("asgi_app:app", "--asgi-disconnect-grace-period", "0", worker="asgi")
    with running.connect() as client:
        client.send(request_bytes("GET", f"/stubborn?mark={mark}&deaf"))
        wait_for_seen(running, mark, "begun")
    left = time.monotonic()
    wait_for_seen(running, mark, "cancelled")
    assert time.monotonic() - left < 1.0
    assert running.request("GET", "/pid").status == 200


def test_an_application_that_ends_within_the_grace_period_is_not_cancelled(server, mark):
    running = server.shared("asgi_app:app", "--asgi-disconnect-grace-period", "1", worker="asgi")
    with running.connect() as client:
        client.send(request_bytes("GET", f"/stubborn?mark={mark}&deaf&ms=300"))
        wait_for_seen(running, mark, "begun")
    assert wait_for_seen(running, mark, "finished") == ["begun", "finished"]


def test_sending_to_a_client_that_left_fails_softly(asgi, mark):
    """Gunicorn ignores what is sent; the specification wants an OSError. Neither is an error in the log."""
    begun = asgi.log.mark()
    client = asgi.connect()
    client.send(request_bytes("GET", f"/orphan?mark={mark}"))
    wait_for_seen(asgi, mark, "begun")
    client.close()
    have = wait_until(lambda: (s := seen(asgi, mark))[1:] and s, what="the end of the call")
    assert have[1] == "silent" or have[1].startswith("OSError")
    assert asgi.request("GET", "/pid").status == 200
    assert "Error in ASGI" not in "\n".join(asgi.log.text().splitlines()[begun:])


def test_receive_behind_the_answer_is_a_disconnect_at_the_latest_when_the_client_leaves(asgi, mark):
    with asgi.connect() as client:
        assert client.request("GET", f"/after?mark={mark}").body == b"answered"
        wait_for_seen(asgi, mark, "answered")
    wait_for_seen(asgi, mark, "http.disconnect")


@pytest.mark.servers("tricorn")
def test_receive_behind_the_answer_is_a_disconnect_at_once(asgi, mark):
    """ASGI: sent to the application when receive() is called after a response has been sent."""
    with asgi.connect() as client:
        assert client.request("GET", f"/after?mark={mark}").body == b"answered"
        assert wait_for_seen(asgi, mark, "http.disconnect", 2) == ["answered", "http.disconnect"]
        assert client.request("GET", "/pid").status == 200


def test_a_client_that_does_not_read_stops_the_application(asgi, mark):
    """send() holds the application up: a download that nobody takes needs no memory."""
    size = 256 << 20
    before = asgi.memory_kib()
    with asgi.connect(receive_buffer=65536) as client:
        client.send(request_bytes("GET", f"/flood?mark={mark}&size={size}"))
        stuck = _wait_for_standstill(asgi, mark)
        assert stuck < 32 << 20, "the server took it all"
        assert asgi.memory_kib() - before < 16 * 1024
        assert client.read_head().status == 200
        for _ in range(200):
            assert client.read_line() == b"10000"
            assert client.read_exactly(65538)[:2] == b"ff"
        wait_until(lambda: seen(asgi, mark)[0] > stuck, what="that the application goes on")
    assert asgi.request("GET", "/pid").status == 200


@pytest.mark.long
def test_a_gigabyte_for_a_client_that_stalls_needs_no_memory(asgi, mark):
    size = 1 << 30
    before = asgi.memory_kib()
    with asgi.connect(receive_buffer=65536, timeout=60) as client:
        client.send(request_bytes("GET", f"/flood?mark={mark}&size={size}"))
        _wait_for_standstill(asgi, mark)
        most = asgi.memory_kib() - before
        assert client.read_head().status == 200
        for number in range(size >> 16):
            assert client.read_line() == b"10000"
            assert len(client.read_exactly(65538)) == 65538
            if number % 1024 == 0:
                most = max(most, asgi.memory_kib() - before)
        assert client.read_line() == b"0"
    assert most < 64 * 1024


def _wait_for_standstill(asgi, mark):
    """How far the application has come when it comes no further for half a second."""
    last, since = -1, time.monotonic()

    def still():
        nonlocal last, since
        now = (seen(asgi, mark) or [0])[0]
        if now != last:
            last, since = now, time.monotonic()
        return last > 0 and time.monotonic() - since > 0.5

    wait_until(still, 30, "a standstill")
    return last


def test_a_client_that_reads_slowly_gets_it_all(asgi):
    with asgi.connect(receive_buffer=65536) as client:
        client.send(request_bytes("GET", "/length?size=6000000&block=200000"))
        response = client.read_head()
        total = 0
        while total < 6_000_000:
            select.select([client.socket], [], [], 0.001)
            total += len(client.read_exactly(min(100_000, 6_000_000 - total)))
        assert (response.status, total) == (200, 6_000_000)
        assert client.request("GET", "/pid").status == 200


def test_a_reader_that_leaves_in_the_middle_frees_the_application(asgi, mark):
    before = asgi.descriptors()
    clients = [asgi.connect(receive_buffer=65536) for _ in range(10)]
    for number, client in enumerate(clients):
        client.send(request_bytes("GET", f"/flood?mark={mark}-{number}&size={64 << 20}"))
    for client in clients:
        assert client.read_head().status == 200
        client.reset()
    wait_until(lambda: asgi.descriptors() <= before + 1, what="the end of the connections")
    assert asgi.request("GET", "/pid").status == 200


def test_an_idle_connection_ends_after_the_keepalive_time(server):
    running = server.shared("asgi_app:app", "--keep-alive", "1", worker="asgi")
    with running.connect(timeout=5) as client:
        assert client.request("GET", "/pid").status == 200
        begun = time.monotonic()
        client.expect_closed()
        assert 0.5 < time.monotonic() - begun < 3


def test_keepalive_of_zero_closes_after_every_answer(server):
    running = server.shared("asgi_app:app", "--keep-alive", "0", worker="asgi")
    with running.connect() as client:
        assert client.request("GET", "/pid").get("Connection").lower() == "close"
        client.expect_closed()


def test_an_application_in_progress_is_not_an_idle_connection(server, mark):
    running = server.shared("asgi_app:app", "--keep-alive", "1", worker="asgi")
    with running.connect() as client:
        assert client.request("GET", "/pid").status == 200
        client.send(request_bytes("GET", f"/held?mark={mark}"))
        wait_for_seen(running, mark, "held")
        client.expect_silent(1.5)
        open_gate(running, mark)
        assert client.read_response().body == b"released"


def test_the_timeout_is_about_the_loop_and_not_about_requests(server, mark):
    """A request may take longer than `timeout` as long as the loop turns."""
    running = server.start("asgi_app:app", "-t", "1", worker="asgi")
    with running.connect() as client:
        client.send(request_bytes("GET", "/sleep?ms=2500"))
        assert client.read_response().body == b"ms=2500"
    assert not running.log.matches("WORKER TIMEOUT")


def test_a_blocked_loop_is_ended_by_the_timeout(server):
    running = server.start("asgi_app:app", "-t", "1", worker="asgi")
    with running.connect() as client:
        client.send(request_bytes("GET", "/blocking?ms=60000"))
        running.wait_for_line("WORKER TIMEOUT")
        try:
            # ABRT gets through to what blocks in Python, and to nothing else.
            assert (client.read_response().status, server.name) == (500, "tricorn")
        except (Closed, WireError):
            pass
    wait_until(lambda: running.request("GET", "/pid").status == 200, 15, what="the next worker")
