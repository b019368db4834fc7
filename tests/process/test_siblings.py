"""No request waits behind a busy worker while another one is idle."""

import time

import pytest
from harness.http import request_bytes
from harness.servers import wait_until

pytestmark = pytest.mark.servers("tricorn")

COUNTERS = """
import sys

def worker_exit(server, worker):
    sys.stderr.write(f"passed {worker.slot.passed} taken {worker.slot.taken}\\n")
"""


def two_of_one_worker(running):
    """Two kept connections that the same worker has accepted, and its pid."""
    kept = {}
    while True:
        client = running.connect()
        pid = int(client.request("GET", "/pid").body)
        if pid in kept:
            return kept.pop(pid), client, pid
        kept[pid] = client


BEGUN = """
import sys

def pre_request(worker, req):
    sys.stderr.write(f"begun {req.path}\\n")
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_a_request_on_a_kept_connection_is_answered_by_an_idle_worker(server, threads):
    arguments = ["-w", "2", "-k", "gthread", "--threads", threads, "--keep-alive", "30"]
    running = server.start("web:app", *arguments, config=COUNTERS + BEGUN)
    running.wait_for_workers(2)
    quick, slow, pid = two_of_one_worker(running)
    others = [slow]
    # Every thread of that worker, and none of the other's.
    while len(others) < int(threads):
        client = running.connect()
        if int(client.request("GET", "/pid").body) == pid:
            others.append(client)
    for client in others:
        client.send(b"GET /sleep?ms=3000 HTTP/1.1\r\nHost: x\r\n\r\n")
    wait_until(lambda: len(running.log.matches("begun /sleep")) == len(others), what="the slow calls")
    begun = time.monotonic()
    answered = quick.request("GET", "/pid")
    assert int(answered.body) != pid
    assert time.monotonic() - begun < 2
    # It stays where it is now.
    assert int(quick.request("GET", "/pid").body) == int(answered.body)
    assert running.stop() == 0
    counted = running.log.matches(r"passed (\d+) taken (\d+)")
    assert sorted((int(match[1]), int(match[2])) for match in counted) == [(0, 1), (1, 0)]


def test_a_blocked_loop_passes_requests_on(server, tmp_path):
    """An application that blocks the event loop keeps nobody but its own client waiting."""
    running = server.start("asgi_app:app", "-w", "2", "--keep-alive", "30", worker="asgi")
    running.wait_for_workers(2)
    quick, slow, pid = two_of_one_worker(running)
    begins = tmp_path / "begins"
    slow.send(request_bytes("GET", f"/blocking?ms=3000&file={begins}"))
    wait_until(begins.exists, what="the slow call")
    begun = time.monotonic()
    answered = quick.request("GET", "/pid")
    assert int(answered.body) != pid
    assert time.monotonic() - begun < 2
    assert slow.read_response().status == 200


def test_an_answer_leaves_although_the_loop_is_blocked_behind_it(server):
    running = server.start("asgi_app:app", worker="asgi")
    with running.connect() as quick, running.connect() as slow:
        assert quick.request("GET", "/pid").status == slow.request("GET", "/pid").status == 200
        waits = []
        for _ in range(20):
            begun = time.monotonic()
            quick.send(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
            slow.send(b"GET /blocking?ms=100 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert quick.read_response().status == 200
            waits.append(time.monotonic() - begun)
            assert slow.read_response().status == 200
        assert sorted(waits)[10] < 0.09, "quick answers waited for slow ones"


@pytest.mark.parametrize(
    ("application", "arguments", "most"),
    [
        # One after the other: without a turn for each, the first one would get nearly all of them.
        ("web:app", ("-k", "gthread", "--threads", "2"), 5),
        # Their loops are all woken for each newcomer, and agree on who takes it. Where the machine is busy
        # with other things, one that is slow to wake gets fewer.
        ("asgi_app:app", ("-k", "asgi"), 10),
        ("web:app", ("-k", "gevent"), 10),
    ],
    ids=["gthread", "asgi", "gevent"],
)
def test_short_connections_are_shared_out_evenly(server, application, arguments, most):
    running = server.start(application, "-w", "4", *arguments)
    serving = set()
    wait_until(lambda: serving.add(running.request("GET", "/pid").body) or len(serving) == 4, what="all four")
    pids = [int(running.request("GET", "/pid").body) for _ in range(400)]
    counts = [pids.count(pid) for pid in set(pids)]
    assert len(counts) == 4
    assert max(counts) < most * min(counts), counts
