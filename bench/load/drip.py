"""A thousand clients that send a request one byte a second, until SIGTERM. `python drip.py PORT`

One that is thrown out comes back at once, as an attacker would.
"""

import asyncio
import random
import sys

CLIENTS = 1000
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"z" * 1000


async def drip(port: int) -> None:
    await asyncio.sleep(random.random())
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in REQUEST:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(1)
        except OSError:
            await asyncio.sleep(0.1)


async def main(port: int) -> None:
    await asyncio.gather(*(drip(port) for _ in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
