"""The asgi worker class as a process: how it is chosen, its loop, its end, its hooks, its access log."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from harness.asgi import literal
from harness.crowd import Crowd
from harness.http import Closed, request_bytes
from harness.servers import FIXTURES, Held, wait_until

TRICORN = pytest.mark.servers("tricorn")
KEPT = request_bytes("GET", "/pid")
ONCE = request_bytes("GET", "/pid", [("Connection", "close")])


# ---- chosen by itself
@TRICORN
@pytest.mark.parametrize(
    "name", ["function", "instance", "method", "partial", "partial_instance", "decorated", "factory()"]
)
def test_an_async_callable_is_served_as_asgi_without_a_word(server, name):
    running = server.start(f"asgi_kinds:{name}")
    assert running.request().body == b"asgi"
    running.wait_for_line("Using worker: asgi")


@TRICORN
@pytest.mark.parametrize(
    "name", ["starlette_site", "fastapi_site", "litestar_site", "quart_site", "django_asgi_site"]
)
def test_the_applications_of_frameworks_are_known_for_what_they_are(server, name):
    running = server.start(f"{name}:app")
    assert json.loads(running.request("GET", "/path/x").body)["path"] == "x"
    running.wait_for_line("Using worker: asgi")


@TRICORN
@pytest.mark.parametrize("name", ["wsgi", "wsgi_instance", "wsgi_partial"])
def test_any_other_callable_is_served_as_wsgi(server, name):
    running = server.start(f"asgi_kinds:{name}")
    assert running.request().body == b"wsgi"
    running.wait_for_line("Using worker: sync")


@TRICORN
@pytest.mark.parametrize("how", ["flag", "file", "environment"])
def test_a_worker_class_that_was_given_stays(server, how):
    more = {
        "flag": {"worker": "sync"},
        "file": {"config": "worker_class = 'sync'"},
        "environment": {"env": {"GUNICORN_CMD_ARGS": "-k sync"}},
    }[how]
    running = server.start("asgi_kinds:function", **more)
    assert running.request().status == 500
    running.wait_for_line("Using worker: sync")


@TRICORN
@pytest.mark.parametrize("how", [("-w", "2"), ("--preload",)])
def test_it_is_chosen_by_itself_for_every_worker(server, how):
    running = server.start("asgi_kinds:instance", *how)
    count = 2 if "-w" in how else 1
    running.wait_for_workers(count)
    assert running.request().body == b"asgi"
    running.send_signal(signal.SIGHUP)
    running.wait_for_line("Worker exiting")
    assert running.request().body == b"asgi"


def test_it_is_chosen_by_its_dotted_name(server):
    running = server.start("asgi_kinds:function", "-k", "gunicorn.workers.gasgi.ASGIWorker")
    assert running.request().body == b"asgi"


def test_a_wsgi_application_in_it_is_a_500_and_not_the_end(server):
    running = server.start("asgi_kinds:wsgi", worker="asgi")
    (pid,) = running.wait_for_workers(1)
    for _ in range(2):
        assert running.request().status == 500
    assert running.workers() == [pid]
    running.wait_for_line("Error in ASGI application")


def test_it_says_where_it_listens(server):
    running = server.start("asgi_app:app", "-b", "127.0.0.1:0", worker="asgi")
    ports = sorted(re.search(r":(\d+)$", url)[1] for url in running.urls)
    assert len(ports) == 2
    wait_until(lambda: len(running.log.matches("ASGI server listening on")) == 2, what="both lines")
    said = sorted(match[1] for match in running.log.matches(r"ASGI server listening on .*:(\d+)"))
    assert said == ports
    for port in ports:
        running.port = int(port)
        assert running.request("GET", "/pid").status == 200


def test_threads_are_of_no_use_and_it_says_so(server):
    running = server.start("asgi_app:app", "--threads", "3", worker="asgi")
    running.wait_for_line(r"\[WARNING\].*(?i:asgi worker does not use `?threads)")
    assert running.request("GET", "/pid").status == 200


# ---- the loop
@pytest.mark.parametrize("loop, module", [("auto", "uvloop"), ("uvloop", "uvloop"), ("asyncio", "asyncio")])
def test_the_loop_is_the_one_that_was_asked_for(server, loop, module):
    running = server.shared("asgi_app:app", "--asgi-loop", loop, worker="asgi")
    assert literal(running.request("GET", "/current"))["loop"] == module


@pytest.fixture
def without_uvloop(tmp_path):
    """An environment in which uvloop cannot be imported."""
    (tmp_path / "uvloop.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'uvloop'\", name='uvloop')"
    )
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))}


def test_auto_is_asyncio_where_there_is_no_uvloop(server, without_uvloop):
    running = server.start("asgi_app:app", env=without_uvloop, worker="asgi")
    assert literal(running.request("GET", "/current"))["loop"] == "asyncio"


@TRICORN
def test_a_missing_uvloop_is_one_clear_line(server, without_uvloop):
    """Gunicorn warns, and takes another loop than it was told."""
    running = server.start(
        "asgi_app:app", "--asgi-loop", "uvloop", env=without_uvloop, worker="asgi", wait=None
    )
    assert running.wait(20) == 1
    lines = [line for line in running.log.text().splitlines() if "uvloop" in line]
    assert len(lines) == 1
    assert "Traceback" not in running.log.text()


# ---- settings
def settings(server, *args):
    done = subprocess.run(
        [sys.executable, "-m", server.name, *args, "--print-config", "asgi_app:app"],
        cwd=FIXTURES,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    lines = (line.partition(" = ") for line in done.stdout.splitlines())
    return {name.strip(): text for name, _, text in lines}


def test_print_config_shows_its_settings(server):
    defaults = {
        "asgi_loop": "auto",
        "asgi_lifespan": "auto",
        "asgi_disconnect_grace_period": "3",
        "websocket_max_message_size": "16777216",
        "root_path": "",
    }
    shown = settings(server, "-k", "asgi")
    assert {name: shown[name] for name in defaults} == defaults
    assert shown["worker_class"].endswith("ASGIWorker") or shown["worker_class"] == "asgi"


def test_print_config_shows_what_was_given(server):
    given = {
        "asgi_loop": "asyncio",
        "asgi_lifespan": "off",
        "asgi_disconnect_grace_period": "7",
        "websocket_max_message_size": "0",
        "root_path": "/here",
    }
    flags = [word for name, text in given.items() for word in (f"--{name.replace('_', '-')}", text)]
    shown = settings(server, "-k", "asgi", *flags)
    assert {name: shown[name] for name in given} == given


@pytest.mark.parametrize(
    "flag, value",
    [
        ("--asgi-loop", "nonsense"),
        ("--asgi-lifespan", "perhaps"),
        ("--asgi-disconnect-grace-period", "-1"),
        ("--websocket-max-message-size", "-1"),
    ],
)
def test_nonsense_is_refused_before_anything_listens(server, flag, value):
    running = server.start("asgi_app:app", flag, value, worker="asgi", wait=None)
    assert running.wait() == 1
    assert not running.log.matches("Listening at")


# ---- its end
def test_term_lets_the_request_in_flight_finish(server, tmp_path):
    running = server.start("asgi_app:app", worker="asgi")
    with running.connect() as client:
        held = Held(client, tmp_path)
        running.send_signal(signal.SIGTERM)
        running.wait_for_line("Handling signal: term")
        client.expect_silent(0.3)
        held.let_go()
        client.expect_closed()
    assert running.wait() == 0


def test_term_lets_the_download_in_flight_finish(server):
    running = server.start("asgi_app:app", worker="asgi")
    with running.connect(receive_buffer=65536) as client:
        client.send(request_bytes("GET", "/length?size=20000000"))
        response = client.read_head()
        running.send_signal(signal.SIGTERM)
        running.wait_for_line("Handling signal: term")
        client.read_body(response)
        assert response.body == b"x" * 20_000_000
    assert running.wait() == 0


@TRICORN
def test_a_draining_worker_says_close_and_idle_connections_end(server, tmp_path):
    """Gunicorn leaves idle connections to their keepalive time, and promises to stay."""
    running = server.start("asgi_app:app", "--keep-alive", "20", worker="asgi")
    with running.connect() as idle, running.connect() as busy:
        assert idle.request("GET", "/pid").status == 200
        held = Held(busy, tmp_path)
        running.send_signal(signal.SIGTERM)
        idle.expect_closed(within=3)
        assert held.let_go().get("Connection") == "close"
        busy.expect_closed()
    assert running.wait(10) == 0


@TRICORN
def test_a_background_task_is_finished_before_the_worker_leaves(server):
    config = "import atexit, sys\n"
    running = server.start("asgi_stop:app", config=config, worker="asgi")
    assert running.request("GET", "/background?ms=700").body == b"answered"
    assert running.stop() == 0
    lines = running.log.text().splitlines()
    assert lines.index("background done") < next(
        n for n, line in enumerate(lines) if "Worker exiting" in line
    )


def test_what_takes_longer_than_the_graceful_timeout_is_cut(server, tmp_path):
    running = server.start("asgi_app:app", "--graceful-timeout", "1", worker="asgi")
    with running.connect() as client:
        Held(client, tmp_path)
        running.send_signal(signal.SIGTERM)
        with pytest.raises(Closed):
            client.read_response()
    assert running.wait(10) == 0


def test_a_quick_stop_does_not_wait(server, tmp_path):
    running = server.start("asgi_app:app", worker="asgi")
    with running.connect() as client:
        Held(client, tmp_path)
        running.send_signal(signal.SIGQUIT)
        try:
            assert client.read_response().status == 500
        except Closed:
            pass
    assert running.wait(8) == 0


@TRICORN
def test_a_quick_stop_cancels_applications_and_lets_them_clean_up(server):
    """Gunicorn cancels them too, and does not wait for what they do then."""
    running = server.start("asgi_stop:app", worker="asgi")
    with running.connect() as client:
        client.send(request_bytes("GET", "/cancelled"))
        running.wait_for_line("cancelled begun")
        running.send_signal(signal.SIGINT)
        running.wait_for_line("cancelled cleaned up")
    assert running.wait(10) == 0


def test_max_requests_answers_the_last_request_with_close(server):
    running = server.start("asgi_app:app", "--max-requests", "3", worker="asgi")
    with running.connect() as client:
        answers = [client.request("GET", "/pid") for _ in range(3)]
        assert [answer.get("Connection") for answer in answers][2] == "close"
        client.expect_closed()
    first = int(answers[0].body)
    running.wait_for_line("Autorestarting worker after current request")
    wait_until(lambda: not os.path.exists(f"/proc/{first}"), what="the end of the recycled worker")
    assert int(running.request("GET", "/pid").body) != first


@TRICORN
@pytest.mark.parametrize("request_", [KEPT, ONCE], ids=["kept", "closed"])
def test_max_requests_under_load_loses_nothing(server, request_):
    running = server.start(
        "asgi_app:app", "-w", "2", "--max-requests", "300", "--max-requests-jitter", "50", worker="asgi"
    )
    crowd = Crowd(running.port, 20, request_, seconds=60)
    tally = asyncio.run(crowd.run(lambda: crowd.stops_after(4, 10)))
    assert (tally.failures, tally.refused) == ([], 0)
    assert set(tally.statuses) == {200}
    assert len(tally.bodies) > 2, "no worker was recycled"


@TRICORN
@pytest.mark.parametrize("request_", [KEPT, ONCE], ids=["kept", "closed"])
def test_hup_under_load_loses_nothing(server, request_):
    running = server.start("asgi_app:app", "-w", "2", worker="asgi")
    crowd = Crowd(running.port, 30, request_, seconds=30)

    async def conductor():
        await crowd.hears_another(10)
        for _ in range(2):
            running.send_signal(signal.SIGHUP)
            await crowd.hears_another(10)
        await crowd.hears_more_than(100, 10)
        crowd.stop()

    tally = asyncio.run(crowd.run(conductor))
    assert (tally.failures, tally.refused) == ([], 0)
    assert set(tally.statuses) == {200} and tally.answered > 100
    assert len(tally.bodies) >= 3, "the workers were not replaced"
    running.wait_for_line("Worker exiting")
    assert running.stop() == 0


@TRICORN
def test_term_under_load_fails_nothing_that_was_accepted(server):
    running = server.start("asgi_app:app", "-w", "2", worker="asgi")
    crowd = Crowd(running.port, 30, ONCE, seconds=30)

    async def conductor():
        await crowd.hears_another(10)
        running.send_signal(signal.SIGTERM)
        await asyncio.to_thread(running.process.wait, 20)
        crowd.stop()

    tally = asyncio.run(crowd.run(conductor))
    assert tally.failures == []
    assert running.wait() == 0


def test_hup_lets_the_request_in_flight_finish(server, tmp_path):
    running = server.start("asgi_app:app", worker="asgi")
    with running.connect() as client:
        first = int(running.request("GET", "/pid").body)
        held = Held(client, tmp_path)
        running.send_signal(signal.SIGHUP)
        wait_until(lambda: len(running.log.matches("Booting worker")) == 2, what="the new worker")
        held.let_go()
    wait_until(lambda: not os.path.exists(f"/proc/{first}"), what="the end of the old worker")
    assert int(running.request("GET", "/pid").body) != first


def test_two_workers_share_the_work(server):
    running = server.start("asgi_app:app", "-w", "2", worker="asgi")
    running.wait_for_workers(2)
    pids = set()
    wait_until(lambda: pids.add(running.request("GET", "/pid").body) or len(pids) == 2, what="both workers")


def test_usr1_and_winch_leave_a_worker_alone(server, tmp_path):
    log = tmp_path / "access.log"
    running = server.start("asgi_app:app", "--access-logfile", str(log), worker="asgi")
    (first,) = running.wait_for_workers(1)
    assert int(running.request("GET", "/pid").body) == first
    wait_until(log.exists, what="the log")
    log.rename(tmp_path / "access.log.1")
    for number in (signal.SIGWINCH, signal.SIGUSR1):
        os.kill(first, number)
    wait_until(log.exists, what="the reopened log")
    assert int(running.request("GET", "/pid?after").body) == first
    wait_until(lambda: "after" in log.read_text(), what="a line in the reopened log")


# ---- hooks
HOOKS = """
import sys

