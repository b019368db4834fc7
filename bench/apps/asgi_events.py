"""Server-sent events over ASGI, a second apart: `events.py` says which."""

import asyncio
import time

from asgi_hello import app as plain
from asgi_hello import start
from events import due_times, event

HEAD = start((b"content-type", b"text/event-stream"), (b"cache-control", b"no-store"))


async def app(scope, receive, send):
    if scope["type"] != "http" or scope["path"] != "/events":
        return await plain(scope, receive, send)
    await send(HEAD)
    for due in due_times(scope["query_string"].decode()):
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        await send({"type": "http.response.body", "body": event(due), "more_body": True})
    await send({"type": "http.response.body"})
