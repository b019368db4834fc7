"""The arbiter's life as its users see it: start, hooks, pid file, workers that die, the end."""

import os
import re
import signal
import time
from pathlib import Path

import pytest
from harness.servers import wait_until

pytestmark = pytest.mark.timeout(120)

HOOKS = """
import os, threading
def say(*words):
    with open(os.environ["STORY"], "a") as story:
        print(*words, file=story)
def nworkers_changed(server, new, old): say("nworkers_changed", new, old)
def on_starting(server): say("on_starting", len(server.LISTENERS), os.path.exists(os.environ["PIDFILE"]))
def when_ready(server): say("when_ready", len(server.LISTENERS), len(server.WORKERS))
def pre_fork(server, worker): say("pre_fork", worker.pid, worker.age, threading.active_count())
def post_fork(server, worker): say("post_fork", worker.pid == os.getpid(), worker.booted)
def post_worker_init(worker): say("post_worker_init", worker.wsgi.__name__, worker.booted, str(worker) == f"<Worker {os.getpid()}>")
def worker_int(worker): say("worker_int", worker.alive)
def worker_exit(server, worker): say("worker_exit", worker.pid == os.getpid())
def child_exit(server, worker): say("child_exit", worker.pid in server.WORKERS)
def on_reload(server): say("on_reload", server.cfg.workers)
def on_exit(server): say("on_exit", os.path.exists(os.environ["PIDFILE"]))
"""  # noqa: E501

FAILING = "raise RuntimeError('broken on purpose')\n"


def story_of(server, tmp_path, number):
    """Starts with every hook, lets one request by, stops with `number`; returns what the hooks said."""
    story, pidfile = tmp_path / "story", tmp_path / "pid"
    env = {"STORY": str(story), "PIDFILE": str(pidfile)}
    running = server.start("life:app", "-p", str(pidfile), config=HOOKS, env=env)
    wait_until(lambda: "post_worker_init" in story.read_text(), what="a booted worker")
    assert running.request().status == 200
    assert running.stop(number) == 0
    return story.read_text().splitlines()


def test_hooks_come_in_order_with_their_arguments(server, tmp_path):
    assert story_of(server, tmp_path, signal.SIGTERM) == [
        "nworkers_changed 1 None",
        "on_starting 0 True",
        "when_ready 1 0",
        "pre_fork [booting] 1 1",
        "post_fork True False",
        "post_worker_init app False True",
        "worker_exit True",
        "child_exit False",
        "on_exit False",
    ]


def test_a_quick_stop_calls_worker_int(server, tmp_path):
    lines = story_of(server, tmp_path, signal.SIGINT)
    assert lines.index("worker_int False") < lines.index("worker_exit True")


def test_the_log_tells_the_life_of_the_server(server):
    running = server.start("life:app", "-w", "2")
    running.wait_for_workers(2)
    running.request()
    assert running.stop() == 0
    text = running.log.text()
    version = r"Starting (gunicorn|tricorn) \d+\.\d+\.\d+"
    for pattern in (version, rf"Listening at: {running.urls[0]} \({running.pid}\)", "Using worker: sync"):
        assert re.search(rf"\[{running.pid}\] \[INFO\] {pattern}$", text, re.M), pattern
    booted = re.findall(r"\[(\d+)\] \[INFO\] Booting worker with pid: (\d+)$", text, re.M)
    assert len(booted) == 2 and all(own == told for own, told in booted)
    assert re.findall(r"Worker exiting \(pid: (\d+)\)", text)
    assert "[INFO] Handling signal: term" in text
    assert text.rstrip().endswith("[INFO] Shutting down: Master")


@pytest.mark.servers("tricorn")
def test_the_first_answer_comes_within_a_second(server):
    begin = time.monotonic()
    running = server.start("life:app")
    assert running.request().status == 200
    assert time.monotonic() - begin < 1


# ---- pid file


def test_the_pid_file_lives_as_long_as_the_arbiter(server, tmp_path):
    path = tmp_path / "pid"
    path.write_text("999999999\n")
    running = server.start("life:app", "-p", str(path))
    assert path.read_text() == f"{running.pid}\n"
    assert path.stat().st_mode & 0o777 == 0o644
    assert running.stop() == 0
    assert not path.exists()


