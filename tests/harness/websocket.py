"""A raw WebSocket client for tests: frames out as given, frames in under the strict grammar of RFC 6455.

Not a client for applications: it answers no ping and no close by itself. Every deviation of the server is a
`WireError`. With `deflate` the server may compress (RFC 7692), and `read_message` inflates.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

from harness.http import Connection, Response, WireError, request_bytes
from harness.servers import Running

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
DEFLATE_TAIL = b"\x00\x00\xff\xff"


@dataclass
class Frame:
    """One frame from the server."""

    opcode: int
    payload: bytes
    final: bool
    compressed: bool

    @property
    def code(self) -> int | None:
        """Code of a close frame, None when it has none."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) >= 2 else None

    @property
    def reason(self) -> str:
        """Reason of a close frame."""
        return self.payload[2:].decode()


def frame_bytes(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    masked: bool = True,
    reserved: int = 0,
    length_bytes: int | None = None,
) -> bytes:
    """A client's frame. `reserved` are RSV1 to RSV3 as a number, `length_bytes` (0, 2 or 8) a longer form."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    size = len(payload)
    if length_bytes is None:
        length_bytes = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length_bytes]
    head = bytes([first, short | (0x80 if masked else 0)])
    head += {0: b"", 2: struct.pack("!H", size & 0xFFFF), 8: struct.pack("!Q", size)}[length_bytes]
    if not masked:
        return head + payload
    mask = os.urandom(4)
    stream = (mask * (size // 4 + 1))[:size]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + mask + body.to_bytes(size, "big")


def close_bytes(code: int | None = None, reason: bytes = b"") -> bytes:
    """A close frame, with a body when there is a code."""
    return frame_bytes(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def handshake_fields(
    key: str, version: str | None = "13", protocols: str | None = None, extensions: str | None = None
) -> list[tuple[str, str]]:
    """The fields of an opening handshake."""
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Key", key)]
    for name, value in [("Version", version), ("Protocol", protocols), ("Extensions", extensions)]:
        if value is not None:
            fields.append((f"Sec-WebSocket-{name}", value))
    return fields


class WebSocket:
    """One connection; `response` is what the server answered to the handshake."""

    def __init__(
        self,
        running: Running,
        target: str,
        *,
        protocols: str | None = None,
        extensions: str | None = None,
        fields: Iterable[tuple[str, str]] = (),
        timeout: float = 10.0,
        expect: int = 101,
        early: bytes = b"",
        **how,
    ):
        self.connection: Connection = running.connect(timeout, **how)
        self.inflate: zlib._Decompress | None = None
        key = base64.b64encode(os.urandom(16)).decode()
        head = [*handshake_fields(key, protocols=protocols, extensions=extensions), *fields]
        self.connection.send(request_bytes("GET", target, head) + early)
        self.response: Response = self.connection.read_response()
        if self.response.status != expect:
            raise WireError(f"handshake answered {self.response.status} {self.response.body!r}")
        if expect == 101:
            self._check(key, protocols, extensions)

    def _check(self, key: str, protocols: str | None, extensions: str | None) -> None:
        response = self.response
        accept = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        if response.get("Sec-WebSocket-Accept") != accept:
            raise WireError(f"Sec-WebSocket-Accept is {response.get('Sec-WebSocket-Accept')!r}")
        if (response.get("Upgrade") or "").lower() != "websocket":
            raise WireError(f"Upgrade is {response.get('Upgrade')!r}")
        if (response.get("Connection") or "").lower() != "upgrade":
            raise WireError(f"Connection is {response.get('Connection')!r}")
        agreed = response.get("Sec-WebSocket-Extensions")
        if agreed is not None:
            if extensions is None or not agreed.startswith("permessage-deflate"):
                raise WireError(f"extension nobody offered: {agreed!r}")
            self.inflate = zlib.decompressobj(wbits=-15)

    def __enter__(self) -> WebSocket:
        return self

    def __exit__(self, *exc: object) -> None:
        self.connection.close()

    # ---- out
    def send_frame(self, opcode: int, payload: bytes = b"", **how) -> None:
        self.connection.send(frame_bytes(opcode, payload, **how))

    def send(self, data: str | bytes) -> None:
        """One message in one frame."""
        text = isinstance(data, str)
        self.send_frame(TEXT if text else BINARY, data.encode() if text else data)

    def send_close(self, code: int | None = None, reason: bytes = b"") -> None:
        self.connection.send(close_bytes(code, reason))

    # ---- in
    def read_frame(self) -> Frame:
        first, second = self.connection.read_exactly(2)
        opcode, size = first & 0x0F, second & 0x7F
        if second & 0x80:
            raise WireError("a server must not mask")
        if first & 0x30 or (first & 0x40 and self.inflate is None):
            raise WireError(f"reserved bits in {first:#x}")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise WireError(f"opcode {opcode}")
        if opcode >= CLOSE and (size > 125 or not first & 0x80):
            raise WireError("a control frame is neither long nor fragmented")
        if size == 126:
            (size,) = struct.unpack("!H", self.connection.read_exactly(2))
            if size < 126:
                raise WireError("length is not minimal")
        elif size == 127:
            (size,) = struct.unpack("!Q", self.connection.read_exactly(8))
            if size < 65536:
                raise WireError("length is not minimal")
        return Frame(opcode, self.connection.read_exactly(size), bool(first & 0x80), bool(first & 0x40))

    def read_message(self) -> str | bytes:
        """The next message; control frames in between are an error."""
        frame = self.read_frame()
        if frame.opcode not in (TEXT, BINARY):
            raise WireError(f"expected a message, got {frame}")
        parts, last = [frame.payload], frame
        while not last.final:
            last = self.read_frame()
            if last.opcode != CONTINUATION:
                raise WireError(f"expected a continuation, got {last}")
            parts.append(last.payload)
        data = b"".join(parts)
        if frame.compressed:
            data = self.inflate.decompress(data + DEFLATE_TAIL)  # type: ignore[union-attr]
        return data.decode() if frame.opcode == TEXT else data

    def read_close(self) -> Frame:
        """The close frame, which is next."""
        frame = self.read_frame()
        if frame.opcode != CLOSE:
            raise WireError(f"expected a close frame, got {frame}")
        return frame

    def expect_closed(self, within: float | None = None) -> None:
        """The connection itself ends, with nothing more on it."""
        self.connection.expect_closed(within)

    def leave(self, code: int = 1000) -> None:
        """Ends in good order: close frame, the server's, end of the connection."""
        self.send_close(code)
        if self.read_close().code != code:
            raise WireError("the server did not echo the code")
        self.expect_closed()
