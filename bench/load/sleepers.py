"""Threads that only sleep, for two seconds. `python sleepers.py THREADS MS` prints the sleeps in a second."""

import sys
import threading
import time

SECONDS = 2.0


def main(threads: int, ms: float) -> None:
    counts = [0] * threads
    until = time.monotonic() + SECONDS

    def sleep(index: int) -> None:
        while time.monotonic() < until:
            time.sleep(ms / 1000)
            counts[index] += 1

    running = [threading.Thread(target=sleep, args=(index,)) for index in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    print(sum(counts) / SECONDS)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]))
