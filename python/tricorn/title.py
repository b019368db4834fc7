"""Process titles, as `ps` shows them: `tricorn: master [NAME]`. Needs the package setproctitle."""

import sys


def set_title(text):
    """Set the title of this process, where setproctitle is installed; not on macOS, where that is unsafe."""
    if sys.platform == "darwin":
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(f"tricorn: {text}")
