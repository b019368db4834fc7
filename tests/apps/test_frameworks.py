"""Flask, Django and Pyramid applications behave under Tricorn as they do under Gunicorn."""

import concurrent.futures
import hashlib

import httpx
import pytest

FRAMEWORKS = ["flask_site", "django_site", "pyramid_site"]


@pytest.fixture(params=FRAMEWORKS)
def site(request, server, worker):
    return server.shared(f"{request.param}:app", worker=worker)


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
    data = bytes(n % 253 for n in range(997)) * (size // 997 + 1)
    data = data[:size]
    response = client.post("/upload", files={"file": ("photo.jpg", data)})
    assert response.json() == {"name": "photo.jpg", "size": size, "sha256": hashlib.sha256(data).hexdigest()}


def test_a_chunked_json_body(client, server):
    def produce():
        yield b'{"chunked":'
        yield b" true}"

    response = client.post("/json", content=produce(), headers={"Content-Type": "application/json"})
    if server.name == "tricorn":
        assert response.json()["got"] == {"chunked": True}
    else:
        # Django and Pyramid look at CONTENT_LENGTH, which Gunicorn cannot know: a listed difference.
        assert response.status_code in (200, 400, 500)


def test_a_streamed_answer(client):
    response = client.get("/stream?count=500")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text == "".join(f"line {n}\n" for n in range(500))


def test_a_session_in_a_cookie(client):
    assert [client.get("/session").json()["count"] for _ in range(3)] == [1, 2, 3]


def test_cookies_both_ways(client):
    response = client.get("/cookies", headers={"Cookie": "a=1; b=2"})
    assert response.json() == {"a": "1", "b": "2"}
    assert len(response.headers.get_list("set-cookie")) == 2
    assert response.cookies["first"] == "one"


def test_a_download_from_memory(client):
    response = client.get("/download")
    assert response.content == bytes(range(256)) * 4000
    assert response.headers["content-type"].startswith("application/x-test")


def test_a_file_from_disk(client, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(bytes(range(251)) * 20000)
    response = client.get("/file", params={"path": str(path)})
    assert response.content == path.read_bytes()
    assert response.headers["content-length"] == str(path.stat().st_size)


def test_head_of_a_file(client, tmp_path):
    path = tmp_path / "big.bin"
    path.write_bytes(b"x" * 100000)
    response = client.head("/file", params={"path": str(path)})
    if response.status_code != 405:
        assert (response.status_code, response.content) == (200, b"")
    assert client.get("/stream?count=1").text == "line 0\n"


def test_a_redirect(client, site):
    response = client.get("/moved", follow_redirects=True)
    assert response.json() == {"path": "a", "url": f"http://127.0.0.1:{site.port}/path/a"}


def test_a_path_in_utf_8(client):
    assert client.get("/path/gr%C3%BC%C3%9Fe/a%20b").json()["path"] == "grüße/a b"


def test_a_failing_view_is_500_and_the_next_request_is_served(client, site):
    assert client.get("/error").status_code == 500
    assert client.get("/path/x").json()["path"] == "x"
    site.wait_for_line("RuntimeError: the view fails")


def test_forty_requests_at_once(client):
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda n: client.get(f"/path/{n}").json()["path"], range(40)))
    assert answers == [str(n) for n in range(40)]
