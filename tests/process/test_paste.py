"""PasteDeploy: `use = egg:NAME#main` through runners: processes, signals, ends.

What Gunicorn's entry point does as well is tested against it.
"""

from __future__ import annotations

import os
import re
import signal

import pytest
from harness.paste import LOADED_SERVER, RUNNER, answer, refusal
from harness.servers import Running, free_port, wait_until

tricorn_only = pytest.mark.servers("tricorn")


# ---- what Gunicorn's entry point does as well


def test_host_and_port_of_the_section_are_listened_on(paste):
    port = free_port()
    running = paste(f"host = 127.0.0.1\nport = {port}", listen=False)
    assert running.port == port
    assert answer(running)["path"] == "/"
    assert running.stop() == 0


def test_bind_of_the_section_is_listened_on(paste):
    assert answer(paste(""))["scheme"] == "http"


def test_section_wins_over_the_configuration_file(paste, tmp_path):
    (tmp_path / "conf.py").write_text("proc_name = 'file'\nraw_env = ['FROM_THE_INI=file']\nworkers = 3\n")
    running = paste(f"config = {tmp_path}/conf.py\nworkers = 2\nraw_env = FROM_THE_INI=section")
    assert answer(running)["raw_env"] == "section"
    running.wait_for_workers(2)


def test_unknown_key_is_an_error_that_names_it(paste):
    running = paste("no_such_key = 1", wait=None)
    # pserve makes a 0 of every exit code, once it has loaded the application.
    assert running.wait() == (1 if running.name == "tricorn" else 0)
    assert "No configuration setting for: no_such_key" in running.log.text()


