"""Who hears of a request, where the application's logging configuration decides."""

import textwrap

APP = """
import logging

def app(environ, start_response):
    if environ["PATH_INFO"] == "/listen":
        logging.getLogger("gunicorn.access").addHandler(logging.StreamHandler())
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
CONFIG = """
import logging
import sys

class Told(logging.LogRecord):
    def __init__(self, name, *args, **more):
        super().__init__(name, *args, **more)
        if name == "gunicorn.access":
            print("made:", self.getMessage(), file=sys.stderr)

logging.setLogRecordFactory(Told)
access_log_format = "%(r)s"
logconfig_dict = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": []},
    "loggers": {"gunicorn.access": {"level": "INFO", "handlers": [], "propagate": False}},
}
"""


def test_an_access_line_is_made_once_somebody_hears_it(server, tmp_path):
    (tmp_path / "heard.py").write_text(textwrap.dedent(APP))
    running = server.start("heard:app", "--chdir", str(tmp_path), worker="sync", config=CONFIG)
    for path in ("/before", "/listen", "/after"):
        assert running.request("GET", path).status == 200
    running.wait_for_line("^GET /after HTTP/1.1$")
    made = [match[1] for match in running.log.matches("^made: GET (.+) HTTP")]
    # Gunicorn makes those that nobody hears, too.
    assert made == (["/listen", "/after"] if server.name == "tricorn" else ["/before", "/listen", "/after"])
