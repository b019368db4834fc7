"""Process titles, as `ps` shows them: `tricorn: master [NAME]`. Needs the package setproctitle."""

import sys


def set_title(text):
    """Set the title of this process; without setproctitle, or on macOS where it is unsafe after a fork, no-op."""
    if sys.platform == "darwin":
        return
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(f"tricorn: {text}")
