"""Listeners as the arbiter, the workers and user code hold them; the sockets are made in Rust.

What it is not: a connection. `socket` of the standard library is imported only when somebody asks a listener
for its `.sock`, because that import is slow.

Invariant: closing a listener in one process leaves it open in the others that inherited it.
"""

import os
import time

from tricorn import _core

ATTEMPTS = 5
PAUSE_S = 1


class BaseSocket:
    """One listener. Unknown attributes are those of `.sock`, the standard socket object."""

    def __init__(self, fd, conf, inherited=False):
        self._fd = fd
        self._sock = None
        self.conf = conf
        # Opened by somebody else, who may go on using it.
        self.inherited = inherited

    @property
    def sock(self):
        if self._sock is None:
            import socket

            self._sock = socket.socket(fileno=self._fd)
        return self._sock

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.sock, name)

    def __eq__(self, other):
        return self is other

    __hash__ = object.__hash__

    def fileno(self):
        return self._fd

    def getsockname(self):
        """The address, as the standard socket gives it."""
        kind, host, port = _core.listener_address(self._fd)
        if kind == "unix":
            name = bytes(host)
            return name if name.startswith(b"\0") else os.fsdecode(name)
        host = bytes(host).decode()
        return (host, port, 0, 0) if kind == "tcp6" else (host, port)

    def set_options(self, sock, bound=False):
        """Kept for callers of Gunicorn's class; the options are set when the socket is made."""
        return sock

    def refuse_newcomers(self):
        """Let no further connection begin; those in the accept queue stay."""

    def has_handshakes(self):
        """Whether connections that have begun are not in the accept queue yet."""
        return False

    def stop_listening(self):
        """Refuse connections in every process that holds the socket."""
        _core.stop_listening(self._fd)

    def close(self):
        if self._fd < 0:
            return
        if self._sock is not None:
            self._sock.close()
        else:
            _core.close_descriptor(self._fd)
        self._fd = -1


class TCPSocket(BaseSocket):
    def __str__(self):
        scheme = "https" if self.conf.is_ssl else "http"
        host, port = self.getsockname()[:2]
        return f"{scheme}://{host}:{port}"

    def refuse_newcomers(self):
        _core.refuse_newcomers(self._fd)

    def has_handshakes(self):
        return _core.handshake_in_progress(self._fd)


class TCP6Socket(TCPSocket):
    def __str__(self):
        scheme = "https" if self.conf.is_ssl else "http"
        host, port = self.getsockname()[:2]
        return f"{scheme}://[{host}]:{port}"


class UnixSocket(BaseSocket):
    def __init__(self, fd, conf, inherited=False):
        super().__init__(fd, conf, inherited)
        self._file = _identity(self.getsockname())

    def __str__(self):
        name = self.getsockname()
        return f"unix:{name if isinstance(name, str) else os.fsdecode(name)}"

    def refuse_newcomers(self):
        self.unlink()

    def unlink(self):
        """Remove the file, so that nobody finds the socket any more; unless it is another server's by now."""
        name = self.getsockname()
        if self._file is None or _identity(name) != self._file:
            return
        try:
            os.unlink(name)
        except OSError:
            pass


def _identity(name):
    """Which file a path stands for; None for abstract names and where there is none."""
    if not isinstance(name, str) or not name:
        return None
    try:
        status = os.lstat(name)
    except OSError:
        return None
    return status.st_dev, status.st_ino


_CLASSES = {"tcp": TCPSocket, "tcp6": TCP6Socket, "unix": UnixSocket}


def adopt(fd, conf):
    """The listener behind an inherited descriptor.

    Errors: OSError when it is no socket.
    """
    _core.adopt_listener(fd, conf.backlog)
    return _CLASSES[_core.listener_address(fd)[0]](fd, conf, inherited=True)


def create_sockets(conf, log, kept=None):
    """Open every address of `bind`. Given descriptors (`fd://N`) win over addresses.

    `kept`: listeners by their URL that are open already and go on.
    Errors: SystemExit 1 when an address stays in use; FileNotFoundError for a missing certificate.
    """
    _check_certificate(conf)
    addresses = conf.address
    fds = [address for address in addresses if isinstance(address, int)]
    kept = kept or {}
    if fds:
        inherited = {listener.fileno(): listener for listener in kept.values()}
        return [inherited.get(fd) or adopt(fd, conf) for fd in fds]
    return [kept.get(_url(address, conf)) or _open_patiently(address, conf, log) for address in addresses]


def close_sockets(listeners, unlink=True):
    for listener in listeners:
        if unlink and isinstance(listener, UnixSocket) and listener.fileno() >= 0 and not listener.inherited:
            listener.unlink()
        listener.close()


def _check_certificate(conf):
    for name in ("certfile", "keyfile"):
        path = getattr(conf, name)
        if conf.is_ssl and path and not os.path.exists(path):
            raise ValueError(f'{name} "{path}" does not exist')


def _url(address, conf):
    """What `str` of a listener on `address` says."""
    if isinstance(address, str):
        return f"unix:{address}"
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    return f"{'https' if conf.is_ssl else 'http'}://{host}:{address[1]}"


def _open_patiently(address, conf, log):
    """Open one address, trying again while it is in use.

    Errors: SystemExit 1 when it stays so.
    """
    import errno

    for attempt in range(ATTEMPTS):
        try:
            return _open(address, conf)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                log.error("Connection in use: %s", str(address))
            if error.errno == errno.EADDRNOTAVAIL:
                log.error("Invalid address: %s", str(address))
            log.error("connection to %s failed: %s", str(address), str(error))
        if attempt < ATTEMPTS - 1:
            log.debug("Retrying in %s second.", PAUSE_S)
            time.sleep(PAUSE_S)
    log.error("Can't connect to %s", str(address))
    raise SystemExit(1)


def _open(address, conf):
    if isinstance(address, str):
        fd = _core.listen_unix(os.fsencode(address), conf.backlog, conf.umask, (conf.uid, conf.gid))
        return UnixSocket(fd, conf)
    host, port = address
    fd = _core.listen_tcp(host, port, conf.backlog, bool(conf.reuse_port))
    return (TCP6Socket if ":" in host else TCPSocket)(fd, conf)