def test_request_in_flight_is_answered_at_term(paste):
    running = paste("worker_class = gthread\nthreads = 2")
    with running.connect() as client:
        client.send(b"GET /sleep?0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_for_line("sleeping")
        running.send_signal(signal.SIGTERM)
        assert client.read_response().status == 200
    assert running.wait() == 0


def test_paste_option_loads_the_application_in_the_worker(server, tmp_path):
    ini = tmp_path / "site.ini"
    ini.write_text("[app:main]\npaste.app_factory = paste_app:factory\n")
    running = server.start(None, "--paste", str(ini))
    seen = answer(running)
    assert seen["companion"] == "True"
    assert [int(seen["pid"])] == running.workers()


# ---- one worker: the server is the process that loaded the application


@tricorn_only
def test_one_worker_serves_in_the_process_that_loaded_the_application(paste):
    running = paste("")
    seen = answer(running)
    assert int(seen["pid"]) == running.pid
    assert seen["companion"] == "True"
    assert running.workers() == []
    assert [int(match[1]) for match in running.log.matches(r"loaded in (\d+)")] == [running.pid]


@tricorn_only
def test_without_a_word_about_workers_there_are_four_threads(paste):
    running = paste("")
    assert threads_of(running) <= {f"tricorn-{number}" for number in range(4)}
    assert running.wait_for_line("threads: 4")


@tricorn_only
@pytest.mark.parametrize(("keys", "count"), [("threads = 3", 3), ("worker_class = sync", 1)])
def test_threads_are_as_many_as_were_asked_for_and_stay(paste, keys, count):
    running = paste(keys)
    clients = [running.connect() for _ in range(count)]
    for client in clients:
        client.send(b"GET /sleep?0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
    names = [re.search(rb"thread=(.+)", client.read_response().body)[1] for client in clients]
    for client in clients:
        client.close()
    assert len(set(names)) == count
    assert threads_of(running) <= {name.decode() for name in names}
    assert answer(running)["multithread"] == str(count > 1)


def threads_of(running: Running) -> set[str]:
    return {answer(running)["thread"] for _ in range(20)}


@tricorn_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signal_returns_to_the_runner_that_closes_its_databases(paste, number):
    running = paste("", runner=RUNNER)
    assert running.stop(number) == 0
    assert f"runner {running.pid} closes its databases" in running.log.text()
    assert "was left with" not in running.log.text()


@tricorn_only
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_int_and_quit_do_not_wait_for_requests_in_flight(paste, number):
    running = paste("", runner=RUNNER)
    with running.connect() as client:
        client.send(b"GET /sleep?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_for_line("sleeping")
        assert running.stop(number, seconds=10) == 0
    assert f"runner {running.pid} closes its databases" in running.log.text()


@tricorn_only
def test_term_waits_for_requests_no_longer_than_graceful_timeout(paste):
    running = paste("graceful_timeout = 1", runner=RUNNER)
    with running.connect() as client:
        client.send(b"GET /sleep?60 HTTP/1.1\r\nHost: x\r\n\r\n")
        running.wait_for_line("sleeping")
        assert running.stop(signal.SIGTERM, seconds=10) == 0
    assert "after graceful_timeout" in running.log.text()
    assert f"runner {running.pid} closes its databases" in running.log.text()


@tricorn_only
def test_hup_says_that_nothing_is_reloaded_and_the_server_goes_on(paste):
    running = paste("")
    running.send_signal(signal.SIGHUP)
    running.wait_for_line("HUP is ignored")
    assert int(answer(running)["pid"]) == running.pid


@tricorn_only
def test_hooks_of_the_only_process_run_in_order(paste, tmp_path):
    hooks = ("on_starting", "when_ready", "post_worker_init", "worker_exit", "on_exit")
    text = "import sys\n"
    for name in hooks:
        arguments = "server, worker" if name == "worker_exit" else "it"
        text += f"def {name}({arguments}): sys.stderr.write('hook {name}\\n')\n"
    (tmp_path / "conf.py").write_text(text)
    running = paste(f"config = {tmp_path}/conf.py")
    assert running.stop() == 0
    assert [match[1] for match in running.log.matches("hook (.+)")] == list(hooks)


@tricorn_only
def test_pidfile_holds_the_only_process_and_goes_with_it(paste, tmp_path):
    running = paste(f"pidfile = {tmp_path}/pid")
    assert int((tmp_path / "pid").read_text()) == running.pid
    assert running.stop() == 0
    assert not (tmp_path / "pid").exists()


@tricorn_only
def test_address_in_use_leaves_with_an_error(paste):
    running = paste("")
    second = paste(f"bind = 127.0.0.1:{running.port}", listen=False, runner=RUNNER, wait=None)
    second.wait_for_line("was left with 1", seconds=20)
    assert "Connection in use" in second.log.text()


@tricorn_only
def test_term_ends_the_wait_for_an_address(paste):
    running = paste("")
    second = paste(f"bind = 127.0.0.1:{running.port}", listen=False, runner=RUNNER, wait=None)
    second.wait_for_line("Connection in use")
    assert second.stop(signal.SIGTERM, seconds=10) == 0
    assert f"runner {second.pid} closes its databases" in second.log.text()
    assert "Can't connect" not in second.log.text()


# ---- several workers: each loads the application through the runner


@tricorn_only
def test_several_workers_load_the_application_themselves(paste):
    running = paste("workers = 2\nthreads = 2", runner=RUNNER)
    workers = running.wait_for_workers(2)
    wait_until(lambda: len(running.log.matches("loaded in")) == 2, what="two loaded applications")
    assert {int(match[1]) for match in running.log.matches(r"loaded in (\d+)")} == set(workers)
    seen = answer(running)
    assert int(seen["pid"]) in workers
    assert (seen["companion"], seen["multiprocess"]) == ("True", "True")
    assert running.stop() == 0


@tricorn_only
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_end_of_a_worker_runs_no_line_of_the_runner(paste, number):
    running = paste("workers = 2", runner=RUNNER)
    wait_until(lambda: len(running.log.matches("serves")) == 2, what="two runners that serve")
    os.kill(running.wait_for_workers(2)[0], number)
    wait_until(lambda: len(running.log.matches("serves")) == 3, what="a new worker")
    assert running.stop(number) == 0
    assert "closes its databases" not in running.log.text()
    assert "was left with" not in running.log.text()


@tricorn_only
def test_hup_loads_the_application_anew(paste, tmp_path):
    running = paste("workers = 2", greeting="before")
    assert answer(running)["greeting"] == "before"
    ini = tmp_path / "site.ini"
    ini.write_text(ini.read_text().replace("before", "after"))
    running.send_signal(signal.SIGHUP)
    wait_until(lambda: answer(running)["greeting"] == "after", what="the new application")


@tricorn_only
def test_application_that_cannot_be_loaded_ends_the_server(paste):
    running = paste("workers = 2", app="fails = out of coffee", wait=None)
    assert running.wait() == 3
    assert "RuntimeError: out of coffee" in running.log.text()
    assert "Worker failed to boot" in running.log.text()


@tricorn_only
def test_max_requests_replaces_workers(paste):
    running = paste("workers = 2\nmax_requests = 3")
    before = set(running.wait_for_workers(2))
    wait_until(lambda: answer(running) and not before & set(running.workers()), what="new workers")


@tricorn_only
def test_application_loaded_first_is_not_forked(paste):
    text = refusal(paste("workers = 2", runner=RUNNER, arguments=("late",), wait=None))
    assert "the application has been loaded already" in text and "workers = 1" in text


@tricorn_only
@pytest.mark.parametrize("key", ["workers = 2", "daemon = true"])
def test_function_that_gets_a_loaded_application_refuses_to_fork(paste, key):
    running = paste(key, server_line=LOADED_SERVER, runner=RUNNER, wait=None)
    running.wait_for_line("was left with 1")
    assert f"the setting {key.split()[0]} forks" in running.log.text()


@tricorn_only
def test_function_that_gets_a_loaded_application_serves_it(paste):
    running = paste("", server_line=LOADED_SERVER)
    assert int(answer(running)["pid"]) == running.pid
    assert running.stop() == 0


@tricorn_only
def test_daemon_leaves_the_terminal_before_the_application_is_loaded(paste, tmp_path):
    log = tmp_path / "error.log"
    running = paste(f"daemon = true\npidfile = {tmp_path}/pid\nerrorlog = {log}", wait=None)
    assert running.wait() == 0
    wait_until((tmp_path / "pid").exists, what="the pid file")
    pid = int((tmp_path / "pid").read_text())
    listening = re.compile(r"Listening at: http://127.0.0.1:(\d+)")
    running.port = int(wait_until(lambda: listening.search(log.read_text()), what="the line in the log")[1])
    seen = wait_until(lambda: answer(running), what="an answer")
    assert (int(seen["pid"]), seen["companion"]) == (pid, "True")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "pid").exists(), what="the end of the pid file")
