"""What an application is made of is looked through once by the garbage collector, and then left alone.

A full collection visits every object of the process while it holds the GIL: tens of milliseconds with a large
framework, again and again while the process is young. After a fork it also writes to each page it visits, and
the page is shared no more.
"""

import gc


def settle(cfg):
    """Free the garbage that loading has left, and keep what is alive out of later collections.

    Objects that become cyclic garbage after this are freed only if they were made after it.
    """
    if cfg.gc_freeze:
        gc.collect()
        gc.freeze()


def unsettle(cfg):
    """Take everything into collections again, in a process that goes on when the server has ended."""
    if cfg.gc_freeze:
        gc.unfreeze()
