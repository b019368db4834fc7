"""A raw HTTP/1 client for tests: bytes out as given, answers in under the strict grammar.

Not a client for applications: it never redirects, retries or forgives. Every deviation from RFC 9112 in an
answer is a `WireError`, which pytest shows as a failed assertion with the bytes that broke the rule.
"""

from __future__ import annotations

import base64
import re
import select
import socket
import struct
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)\Z")
FIELD_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}\Z")
SINGLE_FIELDS = (
    "connection",
    "content-length",
    "content-type",
    "date",
    "location",
    "server",
    "transfer-encoding",
)


class WireError(AssertionError):
    """The server's bytes are not a well-formed HTTP/1 answer, or are not there."""


class Closed(WireError):
    """The server closed the connection before the answer was complete."""


@dataclass
class Response:
    """One answer, and everything that came before it on its way."""

    version: str
    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    framing: str = "none"  # "length", "chunked", "close" or "none"
    chunks: list[bytes] = field(default_factory=list)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[Response] = field(default_factory=list)

    def get(self, name: str, default: str | None = None) -> str | None:
        """Value of a field that appears at most once."""
        values = self.get_all(name)
        if len(values) > 1:
            raise WireError(f"{name} appears {len(values)} times: {values}")
        return values[0] if values else default

    def get_all(self, name: str) -> list[str]:
        """All values of a field, in the order they were sent."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    @property
    def keeps_alive(self) -> bool:
        """What the answer says about the connection's future."""
        says = (self.get("Connection") or "").lower()
        if self.version == "HTTP/1.0":
            return says == "keep-alive" and self.framing != "close"
        return says != "close" and self.framing != "close"


