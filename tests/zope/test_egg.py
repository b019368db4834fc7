"""Zope's own runner with `use = egg:tricorn#main`: processes, databases, signals; and `tricorn --paste`."""

from __future__ import annotations

import json
import signal
from collections import Counter

import pytest
from harness.http import basic_auth, request_bytes
from harness.servers import wait_until

pytestmark = pytest.mark.servers("tricorn")

ADMIN = basic_auth("admin", "admin")
POOL_SIZE = 7


@pytest.fixture
def runwsgi(server):
    """Starts an instance through Zope's runner, with keys of the server section."""

    def start(instance, *keys, **how):
        section = "\n".join(("use = egg:tricorn#main", "listen = 127.0.0.1:0", *keys))
        ini = instance.write_ini(section)
        return server.start_command(str(instance.bin / "runwsgi"), str(ini), env=instance.env, **how)

    return start


def at_once(running, target, count, **how):
    """The statuses of `count` requests that are sent at the same time."""
    clients = [running.connect(timeout=60) for _ in range(count)]
    for client in clients:
        client.send(request_bytes("GET", target, **how))
    statuses = Counter(client.read_response().status for client in clients)
    for client in clients:
        client.close()
    return statuses


def connections(running, times=1):
    """By process: how many connections to the database it has made."""
    told = (json.loads(running.request("GET", "/@@exhibit-connections").body) for _ in range(times))
    return {each["pid"]: each["connections"] for each in told}


# ---- one line in the ini file


def test_fresh_instance_for_waitress_needs_one_changed_line(zope_bin, server, tmp_path, instance):
    fresh = type(instance)(tmp_path / "fresh", zope_bin)
    fresh.make()
    ini = fresh.folder / "etc" / "zope.ini"
    text = ini.read_text()
    assert "use = egg:waitress#main" in text
    # The port is changed for the test's sake.
    ini.write_text(text.replace("egg:waitress#main", "egg:tricorn#main").replace("port = 8080", "port = 0"))
    running = server.start_command(str(zope_bin / "runwsgi"), str(ini))
    assert running.request("GET", "/manage_main", [ADMIN]).status == 200
    assert running.workers() == []
    running.wait_for_line("threads: 4")
    assert running.stop(signal.SIGTERM) == 0
    event_log = (fresh.folder / "var" / "log" / "event.log").read_text()
    assert "Listening at" in event_log and "Traceback" not in event_log


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_end_closes_the_database_and_removes_the_pid_file(instance, runwsgi, number):
    running = runwsgi(instance)
    assert running.request("GET", "/docs/d1").status == 200
    pid_file = instance.folder / "var" / "zope.pid"
    wait_until(pid_file.exists, what="the pid file")
    assert running.stop(number) == 0
    assert not pid_file.exists()
    # A closed database has left its index.
    assert (instance.folder / "var" / "Data.fs.index").exists()


# ---- databases


def wait_for_count(running, count):
    """Until every update is seen. A worker hears a little later from ZEO what another one has committed."""
    wait_until(
        lambda: int(running.request("GET", "/@@exhibit-value").body) == count,
        what=f"a counter that stands at {count}",
    )


def test_zeo_client_lives_on_in_the_process_that_serves(zeo_instance, runwsgi):
    running = runwsgi(zeo_instance, "threads = 2")
    told = json.loads(running.request("GET", "/@@exhibit-connections").body)
    assert (told["pid"], told["storage"]) == (running.pid, "ClientStorage")
    assert at_once(running, "/@@exhibit-count", 20) == {200: 20}
    assert running.stop(signal.SIGTERM, seconds=10) == 0


def test_workers_on_zeo_lose_no_update(zeo_instance, runwsgi):
    running = runwsgi(zeo_instance, "workers = 2", "threads = 2")
    answered = sum((at_once(running, "/@@exhibit-count?pause=0.005", 20) for _ in range(5)), Counter())
    assert answered[200] >= 99, answered
    wait_for_count(running, answered[200])


def test_pid_file_of_a_server_with_workers_names_the_arbiter(zeo_instance, runwsgi):
    running = runwsgi(zeo_instance, "workers = 2")
    pid_file = zeo_instance.folder / "var" / "zope.pid"
    arbiter = str(running.pid)
    wait_until(lambda: pid_file.exists() and pid_file.read_text().strip() == arbiter, what="the arbiter's id")
    assert running.request("GET", "/").status == 200
    assert running.stop(signal.SIGTERM) == 0
    assert not pid_file.exists()
    assert "Exiting" not in running.out.text()


def test_workers_on_a_file_storage_are_refused(instance, runwsgi):
    running = runwsgi(instance, "workers = 2", wait=None)
    assert running.wait() == 3
    assert len(running.log.matches("a FileStorage belongs to one process.*ZEO or RelStorage")) == 1
    assert "Traceback" not in running.log.text()
    assert not (instance.folder / "var" / "zope.pid").exists()


def test_more_threads_than_the_pool_keeps_connections_for_are_warned_about(instance, runwsgi):
    running = runwsgi(instance, f"threads = {POOL_SIZE + 1}")
    running.wait_for_line(f"WARNING.*threads = {POOL_SIZE + 1} is more than the pool-size {POOL_SIZE}")
    instance.write_conf(more=f"pool-size {POOL_SIZE + 1}")
    running.stop()
    assert "pool-size" not in runwsgi(instance, f"threads = {POOL_SIZE + 1}").log.text()


