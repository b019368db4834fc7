"""What a worker class needs beside Tricorn, looked up without importing it: the arbiter stays small."""


def need(worker_class, distribution, minimum):
    """Raise RuntimeError, with the one line to say, unless the distribution is there and new enough."""
    from importlib.metadata import PackageNotFoundError, version

    advice = f"pip install 'tricorn[{worker_class}]'"
    wanted = f"the worker class {worker_class!r} needs {distribution} {minimum} or newer"
    try:
        found = version(distribution)
    except PackageNotFoundError:
        raise RuntimeError(f"{wanted}: {advice}") from None
    if _numbers(found) < _numbers(minimum):
        raise RuntimeError(f"{wanted}, found {found}: {advice}")


def _numbers(version):
    import re

    return [int(number) for number in re.findall(r"\d+", version)[:3]]
