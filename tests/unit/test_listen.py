"""Options of a listening socket that no client can see."""

import socket

import pytest
from tricorn import _core


def congestion_of(listener):
    return listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0")


@pytest.mark.skipif(not hasattr(socket, "TCP_CONGESTION"), reason="this system has one algorithm")
@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_bbr_is_left_out_where_all_peers_are_on_this_machine(host, local):
    with socket.socket() as other:
        default = congestion_of(other)
    with socket.socket(fileno=_core.listen_tcp(host, 0, 16, False)) as listener:
        paced = default.startswith(b"bbr")
        assert congestion_of(listener) == (b"reno" if paced and local else default)
        # What counts is what a connection gets.
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1])):
            listener.setblocking(True)
            accepted, _ = listener.accept()
            with accepted:
                assert congestion_of(accepted) == congestion_of(listener)
