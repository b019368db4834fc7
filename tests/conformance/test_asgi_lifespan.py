"""The lifespan protocol: when it runs, what its failure leads to, what its state is good for."""

import signal

import pytest
from harness.asgi import literal
from harness.http import request_bytes
from harness.servers import wait_until

TRICORN = pytest.mark.servers("tricorn")


def start(server, kind, *args, wait=True, **env):
    """A server with the lifespan `kind`."""
    how = {} if wait else {"wait": None}
    return server.start("asgi_lifespan:app", *args, env={"LIFESPAN": kind, **env}, worker="asgi", **how)


def told(running):
    return [match[1] for match in running.log.matches("^life (.*)")]


@pytest.mark.parametrize("mode", [None, "auto", "on"])
def test_startup_runs_before_the_first_request_and_shutdown_at_the_end(server, mode):
    running = start(server, "good", *(("--asgi-lifespan", mode) if mode else ()))
    (pid,) = running.wait_for_workers(1)
    state = literal(running.request())
    assert state == {"started": f"by {pid}", "task": True, "loop": True}
    assert running.stop() == 0
    keys = "['asgi', 'state', 'type']"
    assert told(running) == [
        "lifespan.startup",
        f"startup {keys} 3.0 {{}}",
        "started",
        "lifespan.shutdown",
        "shutdown",
        "shut down",
    ]


def test_nobody_is_served_while_the_startup_is_under_way(server):
    running = start(server, "slow", SECONDS="1")
    with running.connect() as client:
        client.send(request_bytes())
        response = client.read_response()
    assert literal(response)["started"]
    wait_until(lambda: told(running)[-1:] == ["started"], what="the line of the startup")


def test_off_never_calls_it(server):
    running = start(server, "good", "--asgi-lifespan", "off")
    assert literal(running.request()) == {}
    assert running.stop() == 0
    assert told(running) == []


@pytest.mark.parametrize("kind", ["none", "returns", "crash"])
def test_auto_serves_an_application_that_knows_no_lifespan(server, kind):
    running = start(server, kind)
    assert running.request().status == 200
    assert running.stop() == 0
    assert not running.log.matches(r"\[ERROR\]")


@pytest.mark.parametrize("kind", ["none", "returns", "crash"])
def test_on_insists_on_it(server, kind):
    running = start(server, kind, "--asgi-lifespan", "on", wait=False)
    assert running.wait() == 3
    running.wait_for_line(r"\[ERROR\].*ASGI lifespan startup failed")
    running.wait_for_line("Worker failed to boot")
    if kind == "crash":
        running.wait_for_line("the startup fails on purpose")


@pytest.mark.parametrize("mode", ["auto", "on"])
def test_a_startup_that_says_it_failed_stops_the_server(server, mode):
    running = start(server, "failed", "--asgi-lifespan", mode, wait=False, MESSAGE="no database here")
    assert running.wait() == 3
    running.wait_for_line(r"\[ERROR\].*ASGI lifespan startup failed.*no database here")
    running.wait_for_line("Worker failed to boot")
    assert "lifespan.shutdown" not in told(running)


def test_a_startup_may_fail_without_a_message(server):
    running = start(server, "failed", wait=False)
    assert running.wait() == 3
    running.wait_for_line(r"\[ERROR\].*ASGI lifespan startup failed")


def test_a_lifespan_that_ends_while_serving_leaves_the_requests_alone(server):
    running = start(server, "crash_later")
    for _ in range(3):
        assert literal(running.request())["started"]
    assert running.stop() == 0


@TRICORN
def test_a_lifespan_that_fails_while_serving_is_in_the_log(server):
    """Gunicorn says so at debug level, where nobody looks."""
    running = start(server, "crash_later")
    assert running.request().status == 200
    running.wait_for_line("RuntimeError: the lifespan fails in the middle")


@pytest.mark.parametrize(
    "kind, line", [("shutdown_failed", "cannot close"), ("shutdown_crash", "the shutdown fails on purpose")]
)
def test_a_shutdown_that_fails_is_in_the_log_and_ends_the_worker(server, kind, line):
    running = start(server, kind)
    assert running.request().status == 200
    assert running.stop() == 0
    running.wait_for_line(line)


def test_a_shutdown_takes_its_time(server):
    running = start(server, "slow", SECONDS="0.7")
    assert running.request().status == 200
    assert running.stop() == 0
    assert told(running)[-1] == "shut down"


def test_a_shutdown_that_never_ends_is_cut(server):
    running = start(server, "silent_shutdown", "--graceful-timeout", "1")
    assert running.request().status == 200
    assert running.stop(seconds=15) == 0
    assert told(running)[-1] == "shutdown"


def test_the_shutdown_comes_after_the_last_request(server):
    running = start(server, "good")
    with running.connect() as client:
        assert client.request().status == 200
        client.send(request_bytes("GET", "/sleep"))
        client.expect_silent(0.3)
        running.send_signal(signal.SIGTERM)
        assert client.read_response().status == 200
    assert running.wait() == 0
    lines = told(running)
    assert lines.index("slept") < lines.index("lifespan.shutdown") < lines.index("shut down")


def test_a_quick_stop_skips_the_shutdown(server):
    running = start(server, "good")
    assert running.request().status == 200
    assert running.stop(signal.SIGINT) == 0
    assert "lifespan.shutdown" not in told(running)


def test_each_worker_has_a_lifespan_of_its_own(server):
    running = start(server, "good", "-w", "2")
    wait_until(lambda: told(running).count("started") == 2, what="two startups")
    assert running.stop() == 0
    assert told(running).count("shut down") == 2


def test_the_shutdown_also_runs_when_a_worker_is_replaced(server):
    running = start(server, "good", "--max-requests", "1")
    first = literal(running.request())["started"]
    wait_until(lambda: told(running).count("shut down") == 1, what="the first shutdown")
    assert literal(running.request())["started"] != first


def test_a_preloaded_application_starts_up_in_its_worker(server):
    running = start(server, "good", "--preload")
    (pid,) = running.wait_for_workers(1)
    assert literal(running.request())["started"] == f"by {pid}"
