"""Calls that take their time: `/?ms=5` answers after 5 milliseconds, with the process id."""

import os
import time
from urllib.parse import parse_qs


def app(environ, start_response):
    ms = float(parse_qs(environ["QUERY_STRING"]).get("ms", ["0"])[0])
    if ms:
        time.sleep(ms / 1000)
    body = b"%d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
