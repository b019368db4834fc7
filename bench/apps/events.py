"""Server-sent events over WSGI, a second apart. `/events?count=14&at=own`; see `asgi_events.py` for the same.

Each event is the moment it was due, by the monotonic clock, which all processes of a machine share: whoever
reads it knows how late it is. `own`: a second after each other from the request on; `same`: at the full
second, for all streams at once. Every other path answers at once.
"""

import math
import time
from urllib.parse import parse_qs


def due_times(query):
    """When the events of a request are due."""
    asked = parse_qs(query)
    now = time.monotonic()
    begin = math.ceil(now) if asked["at"] == ["same"] else now
    return [begin + number for number in range(int(asked["count"][0]))]


def event(due):
    return b"data: %.6f\n\n" % due


def events(query):
    for due in due_times(query):
        time.sleep(max(0.0, due - time.monotonic()))
        yield event(due)


def app(environ, start_response):
    if environ["PATH_INFO"] != "/events":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]
    start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
    return events(environ["QUERY_STRING"])
