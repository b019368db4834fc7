"""How many calls of the application the threads of a gthread worker have in progress under load."""

import asyncio

import pytest
from harness.crowd import Crowd
from harness.http import request_bytes

THREADS = 8


def calls_in_progress(running, work: float, wait: float) -> float:
    """The mean, as the calls see it at their end. Units: milliseconds of CPU and of waiting a call."""
    request = request_bytes("GET", f"/?work={work}&wait={wait}")
    crowd = Crowd(running.port, 4 * THREADS, request, seconds=60)

    async def conductor():
        await crowd.hears_more_than(3_000, 60)
        crowd.stop()

    tally = asyncio.run(crowd.run(conductor))
    assert (tally.failures, set(tally.statuses)) == ([], {200})
    return sum(int(body) * count for body, count in tally.bodies.items()) / tally.answered


@pytest.mark.parametrize(("work", "wait"), [(0.5, 1.5), (0.2, 0.3), (1, 9)])
def test_calls_that_wait_are_in_progress_together_however_full_the_cpu_is(server, work, wait):
    running = server.start("overlap:app", "--threads", str(THREADS), worker="gthread")
    # Gunicorn has 3.3 to 7 of them.
    assert calls_in_progress(running, work, wait) > THREADS / 3
