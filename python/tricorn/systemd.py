"""What systemd hands to a service and wants to hear from it: socket activation and readiness."""

import os

FIRST_FD = 3


def listen_fds():
    """How many listeners systemd opened for this very process, from descriptor 3 on.

    The variables are removed, so that no child takes them for its own.
    """
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = int(os.environ.get("LISTEN_FDS", 0))
    del os.environ["LISTEN_PID"]
    os.environ.pop("LISTEN_FDS", None)
    return count


def notify(state, log):
    """Tell systemd a state, if it asked to be told."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    import socket

    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(address)
            sender.sendall(state.encode())
    except OSError:
        log.debug("Exception while notifying systemd", exc_info=True)
