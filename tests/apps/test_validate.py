"""wsgiref.validate between server and application finds nothing to complain about."""

import json

import pytest
from harness.http import chunked, request_bytes


@pytest.fixture
def watched(server, worker):
    return server.shared("validated:app", worker=worker)


@pytest.mark.parametrize(
    "target", ["/pid", "/echo", "/blocks?count=3", "/blocks?count=0", "/length?size=100000"]
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_answers_of_every_shape_are_valid(watched, method, target):
    response = watched.request(method, target)
    assert response.status == 200, watched.log.text()[-3000:]


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_requests_with_bodies_are_valid(watched, framing):
    with watched.connect() as client:
        if framing == "length":
            client.send(request_bytes("POST", "/digest?a=b", [("Content-Type", "text/plain")], b"x" * 70000))
        else:
            client.send(request_bytes("POST", "/digest", [("Transfer-Encoding", "chunked")]))
            client.send(chunked(b"x" * 50000, b"x" * 20000))
        response = client.read_response()
    assert (response.status, response.body[:6]) == (200, b"70000 "), watched.log.text()[-3000:]


def test_environ_is_a_plain_dict_of_strings(watched):
    doc = json.loads(watched.request("GET", "/echo/x?y=1").body)
    assert doc["SCRIPT_NAME"] == "" and doc["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert doc["SERVER_NAME"] == "127.0.0.1" and doc["SERVER_PORT"] == str(watched.port)
