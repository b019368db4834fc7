"""Addresses to listen on, as `bind` names them."""


def parse_address(netloc, default_port=8000):
    """A `(host, port)` pair, a socket path, or a file descriptor number.

    Errors: RuntimeError for a port or descriptor that is not a number.
    """
    if netloc.startswith("unix:"):
        path = netloc[len("unix:") :]
        return path[2:] if path.startswith("//") else path
    if netloc.startswith("fd://"):
        number = netloc[len("fd://") :]
        try:
            return int(number)
        except ValueError:
            raise RuntimeError(f"{number!r} is not a valid file descriptor.") from None
    if netloc.startswith("tcp://"):
        netloc = netloc[len("tcp://") :]
    if netloc.startswith("[") and "]" in netloc:
        host, _, rest = netloc[1:].partition("]")
        port = rest[1:] if rest.startswith(":") else default_port
    elif ":" in netloc:
        host, port = netloc.split(":")[:2]
    else:
        host, port = netloc or "0.0.0.0", default_port
    try:
        return (host.lower(), int(port))
    except ValueError:
        raise RuntimeError(f"{port!r} is not a valid port number.") from None
