"""Changing to the worker's user and group, and making sure that it took.

Source: settings user, group, initgroups.
"""

import os


def drop(uid, gid, initgroups):
    """Become `uid` and `gid`; with `initgroups` in all groups of that user, otherwise in no other group.

    Errors: OSError from the system; RuntimeError when the old privileges could be taken back.
    """
    if os.geteuid() == 0 and (uid, gid) != (os.geteuid(), os.getegid()):
        os.setgroups([] if uid else os.getgroups())
    if initgroups:
        import pwd

        os.initgroups(pwd.getpwuid(uid).pw_name, gid)
    if gid != os.getgid() or gid != os.getegid():
        os.setgid(gid)
    if uid == os.getuid() and uid == os.geteuid():
        return
    os.setuid(uid)
    if set(os.getresuid()) != {uid} or set(os.getresgid()) != {gid}:
        raise RuntimeError(f"cannot become user {uid} and group {gid}: {os.getresuid()}, {os.getresgid()}")
    if uid != 0:
        try:
            os.setuid(0)
        except PermissionError:
            return
        raise RuntimeError(f"user {uid} could become root again: refusing to serve")
