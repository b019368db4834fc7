"""Runs Autobahn's WebSocket cases (`kosoku`) against a server: `autobahn.py ADDRESS OUTDIR [CASE ...]`.

Its compression cases were written for Python 2, where text and bytes were one: some get a message as text
(a binary one with a byte in each character), and end in a TypeError of their own. They are given the bytes
here, so that they say something about the server.
"""

import sys


def mend(case):
    judge = case.onMessage

    def judge_bytes(self, message, binary):
        if isinstance(message, str):
            message = message.encode("latin-1" if binary else "utf-8")
        return judge(self, message, binary)

    case.onMessage = judge_bytes


def main():
    from kosoku import _caseindex, _cli

    _caseindex.initialize_shims()
    import case12_x_x

    for case in case12_x_x.Case12_X_X + case12_x_x.Case13_X_X:
        mend(case)
    address, outdir, *cases = sys.argv[1:]
    included = [word for case in cases for word in ("-i", case)]
    sys.argv = ["kosoku", "-m", "fuzzingclient", "-o", outdir, *included, address]
    return _cli.main()


if __name__ == "__main__":
    sys.exit(main())
