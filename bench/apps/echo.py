"""A WebSocket that says what it hears, and a page for the question whether the server is there."""

from asgi_hello import app as plain


async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return await plain(scope, receive, send)
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] != "websocket.receive":
            return
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})
