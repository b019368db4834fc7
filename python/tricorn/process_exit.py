"""How a forked worker ends: what is due at the end of a program, and not a line of its parent's."""

import os
import sys


def leave(code):
    """Run exit handlers, flush, end the process. Never returns.

    Not `sys.exit`: that would run the `finally` blocks of whoever started the server, and wait for threads of
    the pool that are still in the application.
    """
    import atexit
    import threading

    try:
        threading._shutdown()
        atexit._run_exitfuncs()
    except BaseException:
        import traceback

        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            pass
    os._exit(code)
