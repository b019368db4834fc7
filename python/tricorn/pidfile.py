"""The file that holds the arbiter's process id.

Invariants: it appears whole or not at all; a file that a live process stands behind is never taken; it is
removed only while it still holds our id. Source: setting `pidfile`.
"""

import os


class Pidfile:
    def __init__(self, fname):
        self.fname = fname
        self.pid = None

    def create(self, pid):
        """Write the file.

        Errors: RuntimeError when a live process stands behind it, or its directory is missing.
        """
        owner = self.validate()
        if owner:
            if owner == os.getpid():
                return
            raise RuntimeError(f"Already running on PID {owner} (or pid file '{self.fname}' is stale)")
        self.pid = pid
        directory = os.path.dirname(self.fname)
        if directory and not os.path.isdir(directory):
            raise RuntimeError(f"{directory} doesn't exist. Can't create pidfile.")
        self._write_whole(f"{pid}\n")

    def write_for(self, pid):
        """Write the file for another process, whoever stood in it. Where that cannot be it stays."""
        self.pid = pid
        try:
            self._write_whole(f"{pid}\n")
        except OSError:
            pass

    def _write_whole(self, text):
        """Write a neighbour and rename it: nobody reads half a number; no symbolic link is followed."""
        neighbour = f"{self.fname}.{os.getpid()}.new"
        try:
            os.unlink(neighbour)
        except FileNotFoundError:
            pass
        fd = os.open(neighbour, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode())
            os.fchmod(fd, 0o644)
            os.rename(neighbour, self.fname)
        except BaseException:
            os.unlink(neighbour)
            raise
        finally:
            os.close(fd)

    def rename(self, path):
        """Move to another name."""
        self.unlink()
        self.fname = path
        self.create(self.pid)

    def unlink(self):
        """Remove the file if it is still ours."""
        if self.pid is not None and self._read() == self.pid:
            try:
                os.unlink(self.fname)
            except OSError:
                pass

    def validate(self):
        """The id of the live process behind the file; None when there is none."""
        owner = self._read()
        if not owner or owner <= 0:
            return None
        try:
            os.kill(owner, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            # Alive, and somebody else's.
            pass
        return owner

    def _read(self):
        try:
            with open(self.fname, "rb") as file:
                return int(file.read(64) or 0)
        except (FileNotFoundError, ValueError):
            return None
