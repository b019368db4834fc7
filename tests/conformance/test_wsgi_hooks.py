"""pre_request and post_request, `req` and `resp` in their hands, and loggers of one's own."""

import json

import pytest
from harness.http import Closed, request_bytes

SHOW = """
import json, sys

def show(kind, doc):
    print(kind, json.dumps(doc), flush=True)
"""

PRE = (
    SHOW
    + """
def pre_request(worker, req):
    show("pre", {
        "worker": str(worker).startswith("<"),
        "method": req.method, "uri": req.uri, "path": req.path, "query": req.query,
        "fragment": req.fragment, "version": req.version, "headers": req.headers,
        "trailers": list(req.trailers), "scheme": req.scheme, "peer_addr": req.peer_addr[0],
        "remote_addr": req.remote_addr[0], "proxy": req.proxy_protocol_info,
        "req_number": req.req_number, "should_close": req.should_close(),
    })
"""
)

POST = (
    SHOW
    + """
def post_request(worker, req, environ, resp):
    show("post", {
        "uri": req.uri, "path": environ.get("PATH_INFO"),
        "resp": resp and {
            "status": resp.status, "status_code": getattr(resp, "status_code", None), "sent": resp.sent,
            "headers": resp.headers, "headers_sent": resp.headers_sent,
            "response_length": resp.response_length, "chunked": resp.chunked,
            "must_close": resp.must_close, "version": resp.version, "upgrade": resp.upgrade,
            "should_close": resp.status and resp.should_close(),
        },
    })
"""
)


def told(app, kind):
    return json.loads(app.out.wait_for(f"^{kind} (.*)$")[1])


def test_pre_request_sees_the_request(server, worker):
    app = server.start("wsgi_app:app", config=PRE, worker=worker)
    app.request("GET", "/lazy/a%20b?c=d#e", [("X-One", "1"), ("x-two", "2")])
    expected = {
        "worker": True,
        "method": "GET",
        "uri": "/lazy/a%20b?c=d#e",
        "path": "/lazy/a%20b",
        "query": "c=d",
        "fragment": "e",
        "version": [1, 1],
        "headers": [["HOST", "test"], ["X-ONE", "1"], ["X-TWO", "2"]],
        "trailers": [],
        "scheme": "http",
        "peer_addr": "127.0.0.1",
        "remote_addr": "127.0.0.1",
        "proxy": {} if (server.name, worker) == ("gunicorn", "gevent") else None,
        "req_number": 1,
        "should_close": False,
    }
    assert told(app, "pre") == expected


def test_pre_request_may_change_the_request(server, worker):
    config = """
def pre_request(worker, req):
    req.headers = [pair for pair in req.headers if pair[0] != "X-DROP"] + [("X-ADDED", "by the hook")]
    req.method = "PATCH"
    req.query = "q=changed"
    req.uri = "/raw"
    req.path = "/environ/new%20path"
"""
    app = server.start("wsgi_app:app", config=config, worker=worker)
    doc = json.loads(app.request("GET", "/lazy", [("X-Drop", "1"), ("X-Keep", "2")]).body)
    assert "HTTP_X_DROP" not in doc
    keys = ["HTTP_X_KEEP", "HTTP_X_ADDED", "REQUEST_METHOD", "QUERY_STRING", "RAW_URI", "PATH_INFO"]
    assert [doc[key][1] for key in keys] == [
        "2",
        "by the hook",
        "PATCH",
        "q=changed",
        "/raw",
        "/environ/new path",
    ]


def test_pre_request_may_append_to_the_headers(server):
    config = "def pre_request(worker, req):\n    req.headers.append(('X-REQUEST-ID', 'made'))\n"
    app = server.start("wsgi_app:app", config=config)
    assert json.loads(app.request("GET", "/environ").body)["HTTP_X_REQUEST_ID"][1] == "made"


def test_pre_request_may_close_the_connection(server):
    config = "def pre_request(worker, req):\n    req.force_close()\n"
    app = server.start("wsgi_app:app", config=config, worker="gthread")
    with app.connect() as client:
        assert client.request("GET", "/lazy").get("Connection") == "close"
        assert client.read_to_end() == b""


def test_a_failing_pre_request_is_a_500(server, worker):
    config = POST + "def pre_request(worker, req):\n    raise RuntimeError('the hook fails')\n"
    app = server.start("wsgi_app:app", config=config, worker=worker)
    assert app.request("GET", "/lazy").status == 500
    app.wait_for_line("RuntimeError: the hook fails")
    doc = told(app, "post")
    assert (doc["uri"], doc["path"], doc["resp"]) == ("/lazy", None, None)


