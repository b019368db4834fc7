"""The `spew` setting: prints every executed line as `module:lineno: source`."""

import linecache
import sys
import threading


class Spew:
    """A trace function, limited to some modules or, without names, to all of them."""

    def __init__(self, trace_names=None):
        self.trace_names = trace_names

    def __call__(self, frame, event, arg):
        if event == "line":
            self.print_line(frame)
        return self

    def print_line(self, frame):
        name = frame.f_globals.get("__name__", "[unknown]")
        if self.trace_names is not None and name not in self.trace_names:
            return
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno, frame.f_globals)
        print(f"{name}:{frame.f_lineno}: {source.rstrip()}")


def spew(trace_names=None):
    """Start tracing this thread and those that it starts."""
    threading.settrace(Spew(trace_names))
    sys.settrace(Spew(trace_names))


def unspew():
    """Stop tracing this thread and those that it starts."""
    threading.settrace(None)
    sys.settrace(None)
