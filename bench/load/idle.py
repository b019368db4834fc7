"""Opens connections, asks once on each, keeps them. `python idle.py PORT COUNT [websocket]`

Asking is a request, or a WebSocket's handshake and one message that comes back. Prints the number that were
answered once all are open, and holds them until its stdin is closed. Gives up after a while: a server that
holds a thread for each connection would take hours.
"""

import resource
import socket
import sys
import time

from frames import message, opened

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SECONDS = {"http": 5, "websocket": 30}
MESSAGE = message(20)


def asked(port: int, kind: str) -> socket.socket:
    """A connection that was answered. Raises OSError and ValueError."""
    if kind == "websocket":
        return opened(port, *MESSAGE)
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS[kind])
    connection.sendall(REQUEST)
    if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
        raise ValueError("the request was not answered with 200")
    return connection


def main(port: int, count: int, kind: str) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept = []
    until = time.monotonic() + SECONDS[kind]
    while len(kept) < count and time.monotonic() < until:
        try:
            kept.append(asked(port, kind))
        except (OSError, ValueError) as error:
            print(error, file=sys.stderr)
            break
    print(len(kept), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), (sys.argv[3:] or ["http"])[0])