def test_post_request_sees_the_response(server, worker):
    app = server.start("wsgi_app:app", config=POST, worker=worker)
    body = app.request("GET", "/events").body
    doc = told(app, "post")
    assert (doc["uri"], doc["path"]) == ("/events", "/events")
    assert doc["resp"] == {
        "status": "200 OK",
        "status_code": 200,
        "sent": len(body),
        "headers": [["Content-Type", "application/json"], ["Content-Length", str(len(body))]],
        "headers_sent": True,
        "response_length": len(body),
        "chunked": False,
        "must_close": (server.name, worker) == ("gunicorn", "sync"),
        "version": server.name,
        "upgrade": False,
        "should_close": (server.name, worker) == ("gunicorn", "sync"),
    }


def test_post_request_is_told_of_a_chunked_response(server, worker):
    app = server.start("wsgi_app:app", config=POST, worker=worker)
    assert app.request("GET", "/lazy").body == b"lazy"
    doc = told(app, "post")["resp"]
    assert (doc["chunked"], doc["sent"], doc["response_length"]) == (True, 4, None)


@pytest.mark.parametrize("begun", ["", "&begun=1"])
def test_post_request_runs_after_a_failure(server, worker, begun):
    app = server.start("wsgi_app:app", config=POST, worker=worker)
    with app.connect() as client:
        client.send(request_bytes("GET", "/raises?kind=exception" + begun))
        if begun:
            with pytest.raises(Closed):
                client.read_response()
        else:
            assert client.read_response().status == 500
    doc = told(app, "post")
    assert doc["path"] == "/raises"
    assert doc["resp"]["headers_sent"] is bool(begun)


@pytest.mark.parametrize("arguments", ["worker, req", "worker, req, environ"])
def test_post_request_may_take_fewer_arguments(server, arguments):
    config = SHOW + f"def post_request({arguments}):\n    show('short', req.uri)\n"
    app = server.start("wsgi_app:app", config=config)
    assert app.request("GET", "/lazy").status == 200
    assert told(app, "short") == "/lazy"


def test_a_failing_post_request_is_only_logged(server, worker):
    config = "def post_request(worker, req, environ, resp):\n    raise RuntimeError('the hook fails')\n"
    app = server.start("wsgi_app:app", config=config, worker=worker)
    for _ in range(2):
        assert app.request("GET", "/lazy").body == b"lazy"
    app.wait_for_line("Exception in post_request hook$")
    app.wait_for_line("RuntimeError: the hook fails")


def test_the_default_pre_request_writes_a_debug_line(server, worker):
    app = server.start("wsgi_app:app", "--log-level", "debug", worker=worker)
    app.request("GET", "/lazy/x?y")
    app.wait_for_line(r"\[DEBUG\] GET /lazy/x$")


LOGGER = (
    SHOW
    + """
import datetime
from SERVER.glogging import Logger

class Mine(Logger):
    def access(self, resp, req, environ, request_time):
        show("access", [resp.status, resp.sent, req.uri, environ["REMOTE_ADDR"], type(request_time).__name__,
                        request_time < datetime.timedelta(seconds=5)])

logger_class = Mine
"""
)


def test_a_logger_of_ones_own_gets_every_access(server, worker):
    app = server.start("wsgi_app:app", config=LOGGER.replace("SERVER", server.name), worker=worker)
    app.request("GET", "/lazy?x")
    assert told(app, "access") == ["200 OK", 4, "/lazy?x", "127.0.0.1", "timedelta", True]


def test_a_logger_of_ones_own_is_told_of_a_500(server, worker):
    app = server.start("wsgi_app:app", config=LOGGER.replace("SERVER", server.name), worker=worker)
    assert app.request("GET", "/raises?kind=exception").status == 500
    assert told(app, "access")[0] == "500 Internal Server Error"


@pytest.mark.servers("tricorn")
def test_a_failing_logger_does_not_spoil_the_answer(server, worker):
    config = LOGGER.replace("SERVER", server.name).replace("        show(", "        raise RuntimeError(")
    app = server.start("wsgi_app:app", config=config, worker=worker)
    for _ in range(2):
        assert app.request("GET", "/lazy").body == b"lazy"
    app.wait_for_line("RuntimeError: ")


def test_one_access_line_for_a_failed_request(server, worker):
    app = server.start("wsgi_app:app", "--access-logfile", "-", worker=worker)
    assert app.request("GET", "/raises?kind=exception").status == 500
    app.request("GET", "/lazy")
    app.out.wait_for('"GET /lazy HTTP/1.1" 200 4 ')
    assert len(app.out.matches('"GET /raises.* HTTP/1.1" 500 ')) == 1
