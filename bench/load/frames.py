"""WebSocket connections as cheap as Python has them: frames made beforehand, over blocking sockets.

No client for anything else: what comes back is compared or counted, never parsed. Source: RFC 6455.
"""

import os
import socket

TEXT, BINARY = 1, 2
SECONDS = 10
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def message(size: int) -> tuple[int, bytes]:
    """Opcode and payload: text when it is short, as most messages are."""
    return (TEXT, b"t" * size) if size < 1024 else (BINARY, b"b" * size)


def frame(opcode: int, payload: bytes, masked: bool = True) -> bytes:
    """One message in one frame; a client masks, a server does not."""
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes([0x80 | opcode, bit | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x80 | opcode, bit | 127]) + size.to_bytes(8, "big")
    if not masked:
        return head + payload
    # A mask of zeros would be one that a server may see through.
    mask = os.urandom(4)
    stream = (mask * (size // 4 + 1))[:size]
    body = int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")
    return head + mask + body.to_bytes(size, "big")


def opened(port: int, opcode: int, payload: bytes) -> socket.socket:
    """A connection on which one message was echoed. Raises OSError, and ValueError with what came instead."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.sendall(HANDSHAKE)
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = connection.recv(1)
        if not byte:
            raise ValueError(f"the handshake was answered with {head[:60]!r}")
        head += byte
    if not head.startswith(b"HTTP/1.1 101"):
        raise ValueError(f"the handshake was answered with {head[:60]!r}")
    connection.sendall(frame(opcode, payload))
    wanted = frame(opcode, payload, masked=False)
    got = b""
    while len(got) < len(wanted) and (more := connection.recv(len(wanted) - len(got))):
        got += more
    if not got:
        raise ValueError(f"the connection ended instead of echoing {len(payload):,} bytes")
    if got != wanted:
        raise ValueError(f"a message came back as {got[:20]!r}")
    return connection
