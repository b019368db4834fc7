"""Short connections, some at a time: how are they shared out? `python short.py PORT` prints one JSON object.

The application is `bench/apps/work.py`, which answers with the process id of its worker.
"""

import asyncio
import json
import sys
from collections import Counter

CONNECTIONS = 800
AT_ONCE = 16


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /?ms=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.rpartition(b"\r\n\r\n")[2]


async def main(port: int) -> None:
    workers: Counter[bytes] = Counter()
    left = CONNECTIONS

    async def visit() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            workers[await ask(port)] += 1

    await asyncio.gather(*(visit() for _ in range(AT_ONCE)))
    print(json.dumps({"workers": sorted(workers.values(), reverse=True)}))


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
