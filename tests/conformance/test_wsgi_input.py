"""wsgi.input: reads of every kind, never past the end; rewinding; readers in turn."""

import json

import pytest
from harness.http import chunked, request_bytes

LINES = b"one\ntwo\n\nfour"


@pytest.fixture
def app(server, worker):
    return server.shared("wsgi_app:app", worker=worker)


@pytest.fixture
def streaming(server, worker):
    if server.name == "gunicorn":
        pytest.skip("Gunicorn always streams: the other tests show it")
    if worker == "tornado":
        pytest.skip("the loop cannot wait for a body in the middle of a call")
    return server.shared("wsgi_app:app", worker=worker, config="request_buffering = False\n")


READS = [
    ("read", ["one\ntwo\n\nfour"]),
    ("read:-1", ["one\ntwo\n\nfour"]),
    ("read:none", ["one\ntwo\n\nfour"]),
    ("read:0,read:2,read:100,read,read:5", ["", "on", "e\ntwo\n\nfour", "", ""]),
    ("readline,readline,readline,readline,readline", ["one\n", "two\n", "\n", "four", ""]),
    ("readline:2,readline:5,readline:0,read", ["on", "e\n", "", "two\n\nfour"]),
    ("readline:-1,readline:none,read", ["one\n", "two\n", "\nfour"]),
    ("readlines", [["one\n", "two\n", "\n", "four"]]),
    ("readline,readlines", ["one\n", ["two\n", "\n", "four"]]),
    ("next,next,read,next", ["one\n", "two\n", "\nfour", "<end>"]),
    ("read:5,readline,next", ["one\nt", "wo\n", "\n"]),
]


def done(app, steps, data=LINES, framing="length"):
    with app.connect() as client:
        fields = [("Transfer-Encoding", "chunked")] if framing == "chunked" else []
        if framing == "length":
            client.send(request_bytes("POST", f"/body?do={steps}", body=data))
        else:
            client.send(
                request_bytes("POST", f"/body?do={steps}", fields) + chunked(data[:2], data[2:9], data[9:])
            )
        return json.loads(client.read_response().body)


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("steps, expected", READS)
def test_reads(app, steps, expected, framing):
    assert done(app, steps, framing=framing) == expected


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("steps, expected", READS)
def test_reads_of_a_streamed_body(streaming, steps, expected, framing):
    assert done(streaming, steps, framing=framing) == expected


def test_no_body_reads_as_empty(app):
    with app.connect() as client:
        assert json.loads(client.request("GET", "/body?do=read,readline,readlines,next").body) == [
            "",
            "",
            [],
            "<end>",
        ]


def test_a_read_stops_where_the_body_stops(app):
    """The next request is already there."""
    with app.connect() as client:
        both = request_bytes("POST", "/body?do=read:1000,read", body=b"abc") + request_bytes("GET", "/lazy")
        client.send(both)
        assert json.loads(client.read_response().body) == ["abc", ""]


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize(
    "steps, expected",
    [
        ("seekable,tell,read,tell,seek:0,read:3,tell", [True, 0, LINES.decode(), 13, 0, "one", 3]),
        ("seek:-4:2,read,seek:4:0,readline,seek:-4:1,readline", [9, "four", 4, "two\n", 4, "two\n"]),
        ("read:2,seek:0,readlines", ["on", 0, ["one\n", "two\n", "\n", "four"]]),
        ("seek:-1,seek:0:3,read:3", ["ValueError", "ValueError", "one"]),
    ],
)
def test_a_buffered_body_can_be_rewound(app, steps, expected, framing):
    assert done(app, steps, framing=framing) == expected


@pytest.mark.servers("tricorn")
def test_a_buffered_body_beyond_memory_can_be_rewound(app):
    data = b"0123456789" * 100_000
    steps = "seek:-5:2,read,seek:0,read:10,tell,seek:500003,readline:4"
    assert done(app, steps, data) == [999_995, "56789", 0, "0123456789", 10, 500_003, "3456"]


def test_a_streamed_body_says_that_it_cannot_be_rewound(streaming):
    assert done(streaming, "seekable,read:3,seek:0") == [False, "one", "UnsupportedOperation"]


@pytest.mark.servers("tricorn")
def test_the_standard_librarys_readers_work_on_it(app):
    with app.connect() as client:
        body = "naïve\nlines".encode() * 5000
        assert json.loads(client.request("POST", "/body_io", body=body).body) == body.decode()


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("config", ["", "request_buffering = False\n"])
def test_readers_in_several_threads_take_turns(server, worker, config):
    app = server.shared("wsgi_app:app", worker=worker, config=config)
    with app.connect() as client:
        assert json.loads(client.request("POST", "/body_threads", body=b"x" * 300_000).body) == 300_000


@pytest.mark.servers("tricorn")
def test_a_malformed_streamed_body_is_answered_with_its_refusal(streaming):
    with streaming.connect() as client:
        head = request_bytes("POST", "/raw_body", [("Transfer-Encoding", "chunked")])
        client.send(head + b"3\r\nabc\r\nsize\r\n")
        assert client.read_response().status == 400
    streaming.wait_for_line(r"\[WARNING\] Invalid request from ip=127.0.0.1: ")
