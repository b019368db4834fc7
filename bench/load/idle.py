"""Opens connections, sends one request on each, keeps them. `python idle.py PORT COUNT`

Prints the number that were answered once all are open, and holds them until its stdin is closed.
"""

import socket
import sys

REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


def main(port: int, count: int) -> None:
    kept = []
    for _ in range(count):
        connection = socket.create_connection(("127.0.0.1", port), timeout=10)
        connection.sendall(REQUEST)
        if connection.recv(65536).startswith(b"HTTP/1.1 200"):
            kept.append(connection)
    print(len(kept), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
