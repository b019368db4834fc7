"""As `work.py`, over ASGI: `/?ms=5` answers after 5 milliseconds, with the process id."""

import asyncio
import os
from urllib.parse import parse_qs


async def app(scope, receive, send):
    ms = float(parse_qs(scope["query_string"].decode()).get("ms", ["0"])[0])
    if ms:
        await asyncio.sleep(ms / 1000)
    body = b"%d" % os.getpid()
    head = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})