def tell(*words):
    sys.stderr.write(" ".join(map(str, ["hook", *words])) + "\\n")

def post_worker_init(worker):
    tell("init", callable(worker.asgi), worker.alive, worker.booted)

def pre_request(worker, req):
    tell("pre", worker.alive, req.method, req.path, req.uri, req.query, req.version, req.scheme)
    if req.path == "/refuse":
        raise RuntimeError("the hook fails on purpose")

def post_request(worker, req, environ, resp):
    tell("post", req.path, environ and environ["PATH_INFO"], resp and resp.status, resp and resp.sent)
    if req.query == "fail":
        raise RuntimeError("the other hook fails on purpose")

def worker_int(worker):
    tell("int")

def worker_exit(server, worker):
    tell("exit")
"""


def told(running):
    return [match[1] for match in running.log.matches("^hook (.*)")]


def test_hooks_run_around_each_request(server):
    running = server.start("asgi_app:app", config=HOOKS, worker="asgi")
    assert running.request("GET", "/whole/%C3%BC?size=5").body == b"wwwww"
    running.wait_for_line("hook post")
    assert running.stop() == 0
    assert told(running) == [
        "init True True False",
        "pre True GET /whole/ü /whole/%C3%BC?size=5 size=5 (1, 1) http",
        "post /whole/ü None None None",
        "exit",
    ]


def test_the_hook_behind_a_request_knows_the_answer_when_there_is_an_access_log(server):
    running = server.start("asgi_app:app", "--access-logfile", "-", config=HOOKS, worker="asgi")
    assert running.request("GET", "/whole?size=5").body == b"wwwww"
    running.wait_for_line("hook post /whole /whole 200 5")
    assert running.request("GET", "/crash").status == 500
    running.wait_for_line("hook post /crash /crash 500")


def test_a_failing_hook_before_a_request_is_a_500(server):
    running = server.start("asgi_app:app", config=HOOKS, worker="asgi")
    assert running.request("GET", "/refuse").status == 500
    running.wait_for_line("RuntimeError: the hook fails on purpose")
    assert running.request("GET", "/pid").status == 200


def test_a_failing_hook_behind_a_request_is_in_the_log_only(server):
    running = server.start("asgi_app:app", config=HOOKS, worker="asgi")
    assert running.request("GET", "/pid?fail").status == 200
    running.wait_for_line("Exception in post_request hook")
    running.wait_for_line("RuntimeError: the other hook fails on purpose")
    assert running.request("GET", "/pid").status == 200


def test_a_quick_stop_runs_worker_int(server):
    running = server.start("asgi_app:app", config=HOOKS, worker="asgi")
    (pid,) = running.wait_for_workers(1)
    assert running.request("GET", "/pid").status == 200
    os.kill(pid, signal.SIGINT)
    running.wait_for_line("hook int")
    running.wait_for_line("hook exit")


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("given", ["", "request_buffering = True\n"])
def test_a_setting_that_has_no_meaning_here_is_named(server, given):
    running = server.start("asgi_app:app", config=given, worker="asgi")
    assert running.request("GET", "/pid").status == 200
    warned = running.log.matches(r"\[WARNING\] ASGI worker does not use request_buffering: receive\(\)")
    assert len(warned) == bool(given)


# ---- the access log
def test_a_request_is_a_line_in_the_access_log(server, tmp_path):
    log = tmp_path / "access.log"
    running = server.start("asgi_app:app", "--access-logfile", str(log), worker="asgi")
    running.request("GET", "/whole?size=123", [("User-Agent", "test/1"), ("Referer", "here")])
    running.request("POST", "/blocks?count=2&size=4", body=b"x")
    running.request("HEAD", "/whole?size=7")
    running.request("GET", "/crash")
    running.request("GET", "/status?code=204", version="HTTP/1.0")
    lines = wait_until(lambda: (t := log.read_text().splitlines())[4:] and t, what="five lines")
    shape = re.compile(r"127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] (.*)")
    assert [shape.fullmatch(line)[1] for line in lines[:3]] == [
        '"GET /whole?size=123 HTTP/1.1" 200 123 "here" "test/1"',
        '"POST /blocks?count=2&size=4 HTTP/1.1" 200 8 "-" "-"',
        '"HEAD /whole?size=7 HTTP/1.1" 200 0 "-" "-"',
    ]
    assert '"GET /crash HTTP/1.1" 500' in lines[3]
    assert re.search(r'"GET /status\?code=204 HTTP/1.0" 204 (0|-) ', lines[4])


def test_the_atoms_of_the_access_log(server, tmp_path):
    log = tmp_path / "access.log"
    pattern = "%(h)s %(m)s %(U)s %(q)s %(H)s %(s)s %(B)s %({x-mine}i)s %({content-type}o)s %(p)s %(r)s"
    running = server.start(
        "asgi_app:app", "--access-logfile", str(log), "--access-logformat", pattern, worker="asgi"
    )
    running.request("GET", "/whole/a%20b?size=5", [("X-Mine", "yes")])
    (line,) = wait_until(lambda: log.read_text().splitlines(), what="a line")
    (pid,) = running.workers()
    request = "GET /whole/a%20b?size=5 HTTP/1.1"
    path = "/whole/a b" if "/whole/a b" in line else "/whole/a%20b"
    assert line == f"127.0.0.1 GET {path} size=5 HTTP/1.1 200 5 yes text/plain <{pid}> {request}"


def test_the_time_of_a_request_is_that_of_its_answer(server, tmp_path):
    log = tmp_path / "access.log"
    running = server.start(
        "asgi_app:app", "--access-logfile", str(log), "--access-logformat", "%(M)s %(D)s %(L)s", worker="asgi"
    )
    running.request("GET", "/sleep?ms=200")
    (line,) = wait_until(lambda: log.read_text().splitlines(), what="a line")
    milliseconds, microseconds, seconds = line.split()
    assert 190 <= int(milliseconds) < 1500
    assert 190_000 <= int(microseconds) < 1_500_000
    assert 0.19 <= float(seconds) < 1.5


@pytest.mark.servers("tricorn")
def test_a_request_that_is_refused_in_its_body_is_in_both_logs(server, tmp_path):
    """The application hears that its client is gone; an operator sees why."""
    log = tmp_path / "access.log"
    arguments = ("--access-logfile", str(log), "--limit-request-body", "1000")
    running = server.start("asgi_app:app", *arguments, worker="asgi")
    head = request_bytes("POST", "/digest", [("Transfer-Encoding", "chunked")])
    bodies = {413: b"800\r\n" + b"x" * 0x800 + b"\r\n0\r\n\r\n", 400: b"3\r\nabc\r\nsize\r\n"}
    for count, (status, body) in enumerate(bodies.items(), start=1):
        mark = running.log.mark()
        with running.connect() as client:
            client.send(head + body)
            assert client.read_response().status == status
        running.wait_for_line(r"\[WARNING\] Invalid request from ip=127.0.0.1: ", after=mark)
        lines = wait_until(lambda n=count: (t := log.read_text().splitlines())[n - 1 :] and t, what="a line")
        assert f'"POST /digest HTTP/1.1" {status} ' in lines[-1]
