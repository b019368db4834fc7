"""WebSockets that keep an echo busy. `python echo.py PORT CONNECTIONS SIZE IN_FLIGHT`

Each connection sends so many messages of so many bytes, waits until as many bytes have come back as their
echoes have, and sends them again. For each line on its stdin it prints how many messages have come back since
the start, as one JSON object; it ends with its stdin. The first message of a connection is compared, later
ones are counted: the client only has to keep the server busy, for it is the server's CPU that is measured.
"""

import gc
import json
import select
import socket
import sys
import time

from frames import frame, message, opened

STDIN = 0


class Talk:
    """A connection, where it is in its batch, and how many bytes of answers are still to come."""

    __slots__ = ("connection", "to_come", "offset")

    def __init__(self, connection: socket.socket, to_come: int):
        connection.setblocking(False)
        self.connection = connection
        self.to_come = to_come
        self.offset = 0


class Load:
    def __init__(self, port: int, connections: int, size: int, in_flight: int):
        opcode, payload = message(size)
        self.batch = memoryview(frame(opcode, payload) * in_flight)
        self.answer = len(frame(opcode, payload, masked=False))
        self.answers = self.answer * in_flight
        self.received = 0
        self.buffer = bytearray(1 << 20)
        self.poll = select.epoll()
        sockets = [opened(port, opcode, payload) for _ in range(connections)]
        self.talks = {one.fileno(): Talk(one, self.answers) for one in sockets}
        for fd in self.talks:
            self.poll.register(fd, select.EPOLLIN | select.EPOLLOUT)

    def run(self) -> None:
        self.poll.register(STDIN, select.EPOLLIN)
        while True:
            for fd, events in self.poll.poll():
                if fd == STDIN:
                    if not sys.stdin.readline():
                        return
                    said = {"messages": self.received / self.answer, "seconds": time.monotonic()}
                    print(json.dumps(said), flush=True)
                    continue
                talk = self.talks[fd]
                if events & ~select.EPOLLOUT:
                    self.read(talk)
                if events & select.EPOLLOUT:
                    self.write(talk)
                    if talk.offset == len(self.batch):
                        self.poll.modify(fd, select.EPOLLIN)

    def read(self, talk: Talk) -> None:
        size = talk.connection.recv_into(self.buffer)
        if not size:
            sys.exit("the server ended a connection")
        self.received += size
        talk.to_come -= size
        if talk.to_come < 0:
            sys.exit("more came back than was sent")
        if not talk.to_come:
            talk.to_come, talk.offset = self.answers, 0
            self.write(talk)
            if talk.offset < len(self.batch):
                self.poll.modify(talk.connection, select.EPOLLIN | select.EPOLLOUT)

    def write(self, talk: Talk) -> None:
        try:
            talk.offset += talk.connection.send(self.batch[talk.offset :])
        except BlockingIOError:
            pass


def main(port: int, connections: int, size: int, in_flight: int) -> None:
    gc.disable()
    try:
        Load(port, connections, size, in_flight).run()
    except (OSError, ValueError) as error:
        sys.exit(str(error) or type(error).__name__)


if __name__ == "__main__":
    main(*(int(word) for word in sys.argv[1:5]))
