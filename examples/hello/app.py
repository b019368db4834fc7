"""The example that `make serve` serves: a friendly page that shows what the server told the application."""

from html import escape

SHOWN = (
    "SERVER_SOFTWARE",
    "SERVER_PROTOCOL",
    "REQUEST_METHOD",
    "PATH_INFO",
    "QUERY_STRING",
    "RAW_URI",
    "REMOTE_ADDR",
    "HTTP_HOST",
    "HTTP_USER_AGENT",
    "wsgi.url_scheme",
    "wsgi.multithread",
    "wsgi.multiprocess",
)

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Hello from Tricorn</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }}
  td {{ padding: .2rem 1rem .2rem 0; border-top: 1px solid #ddd }}
  code {{ background: #f2f2f2; padding: .1rem .3rem }}
</style>
<h1>Hello from Tricorn</h1>
<p>Your application goes here: <code>make serve APP=module:app ARGS='-w 4'</code></p>
<table>{rows}</table>
</html>
"""


def app(environ, start_response):
    rows = "".join(
        f"<tr><td>{key}</td><td><code>{escape(str(environ.get(key, '')))}</code></td></tr>" for key in SHOWN
    )
    body = PAGE.format(rows=rows).encode("utf-8", "surrogateescape")
    start_response(
        "200 OK", [("Content-Type", "text/html; charset=utf-8"), ("Content-Length", str(len(body)))]
    )
    return [body]
