"""FastAPI, Starlette, Django, Quart and Litestar behave under Tricorn as they do under Gunicorn."""

import concurrent.futures
import hashlib
import json
import signal

import httpx
import pytest
from harness.http import request_bytes
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

FRAMEWORKS = ["starlette_site", "fastapi_site", "litestar_site", "quart_site", "django_asgi_site"]
WITH_WEBSOCKETS = pytest.mark.parametrize("site", FRAMEWORKS[:4], indirect=True)


@pytest.fixture(params=FRAMEWORKS)
def site(request, server):
    return server.shared(f"{request.param}:app", worker="asgi")


@pytest.fixture
def client(site):
    with httpx.Client(base_url=f"http://127.0.0.1:{site.port}", timeout=10, trust_env=False) as client:
        yield client


def test_json(client):
    document = {"text": "grüße", "list": [1, 2.5, None], "deep": {"a": {"b": []}}}
    response = client.post("/json", json=document)
    assert response.json() == {"got": document, "method": "POST"}


def test_form_fields_and_query(client):
    response = client.post("/form?q=1&q=%C3%BC", data={"a": ["1", "2"], "b": "ü & co"})
    assert response.json() == {"fields": {"a": ["1", "2"], "b": ["ü & co"]}, "query": {"q": ["1", "ü"]}}


@pytest.mark.parametrize("size", [0, 1000, 5_000_000])
def test_an_upload_arrives_as_it_was_sent(client, size):
    data = (bytes(n % 253 for n in range(997)) * (size // 997 + 1))[:size]
    response = client.post("/upload", files={"file": ("photo.jpg", data)})
    assert response.json() == {"name": "photo.jpg", "size": size, "sha256": hashlib.sha256(data).hexdigest()}


def test_a_chunked_upload(client):
    response = client.post("/body", content=(b"x" * 10_000 for _ in range(100)))
    assert response.json() == {"size": 1_000_000}


def test_a_streamed_answer(client):
    response = client.get("/stream?count=500")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text == "".join(f"line {n}\n" for n in range(500))


def test_a_server_sent_event_comes_when_it_is_sent(client, mark):
    with client.stream("GET", f"/events?mark={mark}") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = response.iter_lines()
        assert next(lines) == "data: first"
        assert client.get(f"/go?mark={mark}").status_code == 200
        assert [line for line in lines if line] == ["data: second"]


def test_a_stream_whose_reader_leaves_is_closed(client, site, mark):
    with client.stream("GET", f"/endless?mark={mark}") as response:
        assert next(response.iter_raw())[:1] == b"x"
    site.wait_for_line(f"closed {mark}")
    assert client.get("/path/x").json()["path"] == "x"


@WITH_WEBSOCKETS
def test_a_background_task_holds_nobody_up(site, mark):
    with site.connect() as client:
        assert json.loads(client.request("GET", f"/background?mark={mark}").body) == {"answered": True}
        assert client.request("GET", "/path/x").status == 200
        assert not site.log.matches(f"background {mark}")
        assert client.request("GET", f"/go?mark={mark}").status == 200
        site.wait_for_line(f"background {mark}")


def test_middleware_adds_its_fields(client):
    assert client.get("/path/x").headers["x-middleware"] == "yes"


def test_a_synchronous_view_runs_beside_the_loop(client):
    assert client.get("/sync").json() == {"main": False}


def test_cookies_both_ways(client):
    response = client.get("/cookies", headers={"Cookie": "a=1; b=2"})
    assert response.json() == {"a": "1", "b": "2"}
    assert len(response.headers.get_list("set-cookie")) == 2
    assert response.cookies["first"] == "one"


def test_a_file_from_disk(client, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(251)) * 20000)
    response = client.get("/file", params={"path": str(path)})
    assert response.content == path.read_bytes()
    assert response.headers["content-length"] == str(path.stat().st_size)
    assert client.get("/path/x").json()["path"] == "x"


def test_a_path_in_utf_8(client, site):
    doc = client.get("/path/gr%C3%BC%C3%9Fe/a%20b?q=1").json()
    assert doc["path"] == "grüße/a b"
    assert doc["url"].startswith(f"http://127.0.0.1:{site.port}/path/")


def test_a_failing_view_is_500_and_the_next_request_is_served(site, server):
    """Starlette and FastAPI answer first and raise then, which Gunicorn tells at debug level only."""
    begun = site.log.mark()
    assert site.request("GET", "/error").status == 500
    assert json.loads(site.request("GET", "/path/x").body)["path"] == "x"
    if server.name == "tricorn" or not site.log.matches("site starts"):
        site.wait_for_line("RuntimeError: the view fails", after=begun)


def test_a_view_that_is_not_there_is_404(client):
    assert client.get("/nowhere").status_code == 404
    assert client.put("/json").status_code in (400, 404, 405, 415, 500)


def test_head_has_no_body(site):
    with site.connect() as client:
        client.send(request_bytes("HEAD", "/path/x") + request_bytes("GET", "/path/y"))
        assert client.read_response("HEAD").status in (200, 405)
        assert json.loads(client.read_response().body)["path"] == "y"


def test_forty_requests_at_once(client):
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: client.get(f"/path/{n}").json()["path"], range(40)))
    assert answers == [str(n) for n in range(40)]


@WITH_WEBSOCKETS
def test_a_conversation_over_a_websocket(site):
    with connect(f"ws://127.0.0.1:{site.port}/ws", subprotocols=["chat"], proxy=None) as socket:
        assert socket.subprotocol == "chat"
        for text in ["hello", "grüße", "x" * 100_000]:
            socket.send(text)
            assert json.loads(socket.recv(10)) == {"echo": text}
        socket.send("bye")
        with pytest.raises(ConnectionClosed):
            socket.recv(10)
    assert (socket.close_code, socket.close_reason) == (4001, "bye bye")


@WITH_WEBSOCKETS
def test_a_websocket_that_is_refused(site):
    with pytest.raises(InvalidStatus) as told:
        connect(f"ws://127.0.0.1:{site.port}/refused", proxy=None)
    assert told.value.response.status_code == 403


@WITH_WEBSOCKETS
def test_a_client_that_leaves_its_websocket_leaves_no_error(site):
    begun = site.log.mark()
    with connect(f"ws://127.0.0.1:{site.port}/ws", proxy=None) as socket:
        socket.send("hello")
        assert json.loads(socket.recv(10)) == {"echo": "hello"}
    assert site.request("GET", "/path/x").status == 200
    assert "Traceback" not in "\n".join(site.log.text().splitlines()[begun:])


@WITH_WEBSOCKETS
def test_what_the_startup_made_is_there(site):
    assert json.loads(site.request("GET", "/started").body) == {"started": True}
    site.log.wait_for("site starts")


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_stop_ends_the_application_in_good_order(server, name):
    running = server.start(f"{name}:app", worker="asgi")
    assert running.request("GET", "/path/x").status == 200
    assert running.stop(signal.SIGTERM) == 0
    if name != "django_asgi_site":
        running.wait_for_line("site stops")
    assert "Traceback" not in running.log.text()