def test_a_live_pid_file_is_respected(server, tmp_path):
    path = tmp_path / "pid"
    path.write_text(f"{os.getpid()}\n")
    running = server.start("life:app", "-p", str(path), wait=None)
    assert running.wait() == 1
    said = f"Error: Already running on PID {os.getpid()} (or pid file '{path}' is stale)"
    assert said in running.log.text()
    assert path.read_text() == f"{os.getpid()}\n"


def test_a_pid_file_that_is_somebody_elses_by_now_is_left_alone(server, tmp_path):
    path = tmp_path / "pid"
    running = server.start("life:app", "-p", str(path))
    path.write_text("1\n")
    assert running.stop() == 0
    assert path.read_text() == "1\n"


def test_a_pid_file_without_a_directory(server, tmp_path):
    running = server.start("life:app", "-p", str(tmp_path / "no" / "pid"), wait=None)
    assert running.wait() == 1
    assert f"{tmp_path}/no doesn't exist. Can't create pidfile." in running.log.text()


# ---- workers that fail


def test_a_worker_that_is_killed_is_replaced(server):
    running = server.start("life:app", "-w", "2")
    victim = running.wait_for_workers(2)[0]
    os.kill(victim, signal.SIGKILL)
    running.wait_for_line(rf"\[ERROR\] Worker \(pid:{victim}\) was sent SIGKILL! Perhaps out of memory\?")
    wait_until(lambda: len(set(running.workers()) - {victim}) == 2, what="a new worker")


def test_an_application_that_does_not_load_ends_the_server_with_3(server, tmp_path):
    (tmp_path / "broken.py").write_text(FAILING)
    running = server.start("broken:app", cwd=tmp_path, wait=None)
    assert running.wait() == 3
    text = running.log.text()
    assert "[ERROR] Exception in worker process" in text and "broken on purpose" in text
    assert re.search(r"\[ERROR\] Worker \(pid:\d+\) exited with code 3\.$", text, re.M)
    assert "[ERROR] Reason: Worker failed to boot." in text


def test_an_application_that_is_not_found_ends_the_server_with_4(server):
    running = server.start("life:nothing", wait=None)
    assert running.wait() == 4
    assert "Failed to find attribute 'nothing' in 'life'." in running.log.text()
    assert "[ERROR] Reason: App failed to load." in running.log.text()


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("attempt", range(3))
def test_six_workers_that_fail_together_end_the_server_cleanly(server, tmp_path, attempt):
    (tmp_path / "broken.py").write_text(FAILING)
    config = "def on_exit(server): server.log.info('on_exit was called')\n"
    pidfile = tmp_path / "pid"
    running = server.start(
        "broken:app", "-w", "6", "-p", str(pidfile), cwd=tmp_path, config=config, wait=None
    )
    assert running.wait() == 3
    assert not pidfile.exists()
    text = running.log.text()
    assert text.count("on_exit was called") == text.count("Shutting down: Master") == 1
    # Siblings that had not come as far get TERM.
    assert 1 <= text.count("exited with code 3.") <= 6


@pytest.mark.servers("tricorn")
def test_workers_that_die_young_are_not_forked_without_end(server, tmp_path):
    (tmp_path / "mayfly.py").write_text("import os, threading\nos._exit(1)\n")
    running = server.start("mayfly:app", "-w", "2", cwd=tmp_path)
    time.sleep(3)
    forks = len(running.log.matches("Booting worker"))
    assert 4 <= forks <= 16, f"{forks} forks in three seconds"
    assert running.stop() == 0


