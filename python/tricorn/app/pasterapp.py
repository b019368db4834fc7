"""Applications from PasteDeploy files, for `--paste`."""

import os


def has_logging_config(path):
    """Whether an ini file configures logging."""
    from configparser import ConfigParser

    parser = ConfigParser()
    parser.read([path])
    return parser.has_section("loggers")


def get_wsgi_app(uri, name=None, defaults=None):
    """The application of `PATH[#SECTION]`.

    Errors: ImportError with a hint when PasteDeploy is not installed; whatever PasteDeploy raises.
    """
    try:
        from paste.deploy import loadapp
    except ImportError as error:
        raise ImportError(f"--paste needs PasteDeploy: pip install PasteDeploy ({error})") from None

    path, hash_mark, section = uri.partition("#")
    uri = f"config:{os.path.abspath(path)}"
    return loadapp(
        uri, name=section if hash_mark else name, relative_to=os.getcwd(), global_conf=defaults or {}
    )
