"""Where the server listens: addresses, unix sockets, inherited descriptors."""

import os
import re
import signal
import socket
import stat
import time

import pytest
from harness.http import Connection
from harness.servers import Held, free_port, wait_until

pytestmark = pytest.mark.timeout(120)


def answers(address):
    with Connection(address) as connection:
        return connection.request().status == 200


def test_several_addresses(server, tmp_path):
    path = str(tmp_path / "sock")
    running = server.start("life:app", "-b", "[::1]:0", "-b", f"unix:{path}")
    assert len(running.urls) == 3
    assert running.urls[2] == f"unix:{path}"
    assert re.fullmatch(r"http://\[::1\]:\d+", running.urls[1])
    assert answers(running.port) and answers(path)
    with socket.create_connection(("::1", int(running.urls[1].rpartition(":")[2]))) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize("form", ["localhost:{}", "tcp://127.0.0.1:{}", ":{}"])
def test_forms_of_an_address(server, form):
    port = free_port()
    running = server.start("life:app", bind=form.format(port))
    assert running.port == port and answers(port)


@pytest.mark.parametrize("mask", [0o000, 0o177])
def test_the_mode_of_a_unix_socket_follows_umask(server, tmp_path, mask):
    path = tmp_path / "sock"
    running = server.start("life:app", "-m", str(mask), bind=f"unix:{path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o777 & ~mask
    assert answers(str(path))
    assert running.stop() == 0
    assert not path.exists()


def test_a_stale_socket_is_replaced(server, tmp_path):
    path = str(tmp_path / "sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    server.start("life:app", bind=f"unix:{path}")
    assert answers(path)


def test_a_file_in_the_place_of_a_socket_is_refused(server, tmp_path):
    path = tmp_path / "precious"
    path.write_text("data")
    running = server.start("life:app", bind=f"unix:{path}", wait=None)
    assert running.wait() == 1
    assert f"'{path}' is not a socket" in running.log.text()
    assert path.read_text() == "data"


@pytest.mark.servers("tricorn")
def test_a_symbolic_link_in_the_place_of_a_socket_is_refused(server, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "other"))
        (tmp_path / "sock").symlink_to(tmp_path / "other")
        running = server.start("life:app", bind=f"unix:{tmp_path / 'sock'}", wait=None)
        assert running.wait() == 1
        assert (tmp_path / "other").exists()


@pytest.mark.servers("tricorn")
def test_the_socket_file_of_a_successor_is_not_removed(server, tmp_path):
    path = tmp_path / "sock"
    first = server.start("life:app", bind=f"unix:{path}")
    server.start("life:app", bind=f"unix:{path}")
    assert first.stop() == 0
    assert answers(str(path))


# Gunicorn 27 makes a file of that name.
@pytest.mark.servers("tricorn")
def test_abstract_sockets(server, tmp_path):
    name = f"tests-{os.getpid()}-{server.name}"
    running = server.start("life:app", config=f"bind = 'unix:\\0{name}'", bind=None, wait="Listening at")
    assert answers(f"\0{name}")
    assert running.stop() == 0


def test_inherited_descriptors(server):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        running = server.start("life:app", bind=f"fd://{fd}", pass_fds=(fd,))
        assert running.port == listener.getsockname()[1]
        assert answers(running.port)
        assert running.stop() == 0
        # Ours is as it was: nobody ended the listening or filters what comes.
        with socket.create_connection(listener.getsockname(), 2):
            listener.accept()[0].close()


def test_systemd_listeners_win_over_bind(server):
    start = "import os, sys; os.environ['LISTEN_PID'] = str(os.getpid()); os.dup2(int(sys.argv[1]), 3); "
    start += "os.execv(sys.executable, [sys.executable, *sys.argv[2:]])"
    import sys

    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd = listener.fileno()
        os.set_inheritable(fd, True)
        running = server.start(
            "life:app", env={"LISTEN_FDS": "1"}, python=(sys.executable, "-c", start, str(fd)), pass_fds=(fd,)
        )
        assert running.port == listener.getsockname()[1]
        assert running.request(target="/env?LISTEN_FDS").body == b"unset"


def test_systemd_is_told_when_the_server_is_ready(server, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        server.start("life:app", env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
        assert manager.recv(1024).startswith(b"READY=1\n")


def test_reuse_port_opens_one_socket_a_worker(server):
    port = free_port()
    running = server.start(
        "life:app", "--reuse-port", "-w", "2", bind=f"127.0.0.1:{port}", wait=r"Using worker"
    )
    running.wait_for_workers(2)

    def answered():
        try:
            return answers(port)
        except ConnectionRefusedError:
            return False

    wait_until(answered, what="an answer")
    assert running.stop() == 0


def test_an_address_in_use_is_tried_five_times(server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        begin = time.monotonic()
        running = server.start("life:app", bind=f"127.0.0.1:{port}", wait=None)
        assert running.wait() == 1
        assert time.monotonic() - begin > 3.5
    address = re.escape(f"('127.0.0.1', {port})")
    failed = rf"\[ERROR\] connection to {address} failed: \[Errno 98\] Address already in use"
    assert len(running.log.matches(rf"\[ERROR\] Connection in use: {address}")) == 5
    assert len(running.log.matches(failed)) == 5
    assert len(running.log.matches(rf"\[ERROR\] Can't connect to {address}")) == 1


def test_an_address_that_comes_free_is_taken(server):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        running = server.start("life:app", bind=f"127.0.0.1:{port}", wait="Connection in use")
    running.wait_for_line("Listening at")
    assert answers(port)


@pytest.mark.servers("tricorn")
def test_newcomers_are_refused_at_once_while_a_stop_waits_for_a_long_request(server, tmp_path):
    running = server.start("web:app", "-w", "2")
    with running.connect() as slow:
        held = Held(slow, tmp_path)
        wait_until(lambda: running.request("GET", "/pid").status == 200, what="an answer beside the slow one")
        running.send_signal(signal.SIGTERM)
        running.wait_for_line("Handling signal: term")

        def refused():
            try:
                socket.create_connection(("127.0.0.1", running.port), 3).close()
            except ConnectionRefusedError:
                return True
            return False

        wait_until(refused, 1.5, "a refusal")
        held.let_go()
    assert running.wait() == 0
