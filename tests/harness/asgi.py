"""What the ASGI fixtures tell: answers that are Python literals, and what was remembered under a mark."""

from __future__ import annotations

import ast

from harness.http import Response
from harness.servers import Running, wait_until


def literal(response: Response):
    """The Python literal in the body of an answer."""
    assert response.status == 200, (response.status, response.body)
    return ast.literal_eval(response.body.decode())


def seen(running: Running, mark: str) -> list:
    """What was remembered under `mark` so far."""
    return literal(running.request("GET", f"/seen?mark={mark}"))


def wait_for_seen(running: Running, mark: str, what: object, seconds: float = 10.0) -> list:
    """Waits until `what` (a string: its beginning) is remembered; returns everything remembered."""

    def fact() -> list | None:
        have = seen(running, mark)
        for one in have:
            if one == what or (isinstance(what, str) and str(one).startswith(what)):
                return have
        return None

    return wait_until(fact, seconds, f"{what!r} under {mark}")  # type: ignore[return-value]


def open_gate(running: Running, mark: str, times: int = 1) -> None:
    """Lets requests pass the gate `mark`."""
    assert running.request("GET", f"/open?mark={mark}&times={times}").body == b"open"
