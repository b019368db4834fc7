"""How a process ends whose threads may still be in the application, or whose stack is not its own.

A forked worker does what is due at the end of a program, and not a line of its parent's. A server in its
caller's process returns, and the interpreter must not be taken down under threads that did not.
"""

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


def leave_stragglers(prefix, code):
    """At the end of the program do not wait for daemon threads named `prefix...`, nor wake them: just end.

    An interpreter that is taken down ends such threads where they want it back, which native frames on their
    stacks do not survive.
    """
    import atexit
    import threading

    def stragglers():
        return [each for each in threading.enumerate() if each.daemon and each.name.startswith(prefix)]

    def end():
        atexit.unregister(end)
        if stragglers():
            leave(code)

    if stragglers():
        atexit.register(end)