def basic_auth(name: str, password: str) -> tuple[str, str]:
    """The field of RFC 7617."""
    return "Authorization", "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def request_bytes(
    method: str = "GET",
    target: str = "/",
    fields: Iterable[tuple[str, str]] | None = None,
    body: bytes | None = None,
    *,
    version: str = "HTTP/1.1",
    host: str | None = "test",
) -> bytes:
    """The bytes of a plain request; a body gets a Content-Length unless `fields` frame it."""
    lines = [f"{method} {target} {version}"]
    given = list(fields or ())
    names = {name.lower() for name, _ in given}
    if host is not None and "host" not in names:
        lines.append(f"Host: {host}")
    if body is not None and not names & {"content-length", "transfer-encoding"}:
        lines.append(f"Content-Length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in given]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def chunked(*blocks: bytes, trailers: Sequence[tuple[str, str]] = ()) -> bytes:
    """A chunked body of the given blocks."""
    out = b"".join(b"%x\r\n%s\r\n" % (len(block), block) for block in blocks)
    return out + b"0\r\n" + b"".join(f"{n}: {v}\r\n".encode() for n, v in trailers) + b"\r\n"


class Connection:
    """One TCP (or unix) connection to a server under test.

    Units: `timeout` is in seconds and bounds every single wait for bytes.
    """

    def __init__(
        self, address: int | tuple[str, int] | str, timeout: float = 10.0, receive_buffer: int | None = None
    ):
        self.timeout = timeout
        if isinstance(address, int):
            address = ("127.0.0.1", address)
        family = (
            socket.AF_UNIX
            if isinstance(address, str)
            else (socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        )
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(address)
        if family != socket.AF_UNIX:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.ended = False

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- out
    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_pieces(self, data: bytes, size: int = 1, pause: float = 0.0) -> None:
        """Sends `data` in pieces of `size` bytes, each in a segment of its own."""
        for start in range(0, len(data), size):
            self.socket.sendall(data[start : start + size])
            if pause:
                time.sleep(pause)

    def request(self, method: str = "GET", target: str = "/", fields=None, body=None, **how) -> Response:
        """Sends a plain request and reads its answer."""
        self.send(request_bytes(method, target, fields, body, **how))
        return self.read_response(method)

    def half_close(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Leaves with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # ---- in
    def _fill(self) -> bool:
        """Reads once. False at the end of the stream."""
        if self.ended:
            return False
        try:
            data = self.socket.recv(262144)
        except TimeoutError:
            raise WireError(f"nothing came within {self.timeout} s; so far {self.buffer[:200]!r}") from None
        except ConnectionResetError:
            self.ended = True
            raise Closed(f"connection reset; so far {self.buffer[:200]!r}") from None
        if not data:
            self.ended = True
            return False
        self.buffer += data
        return True

    def read_line(self) -> bytes:
        """A line without its CRLF. A bare CR or LF is an error."""
        while b"\n" not in self.buffer:
            if not self._fill():
                raise Closed(f"closed in the middle of a line: {self.buffer[:200]!r}")
        line, _, self.buffer = self.buffer.partition(b"\n")
        if not line.endswith(b"\r") or b"\r" in line[:-1]:
            raise WireError(f"line does not end in CRLF: {line[:200]!r}")
        return line[:-1]

    def read_exactly(self, count: int) -> bytes:
        parts, have = [self.buffer[:count]], min(count, len(self.buffer))
        self.buffer = self.buffer[count:]
        while have < count:
            if not self._fill():
                raise Closed(f"closed after {have} of {count} bytes")
            part = self.buffer[: count - have]
            self.buffer = self.buffer[len(part) :]
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def read_to_end(self) -> bytes:
        parts = [self.buffer]
        self.buffer = b""
        while self._fill():
            parts.append(self.buffer)
            self.buffer = b""
        return b"".join(parts)

    def _read_fields(self) -> list[tuple[str, str]]:
        fields = []
        while line := self.read_line():
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.match(name):
                raise WireError(f"not a field line: {line[:200]!r}")
            if not FIELD_VALUE.match(value):
                raise WireError(f"control bytes in a field value: {line[:200]!r}")
            fields.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return fields

    def read_head(self) -> Response:
        """Status line and fields of the next answer, interim ones included."""
        line = self.read_line()
        match = STATUS_LINE.match(line)
        if not match:
            raise WireError(f"not a status line: {line[:200]!r}")
        response = Response(
            f"HTTP/1.{match[1].decode()}",
            int(match[2]),
            match[3].decode("latin-1"),
            self._read_fields(),
        )
        for name in SINGLE_FIELDS:
            response.get(name)
        return response

    def read_response(self, method: str = "GET") -> Response:
        """The next final answer with its body; interim ones (1xx but 101) are in `interim`."""
        interim = []
        while True:
            response = self.read_head()
            if response.status >= 200 or response.status == 101:
                break
            interim.append(response)
        response.interim = interim
        self.read_body(response, method)
        return response

    def read_body(self, response: Response, method: str = "GET") -> None:
        """Reads the body that belongs to `response` as RFC 9112 section 6.3 frames it."""
        length, coding = response.get("Content-Length"), response.get("Transfer-Encoding")
        if coding is not None and length is not None:
            raise WireError("both Content-Length and Transfer-Encoding")
        if length is not None and not length.isdecimal():
            raise WireError(f"Content-Length is {length!r}")
        if response.status < 200 or response.status == 204:
            if coding is not None or length is not None:
                raise WireError(f"a {response.status} answer must not frame a body")
            return
        if method == "HEAD" or response.status == 304:
            return
        if coding is not None:
            if coding.lower() != "chunked" or response.version == "HTTP/1.0":
                raise WireError(f"Transfer-Encoding {coding!r} on {response.version}")
            response.framing = "chunked"
            self._read_chunks(response)
        elif length is not None:
            response.framing = "length"
            response.body = self.read_exactly(int(length))
        else:
            response.framing = "close"
            response.body = self.read_to_end()

    def _read_chunks(self, response: Response) -> None:
        while True:
            line = self.read_line()
            if not CHUNK_SIZE.match(line):
                raise WireError(f"not a chunk size: {line[:80]!r}")
            size = int(line, 16)
            if size == 0:
                break
            response.chunks.append(self.read_exactly(size))
            if self.read_exactly(2) != b"\r\n":
                raise WireError("chunk data is not followed by CRLF")
        response.trailers = self._read_fields()
        response.body = b"".join(response.chunks)

    # ---- the connection itself
    def expect_closed(self, within: float | None = None) -> None:
        """The server closes, and sends nothing more before it does. An RST counts as closed."""
        before = self.socket.gettimeout()
        if within is not None:
            self.socket.settimeout(within)
        try:
            self._fill()
        except Closed:
            pass
        finally:
            self.socket.settimeout(before)
        if self.buffer:
            raise WireError(f"bytes nobody asked for: {self.buffer[:300]!r}")
        if not self.ended:
            raise WireError("the connection is still open")

    def expect_silent(self, seconds: float) -> None:
        """Neither bytes nor the end of the stream come for `seconds`."""
        if self.buffer:
            raise WireError(f"bytes nobody asked for: {self.buffer[:300]!r}")
        readable, _, _ = select.select([self.socket], [], [], seconds)
        if readable:
            self._fill()
            raise WireError(f"expected silence, got {self.buffer[:300]!r}{' and the end' * self.ended}")

    def is_open(self) -> bool:
        """Whether the server still holds the connection and has sent nothing."""
        readable, _, _ = select.select([self.socket], [], [], 0)
        return not readable and not self.buffer and not self.ended
