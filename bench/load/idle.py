"""Opens connections, sends one request on each, keeps them. `python idle.py PORT COUNT`

Prints the number that were answered once all are open, and holds them until its stdin is closed. Gives up
after a while: a server that holds a thread for each connection would take hours.
"""

import socket
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
SECONDS = 5


def main(port: int, count: int) -> None:
    kept = []
    until = time.monotonic() + SECONDS
    while len(kept) < count and time.monotonic() < until:
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
            connection.sendall(REQUEST)
            if not connection.recv(65536).startswith(b"HTTP/1.1 200"):
                break
        except OSError:
            break
        kept.append(connection)
    print(len(kept), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
