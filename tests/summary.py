"""Adds up the closing lines of `cargo test` and pytest on stdin and prints one line with the sums.

Exits 1 when a test failed or none ran, so that a run without tests cannot look like a good one.
"""

import re
import sys

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|ignored)")


def main() -> int:
    sums = {"passed": 0, "failed": 0, "skipped": 0}
    for line in sys.stdin:
        if not re.match(r"test result: |=+ .* in \d", line):
            continue
        for count, word in COUNT.findall(line):
            kind = {"error": "failed", "errors": "failed", "ignored": "skipped"}.get(word, word)
            sums[kind] += int(count)
    print(f"{sums['passed']} passed, {sums['failed']} failed, {sums['skipped']} skipped")
    return int(sums["failed"] > 0 or sums["passed"] == 0)


if __name__ == "__main__":
    sys.exit(main())
