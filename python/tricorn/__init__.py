"""Tricorn: a drop-in replacement for Gunicorn, written in Rust."""

version_info = (0, 1, 0)
__version__ = ".".join(str(part) for part in version_info)
SERVER = "tricorn"
SERVER_SOFTWARE = f"{SERVER}/{__version__}"
