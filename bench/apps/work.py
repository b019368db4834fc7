"""Calls that take their time: `/?ms=5&cpu=1` uses 1 ms of CPU and sleeps 5. The answer is the process id."""

import os
import time
from urllib.parse import parse_qs


def app(environ, start_response):
    query = parse_qs(environ["QUERY_STRING"])
    ms, cpu_ms = (float(query.get(name, ["0"])[0]) for name in ("ms", "cpu"))
    if cpu_ms:
        end = time.thread_time() + cpu_ms / 1000
        while time.thread_time() < end:
            pass
    if ms:
        time.sleep(ms / 1000)
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
