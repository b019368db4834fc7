"""What can be seen of Zope and the ZODB in this process, for warnings and refusals in their users' words.

What it is not: a dependency. Nothing is imported that the application has not imported itself; where it has
not, there is nothing to see.

Source: `Zope2.opened` (the databases that Zope has opened), `zc.lockfile`, `pid-filename` in zope.conf.
"""

import sys

from tricorn.pidfile import Pidfile

ONE_PROCESS = (
    "a FileStorage belongs to one process. Serve it with workers = 1 and as many threads as you need,"
    " or put the database behind ZEO or RelStorage to use several workers"
)


def databases():
    """The databases that Zope has opened, mounted ones included."""
    zope = sys.modules.get("Zope2")
    found = {}
    for database in getattr(zope, "opened", ()):
        for each in (database, *getattr(database, "databases", {}).values()):
            found[id(each)] = each
    return list(found.values())


def writable_file_storage():
    """The path of a FileStorage that this process holds for writing, None when there is none."""
    module = sys.modules.get("ZODB.FileStorage.FileStorage") or sys.modules.get("ZODB.FileStorage")
    if module is None:
        return None
    layers = [database.storage for database in databases()]
    while layers:
        layer = layers.pop()
        if isinstance(layer, module.FileStorage) and not layer.isReadOnly():
            return layer.getName()
        # What a BlobStorage and a DemoStorage stand on.
        below = [getattr(layer, name, None) for name in ("_BlobStorage__storage", "base", "changes")]
        layers += [each for each in below if each is not None]
    return None


def explain(error):
    """A sentence about an error of loading the application, None when there is nothing to add."""
    kind = type(error)
    if kind.__name__ == "LockError" and kind.__module__.startswith("zc.lockfile"):
        return f"{error}: another process has opened the database, and {ONE_PROCESS}."
    return None


def pool_warning(threads):
    """A sentence when more threads than the pool keeps connections for call the application, else None."""
    short = [database for database in databases() if database.getPoolSize() < threads]
    if not short:
        return None
    smallest = min(short, key=lambda database: database.getPoolSize())
    return (
        f"threads = {threads} is more than the pool-size {smallest.getPoolSize()} of the database"
        f" {smallest.database_name!r}: connections beyond it are thrown away with their caches after each"
        " request; raise pool-size in zope.conf, or lower threads"
    )


def hand_over_pid_file(pid):
    """Let Zope's pid file name the process `pid`, which signals are meant for. Returns its path or None."""
    module = sys.modules.get("App.config")
    path = getattr(module.getConfiguration(), "pid_filename", None) if module is not None else None
    if path is not None:
        Pidfile(path).write_for(pid)
    return path


def remove_pid_file(path, pid):
    """Remove a file that was handed over to `pid`, unless it names another process by now."""
    file = Pidfile(path)
    file.pid = pid
    file.unlink()