def test_a_worker_past_its_timeout_is_ended_and_replaced(server):
    config = "def worker_abort(worker): worker.log.info('worker_abort was called')\n"
    running = server.start("life:app", "-t", "1", config=config)
    first = int(running.request().body)
    with running.connect() as connection:
        connection.send(b"GET /sleep?30 HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_for_line(rf"\[CRITICAL\] WORKER TIMEOUT \(pid:{first}\)", 10)
        running.wait_for_line("worker_abort was called")
    wait_until(lambda: running.workers() and first not in running.workers(), what="a new worker")
    assert int(running.request().body) != first
    if server.name == "tricorn":
        running.wait_for_line(rf"Worker \(pid:{first}\) was busy with GET /sleep\?30 for \d+\.\d s")


def test_a_worker_that_ignores_abrt_is_killed_a_second_later(server):
    running = server.start("life:app", "-t", "1")
    with running.connect() as connection:
        connection.send(b"GET /deaf HTTP/1.1\r\nHost: x\r\n\r\n")
        victim = running.wait_for_line(r"WORKER TIMEOUT \(pid:(\d+)\)")[1]
        running.wait_for_line(rf"Worker \(pid:{victim}\) was sent SIGKILL!", 5)


def test_an_application_that_takes_longer_than_timeout_to_load_is_waited_for(server, tmp_path):
    (tmp_path / "heavy.py").write_text("import time\ntime.sleep(3)\nfrom hello import app\n")
    fixtures = str(Path(__file__).parent.parent / "fixtures")
    running = server.start("heavy:app", "-t", "1", "--pythonpath", fixtures, cwd=tmp_path)
    with running.connect(timeout=15) as connection:
        assert connection.request().status == 200
    assert "WORKER TIMEOUT" not in running.log.text()


def test_max_requests_replaces_the_worker(server):
    running = server.start("life:app", "--max-requests", "3")
    first = [running.request() for _ in range(3)]
    assert len({answer.body for answer in first}) == 1
    running.wait_for_line(r"\[INFO\] Autorestarting worker after current request\.")
    wait_until(lambda: running.workers() and running.workers() != [int(first[0].body)], what="a new worker")
    assert running.request().body != first[0].body


def test_strangers_of_pid_1_are_reaped_quietly(server, tmp_path):
    config = "import os\ndef when_ready(server):\n    if os.fork() == 0:\n        os._exit(3)\n"
    running = server.start("life:app", config=config)
    assert running.request().status == 200
    zombies = [pid for pid in children_of(running.pid) if state_of(pid) == "Z"]
    wait_until(
        lambda: not [pid for pid in children_of(running.pid) if state_of(pid) == "Z"], what="no zombie"
    )
    assert running.process.poll() is None, zombies
    assert "exited with code 3" not in running.log.text()


def children_of(parent):
    tasks = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in tasks.read_text().split()]


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return None


@pytest.mark.servers("tricorn")
def test_workers_do_not_outlive_a_killed_arbiter(server):
    running = server.start("life:app", "-w", "2")
    workers = running.wait_for_workers(2)
    assert running.request().status == 200
    running.send_signal(signal.SIGKILL)
    running.process.wait(5)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 5, "the end of the workers")
    assert "Parent changed, shutting down: <Worker" in running.log.text()


# ---- environment, preload, titles, privileges


def test_raw_env_reaches_the_application(server):
    running = server.start("life:app", "-e", "COLOUR=green", "-e", "EMPTY=")
    assert running.request(target="/env?COLOUR").body == b"green"
    assert running.request(target="/env?EMPTY").body == b""


def test_preload_loads_the_application_once_in_the_arbiter(server, tmp_path):
    (tmp_path / "loud.py").write_text(
        "import os, sys\nprint('loaded in', os.getpid())\nfrom hello import app\n"
    )
    fixtures = str(Path(__file__).parent.parent / "fixtures")
    running = server.start("loud:app", "--preload", "-w", "2", "--pythonpath", fixtures, cwd=tmp_path)
    running.wait_for_workers(2)
    running.request()
    assert running.stop() == 0
    assert [match[1] for match in running.out.matches(r"loaded in (\d+)")] == [str(running.pid)]


def test_process_titles(server):
    pytest.importorskip("setproctitle")
    running = server.start("life:app", "-n", "shop")
    running.request()

    def title(pid):
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()

    assert title(running.pid) == f"{server.name}: master [shop]"
    assert title(running.workers()[0]) == f"{server.name}: worker [shop]"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the user")
def test_workers_change_their_user_and_lose_the_groups_of_root(server):
    import pwd

    nobody = pwd.getpwnam("nobody")
    running = server.start("life:app", "-u", "nobody", "-g", str(nobody.pw_gid))
    lines = running.request(target="/who").body.decode().splitlines()
    who = dict(line.split(":", 1) for line in lines)
    assert set(who["Uid"].split()) == {str(nobody.pw_uid)}
    assert set(who["Gid"].split()) == {str(nobody.pw_gid)}
    if server.name == "tricorn":
        assert set(who["Groups"].split()) <= {str(nobody.pw_gid)}
    assert os.stat(f"/proc/{running.pid}").st_uid == 0
