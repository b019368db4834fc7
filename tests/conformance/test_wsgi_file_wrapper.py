"""wsgi.file_wrapper: files are sent by the server when it can, read in blocks when it cannot."""

import gzip
import json

import pytest
from harness.servers import wait_until

DATA = b"0123456789" * 30_000


@pytest.fixture
def app(server, worker):
    return server.shared("wsgi_app:app", worker=worker)


@pytest.fixture
def without_sendfile(server, worker):
    return server.shared("wsgi_app:app", "--no-sendfile", worker=worker)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(DATA)
    return path


def fetch(app, query, method="GET"):
    with app.connect() as client:
        return client.request(method, f"/file?{query}")


CASES = [
    ("", DATA),
    ("&seek=299990", DATA[:10]),
    ("&seek=300000", b""),
    ("&seek=300001", b""),
    (f"&length={len(DATA)}", DATA),
    ("&length=7", b"0123456"),
    ("&seek=5&length=7", b"5678901"),
]


@pytest.mark.parametrize("query, expected", CASES)
def test_a_file_is_sent_from_where_it_stands(app, path, query, expected):
    if app.name == "gunicorn" and query == "&seek=300001":
        pytest.skip("Gunicorn sends a chunk of negative size")
    assert fetch(app, f"path={path}{query}").body == expected


@pytest.mark.parametrize("query, expected", CASES)
def test_without_sendfile_nothing_changes(without_sendfile, path, query, expected):
    assert fetch(without_sendfile, f"path={path}{query}").body == expected


@pytest.mark.servers("tricorn")
def test_the_position_is_that_of_the_reader_not_of_its_buffer(app, path):
    assert fetch(app, f"path={path}&read=15").body == DATA[15:]


@pytest.mark.servers("tricorn")
def test_a_file_without_length_gets_one(app, path):
    response = fetch(app, f"path={path}&seek=10")
    assert (response.framing, response.get("Content-Length")) == ("length", str(len(DATA) - 10))


@pytest.mark.parametrize("kind", ["memory", "bare", "temporary", "pipe"])
def test_other_files_are_read_in_blocks(app, worker, kind):
    if (app.name, kind) == ("gunicorn", "pipe"):
        pytest.skip("Gunicorn fails on it")
    if (worker, kind) == ("gevent", "pipe"):
        pytest.skip("gevent closes the writing end only when its loop runs")
    assert fetch(app, f"kind={kind}").body == b"0123456789"


@pytest.mark.servers("tricorn")
def test_a_compressed_file_is_sent_as_its_reader_reads_it(app, tmp_path):
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"plain text"))
    assert fetch(app, f"kind=gzip&path={path}").body == b"plain text"


def test_middleware_sees_the_blocks(app):
    assert fetch(app, "kind=memory&middleware=1").body == b"0123456789"


@pytest.mark.servers("tricorn")
def test_a_subclass_is_iterated(app, path):
    """Its blocks may not be those of the file: 8192 bytes are read, and doubled."""
    assert fetch(app, f"path={path}&subclass=1").body == b"".join(
        DATA[start : start + 8192] * 2 for start in range(0, len(DATA), 8192)
    )


@pytest.mark.parametrize("length", ["", f"&length={len(DATA)}"])
def test_head_has_no_body(app, path, length):
    with app.connect() as client:
        response = client.request("HEAD", f"/file?path={path}{length}", [("Connection", "close")])
        assert (response.status, response.body) == (200, b"")
        assert client.read_to_end() == b""


def test_the_file_is_closed(app, path):
    assert fetch(app, f"kind=watched&path={path}").body == DATA
    wait_until(
        lambda: f"closed {path}" in json.loads(app.request("GET", "/events").body), what="the file is closed"
    )


@pytest.mark.servers("tricorn")
def test_a_file_is_counted_in_the_access_log(server, worker, path):
    app = server.start("wsgi_app:app", "--access-logfile", "-", worker=worker)
    assert fetch(app, f"path={path}").body == DATA
    app.out.wait_for(rf'"GET /file\?path=\S+ HTTP/1.1" 200 {len(DATA)} ')
