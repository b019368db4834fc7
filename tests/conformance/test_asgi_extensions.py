"""Extensions: those of the specification, which Tricorn has, and Gunicorn's own informational answers."""

import pytest
from harness.http import request_bytes

TRICORN = pytest.mark.servers("tricorn")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(bytes(range(251)) * 8000)
    return path


# ---- informational answers, as Gunicorn spells them
@pytest.mark.parametrize("count", [1, 3])
def test_an_informational_answer_comes_before_the_final_one(asgi, count):
    with asgi.connect() as client:
        response = client.request("GET", f"/informational?code=103&count={count}")
        hints = [(r.status, r.reason, r.get("Link")) for r in response.interim]
        assert hints == [(103, "Early Hints", f"</{n}.css>; rel=preload") for n in range(count)]
        assert response.body == b"final"
        assert client.request("GET", "/pid").status == 200


def test_an_informational_answer_is_not_sent_to_http_1_0(asgi):
    response = asgi.request("GET", "/informational?code=103", version="HTTP/1.0")
    assert (response.interim, response.body) == ([], b"final")


# ---- early hints
@TRICORN
@pytest.mark.parametrize("when", ["before", "after"])
def test_early_hints_come_before_the_answer(asgi, when):
    """The specification puts the message behind the start message, whose head waits for the body."""
    with asgi.connect() as client:
        response = client.request("GET", f"/early_hint?when={when}")
        (hint,) = response.interim
        assert (hint.status, hint.reason) == (103, "Early Hints")
        assert hint.get_all("Link") == ["</a.css>; rel=preload", "</b.js>; rel=preload"]
        assert (response.status, response.body) == (200, b"final")
        assert client.request("GET", "/pid").status == 200


@TRICORN
def test_early_hints_are_not_sent_to_http_1_0(asgi):
    response = asgi.request("GET", "/early_hint?when=after", version="HTTP/1.0")
    assert (response.interim, response.body) == ([], b"final")


# ---- files
@TRICORN
@pytest.mark.parametrize("length", [True, False])
def test_a_path_is_sent(asgi, file, length):
    more = f"&length={file.stat().st_size}" if length else ""
    with asgi.connect() as client:
        response = client.request("GET", f"/pathsend?path={file}{more}")
        assert (response.status, response.body) == (200, file.read_bytes())
        assert client.request("GET", "/pid").status == 200


@TRICORN
def test_a_path_is_not_sent_to_head(asgi, file):
    with asgi.connect() as client:
        client.send(request_bytes("HEAD", f"/pathsend?path={file}&length=10") + request_bytes("GET", "/pid"))
        response = client.read_response("HEAD")
        assert (response.status, response.get("Content-Length")) == (200, "10")
        assert client.read_response().body.isdigit()


@TRICORN
def test_a_path_that_is_not_there_is_a_500(asgi, tmp_path):
    assert asgi.request("GET", f"/pathsend?path={tmp_path}/missing").status == 500
    assert asgi.request("GET", "/pid").status == 200


@TRICORN
def test_an_empty_file_is_an_empty_body(asgi, tmp_path):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    with asgi.connect() as client:
        assert client.request("GET", f"/pathsend?path={path}").body == b""
        assert client.request("GET", f"/zerocopy?path={path}").body == b""
        assert client.request("GET", "/pid").status == 200


@TRICORN
@pytest.mark.parametrize("fd", ["", "&fd"])
@pytest.mark.parametrize(
    "query, begin, end",
    [
        ("", 0, None),
        ("&offset=1000", 1000, None),
        ("&count=5000", 0, 5000),
        ("&offset=1000&count=5000", 1000, 6000),
        ("&seek=700", 700, None),
        ("&seek=700&count=10", 700, 710),
        ("&offset=0&seek=700&count=10", 0, 10),
        ("&count=0", 0, 0),
    ],
)
def test_a_descriptor_is_sent_from_where_it_was_told(asgi, file, query, begin, end, fd):
    with asgi.connect() as client:
        response = client.request("GET", f"/zerocopy?path={file}{query}{fd}")
        assert response.body == file.read_bytes()[begin:end]
        assert client.request("GET", "/pid").status == 200


@TRICORN
def test_a_descriptor_between_blocks(asgi, file):
    response = asgi.request("GET", f"/zerocopy?path={file}&offset=10&count=300000&mixed")
    assert response.body == b"<" + file.read_bytes()[10:300010] + b">"


# ---- trailers
@TRICORN
@pytest.mark.parametrize("parts", ["", "?parts"])
@pytest.mark.parametrize("wishes", [["trailers"], ["gzip;q=0.5, Trailers"], ["gzip", "trailers"]])
def test_trailers_are_sent_to_who_wants_them(asgi, parts, wishes):
    with asgi.connect() as client:
        response = client.request("GET", f"/trailers{parts}", [("TE", wish) for wish in wishes])
        assert (response.framing, response.body) == ("chunked", b"body")
        assert response.get("Trailer") == "x-sum, x-more"
        assert response.trailers == [("x-sum", "42"), ("x-more", "yes")]
        assert client.request("GET", "/pid").status == 200


@TRICORN
@pytest.mark.parametrize("fields", [[], [("TE", "gzip")]])
def test_trailers_are_not_sent_to_who_did_not_ask(asgi, fields):
    with asgi.connect() as client:
        response = client.request("GET", "/trailers", fields)
        assert (response.body, response.trailers) == (b"body", [])
        assert client.request("GET", "/pid").status == 200


@TRICORN
def test_trailers_are_not_sent_to_http_1_0(asgi):
    response = asgi.request("GET", "/trailers", [("TE", "trailers")], version="HTTP/1.0")
    assert (response.framing, response.body) == ("close", b"body")
