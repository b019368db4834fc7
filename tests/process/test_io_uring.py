"""Answers to several clients that leave by one system call, where the system allows that (`io_uring`)."""

from __future__ import annotations

import ctypes
import os
from contextlib import ExitStack, suppress

import pytest
from harness.http import request_bytes
from harness.servers import Held

pytestmark = pytest.mark.servers("tricorn")

# io_uring_setup(2), on every kind of processor.
IO_URING_SETUP = 425
# What containers do: the call fails with EPERM. The steps: load its number, compare, refuse, allow.
FORBIDDEN = f"""
def post_fork(server, worker):
    import ctypes, struct
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, {IO_URING_SETUP}), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
    assert prctl(22, 2, program) == 0, ctypes.get_errno()  # PR_SET_SECCOMP, by a filter
"""


def whole(size: int) -> bytes:
    third = size // 3
    return b"a" * third + b"b" * third + b"c" * (size - 2 * third)


def burst(running, folder, sizes: list[int], clients: int = 24) -> None:
    """Requests that all wait while another one is in the application; each answer has a length of its own."""
    with ExitStack() as stack:
        connections = [stack.enter_context(running.connect()) for _ in range(clients)]
        held = Held(stack.enter_context(running.connect()), folder)
        for number, connection in enumerate(connections):
            targets = (f"/whole?size={size + number}" for size in sizes)
            connection.send(b"".join(request_bytes("GET", target) for target in targets))
        held.let_go()
        for number, connection in enumerate(connections):
            for size in sizes:
                assert connection.read_response().body == whole(size + number), (number, size)
            connection.expect_silent(0)


def rings(running) -> int:
    folder = f"/proc/{running.wait_for_workers(1)[0]}/fd"
    found = 0
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # one that is closed while we look is none
            found += "io_uring" in os.readlink(os.path.join(folder, name))
    return found


def is_to_be_had() -> bool:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(120))
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


@pytest.mark.workers("sync")
@pytest.mark.parametrize(
    ("arguments", "config", "expected", "said"),
    [
        ((), None, 1, "Answers that leave together leave by io_uring"),
        (("--no-io-uring",), None, 0, None),
        ((), "io_uring = False", 0, None),
        ((), FORBIDDEN, 0, "Each answer is sent on its own, io_uring is not to be had: Operation not"),
    ],
    ids=["allowed", "by command line", "by configuration", "forbidden"],
)
def test_there_is_a_ring_where_it_is_wanted_and_allowed(
    server, worker, tmp_path, arguments, config, expected, said
):
    if expected and not is_to_be_had():
        pytest.skip("io_uring is not to be had here")
    running = server.start("web:app", "--log-level", "debug", *arguments, config=config, worker=worker)
    assert running.request("GET", "/whole?size=9").body == whole(9)
    if said:
        running.log.wait_for(said)
    else:
        assert not running.log.matches("by io_uring|io_uring is not")
    # From the start: where asking for one ends a process, it should not end under load.
    assert rings(running) == expected
    burst(running, tmp_path, [100])
    assert rings(running) == expected


@pytest.mark.parametrize("how", ["allowed", "forbidden"])
@pytest.mark.parametrize(
    "sizes",
    [[100], [200, 300, 400], [100, 70_000, 200, 300], [70_000, 100, 80_000, 200], [300_000, 100]],
    ids=str,
)
def test_every_client_gets_its_answers_once_and_in_order(server, worker, tmp_path, how, sizes):
    config = FORBIDDEN if how == "forbidden" else None
    running = server.shared("web:app", config=config, worker=worker)
    for _ in range(3):
        burst(running, tmp_path, sizes)


def test_clients_that_left_or_do_not_read_hold_nobody_up(server, worker, tmp_path):
    running = server.shared("web:app", worker=worker)
    with ExitStack() as stack:
        connect = lambda: stack.enter_context(running.connect())  # noqa: E731
        gone, full, patient = ([connect() for _ in range(6)] for _ in range(3))
        held = Held(connect(), tmp_path)
        for client in gone:
            client.send(request_bytes("GET", "/whole?size=100") * 4)
        for client in full:
            client.send(request_bytes("GET", "/whole?size=60000") * 200)
        for client in patient:
            client.send(request_bytes("GET", "/whole?size=300") * 4)
        for client in gone:
            client.reset()
        held.let_go()
        for client in patient:
            assert [client.read_response().body for _ in range(4)] == [whole(300)] * 4
        # Those that read late get all of it.
        for client in full:
            assert all(client.read_response().body == whole(60_000) for _ in range(200))
    assert running.request("GET", "/whole?size=9").body == whole(9)
