"""What the ASGI scenarios ask for; the path names it. Beside `hello.py`, which answers the same over WSGI."""

import asyncio

TEXT = (b"content-type", b"text/plain; charset=utf-8")
BINARY = (b"content-type", b"application/octet-stream")
BLOCK = b"y" * 512


def start(*headers):
    return {"type": "http.response.start", "status": 200, "headers": [*headers]}


async def hello(scope, receive, send):
    await send(start(TEXT, (b"content-length", b"13")))
    await send({"type": "http.response.body", "body": b"Hello, World!"})


async def suspend(scope, receive, send):
    await asyncio.sleep(0)
    await hello(scope, receive, send)


async def post(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = b"%d" % size
    await send(start(TEXT, (b"content-length", b"%d" % len(body))))
    await send({"type": "http.response.body", "body": body})


async def stream(scope, receive, send):
    await send(start(BINARY))
    for _ in range(20):
        await send({"type": "http.response.body", "body": BLOCK, "more_body": True})
    await send({"type": "http.response.body"})


ROUTES = {"/suspend": suspend, "/post": post, "/stream": stream}


async def app(scope, receive, send):
    if scope["type"] == "http":
        await ROUTES.get(scope["path"], hello)(scope, receive, send)
    elif scope["type"] == "lifespan":
        # As far as the protocol goes; there is nothing to start or to stop.
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