@pytest.mark.parametrize(("keys", "made"), [(("worker_class = sync",), 1), (("threads = 4",), 4)])
def test_threads_make_as_many_connections_as_they_are(instance, runwsgi, keys, made):
    running = runwsgi(instance, *keys)
    assert at_once(running, "/@@exhibit-pause?seconds=0.05", 24) == {200: 24}
    assert connections(running) == {running.pid: made}


def test_workers_make_connections_of_their_own(zeo_instance, runwsgi):
    running = runwsgi(zeo_instance, "workers = 2", "threads = 2")
    assert at_once(running, "/@@exhibit-pause?seconds=0.1", 40) == {200: 40}
    made = connections(running, times=20)
    assert set(made) <= set(running.workers())
    assert set(made.values()) == {2}


def test_paste_option_serves_an_instance_with_its_server_section(zeo_instance, server):
    ini = zeo_instance.write_ini("use = egg:waitress#main\nthreads = 2\nclear_untrusted_proxy_headers = on")
    python = (str(zeo_instance.bin / "python"),)
    running = server.start(None, "--paste", str(ini), "-w", "2", python=python, env=zeo_instance.env)
    assert at_once(running, "/@@exhibit-count", 20) == {200: 20}
    wait_for_count(running, 20)
    running.wait_for_workers(2)


def test_workers_on_relstorage_lose_no_update_and_make_connections_of_their_own(relstorage_instance, server):
    ini = relstorage_instance.write_ini("use = egg:tricorn#main\nlisten = 127.0.0.1:0")
    python = (str(relstorage_instance.bin / "python"),)
    options = ("--paste", str(ini), "-w", "2", "--threads", "4")
    running = server.start(None, *options, python=python, env=relstorage_instance.env)
    answered = sum((at_once(running, "/@@exhibit-count?pause=0.005", 20) for _ in range(5)), Counter())
    assert answered[200] >= 99, answered
    assert int(running.request("GET", "/@@exhibit-value").body) == answered[200]
    assert at_once(running, "/@@exhibit-pause?seconds=0.1", 80) == {200: 80}
    made = connections(running, times=20)
    assert set(made) <= set(running.workers())
    assert set(made.values()) == {4}
    assert json.loads(running.request("GET", "/@@exhibit-connections").body)["storage"] == "RelStorage"
    # The blob is in the database; each worker fetches it into the folder that they share.
    assert len(running.request("GET", "/@@exhibit-download").body) == 1024 * 1024
    assert running.stop(signal.SIGTERM, seconds=10) == 0
    assert "Traceback" not in running.log.text()


def test_paste_option_with_workers_on_a_file_storage_says_why_it_stops(instance, server):
    ini = instance.write_ini("use = egg:tricorn#main\nlisten = 127.0.0.1:0")
    python = (str(instance.bin / "python"),)
    running = server.start(None, "--paste", str(ini), "-w", "2", python=python, env=instance.env, wait=None)
    assert running.wait() == 3
    assert "a FileStorage belongs to one process" in running.log.text()


@pytest.mark.parametrize("green", ["gevent", "eventlet"])
def test_green_threads_fill_the_pool_and_lose_no_update_where_they_are_patched_first(instance, server, green):
    ini = instance.write_ini("use = egg:tricorn#main\nlisten = 127.0.0.1:0")
    python = (str(instance.bin / "python"),)
    running = server.start(None, "--paste", str(ini), "-k", green, python=python, env=instance.env)
    assert at_once(running, "/@@exhibit-pause?seconds=0.05", 40) == {200: 40}
    assert set(connections(running).values()) == {POOL_SIZE}
    answered = at_once(running, "/@@exhibit-count", 40)[200]
    assert int(running.request("GET", "/@@exhibit-value").body) == answered > 0


@pytest.mark.parametrize("workers", [1, 2])
def test_green_threads_are_refused_in_the_server_section(zeo_instance, runwsgi, workers):
    running = runwsgi(zeo_instance, "worker_class = gevent", f"workers = {workers}", wait=None)
    assert running.wait() == 1
    assert "tricorn --paste" in running.log.text()


# ---- requests as Zope has them


def test_slow_reader_does_not_hold_the_only_thread(instance, runwsgi):
    running = runwsgi(instance, "threads = 1")
    size = int(running.request("HEAD", "/big").get("Content-Length"))
    with running.connect() as slow:
        slow.send(request_bytes("GET", "/big") + request_bytes("GET", "/@@exhibit-download"))
        assert running.request("GET", "/docs/d1").status == 200
        assert len(slow.read_response().body) == size
        assert len(slow.read_response().body) == size


def test_chunked_upload_is_stored_whole(instance, runwsgi):
    running = runwsgi(instance)
    data = bytes(range(256)) * 20_000
    chunks = (
        b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (data[:70_000], data[70_000:]))
        + b"0\r\n\r\n"
    )
    fields = [ADMIN, ("Transfer-Encoding", "chunked"), ("Content-Type", "application/octet-stream")]
    with running.connect(timeout=30) as client:
        client.send(request_bytes("PUT", "/big", fields) + chunks)
        assert client.read_response().status in (200, 201, 204)
    assert running.request("GET", "/big").body == data


def test_virtual_host_monster_makes_the_addresses_of_the_proxy(instance, runwsgi):
    running = runwsgi(instance)
    target = "/VirtualHostBase/https/www.example.org:443/docs/VirtualHostRoot/d1/absolute_url"
    assert running.request("GET", target).body == b"https://www.example.org/d1"
