"""What the scenarios ask for; the path names it."""

import os
import tempfile

TEXT = ("Content-Type", "text/plain; charset=utf-8")
BINARY = ("Content-Type", "application/octet-stream")
BODY_100K = b"x" * 100_000
BLOCK = b"y" * 512
FILE_SIZE = 10 * 1024 * 1024


def hello(environ, start_response):
    start_response("200 OK", [TEXT, ("Content-Length", "13")])
    return [b"Hello, World!"]


def body100k(environ, start_response):
    start_response("200 OK", [BINARY, ("Content-Length", "100000")])
    return [BODY_100K]


def post(environ, start_response):
    size = b"%d" % len(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
    start_response("200 OK", [TEXT, ("Content-Length", str(len(size)))])
    return [size]


def generator(environ, start_response):
    start_response("200 OK", [BINARY])
    for _ in range(20):
        yield BLOCK


def file10m(environ, start_response):
    start_response("200 OK", [BINARY, ("Content-Length", str(FILE_SIZE))])
    opened = open(_file(), "rb")
    wrapper = environ.get("wsgi.file_wrapper")
    return wrapper(opened, 65536) if wrapper else iter(lambda: opened.read(65536), b"")


def _file():
    path = os.path.join(tempfile.gettempdir(), "tricorn-bench-10m")
    if not os.path.exists(path) or os.path.getsize(path) != FILE_SIZE:
        # Under another name first: several servers may be at it.
        fd, other = tempfile.mkstemp()
        with open(fd, "wb") as new:
            new.write(b"z" * FILE_SIZE)
        os.replace(other, path)
    return path


ROUTES = {"/body100k": body100k, "/post": post, "/generator": generator, "/file10m": file10m}


def app(environ, start_response):
    return ROUTES.get(environ["PATH_INFO"], hello)(environ, start_response)
