"""environ: every key, its type, and where its value comes from."""

import json
import random
import sys
from functools import partial

import pytest
from harness.http import Connection, chunked, request_bytes
from harness.servers import wait_until


@pytest.fixture
def app(server, worker):
    return server.shared("wsgi_app:app", worker=worker)


def environ_of(response):
    assert response.status == 200
    return json.loads(response.body)


def test_environ_is_a_dict_of_native_values(app):
    doc = environ_of(app.request("GET", "/environ?a=b"))
    assert doc["is a dict"][0] == "True"
    for key, (kind, _) in doc.items():
        if key.isupper():
            assert kind == "str", key


def test_environ_has_every_key(app, server, worker):
    response = app.request("POST", "/environ", [("Content-Type", "text/x"), ("User-Agent", "test")], b"abc")
    doc = environ_of(response)
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/environ",
        "QUERY_STRING": "",
        "RAW_URI": "/environ",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "3",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": str(app.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "HTTP_HOST": "test",
        "HTTP_USER_AGENT": "test",
        "wsgi.version": "(1, 0)",
        "wsgi.url_scheme": "http",
        "wsgi.multithread": str(worker not in ("sync", "tornado")),
        "wsgi.multiprocess": "False",
        "wsgi.run_once": "False",
        "wsgi.input_terminated": "True",
    }
    assert {key: doc[key][1] for key in expected} == expected
    assert doc["REMOTE_PORT"][1].isdigit()
    assert doc["SERVER_SOFTWARE"][1].startswith(f"{server.name}/")
    for key in ("wsgi.input", "wsgi.errors", "wsgi.file_wrapper", "wsgi.early_hints", "gunicorn.socket"):
        assert key in doc
    assert "HTTP_CONTENT_LENGTH" not in doc and "HTTP_CONTENT_TYPE" not in doc


def test_nothing_is_left_behind_for_the_next_request(lasting_app):
    with lasting_app.connect() as client:
        environ_of(
            client.request("POST", "/environ?a=1", [("X-First", "1"), ("Content-Type", "text/x")], b"abc")
        )
        doc = environ_of(client.request("GET", "/environ"))
    assert not {"left behind", "HTTP_X_FIRST", "CONTENT_TYPE", "CONTENT_LENGTH"} & set(doc)
    assert doc["REQUEST_METHOD"][1] == "GET" and doc["QUERY_STRING"][1] == ""


DEEDS = ["add", "replace", "delete", "move", "clear", "keep", "view"]


def test_no_request_sees_what_became_of_the_environ_of_another(lasting_app):
    """Applications change their environ, keep it, or leave it as it is."""
    dice = random.Random(20261128)
    with lasting_app.connect() as client:
        first = json.loads(client.request("GET", "/used", [("X-Do", "")]).body)
    own = {"REMOTE_PORT", "HTTP_X_DO", "port", "body"}
    constants = {key: value for key, value in first.items() if key not in own}
    clients, kept = [lasting_app.connect() for _ in range(3)], 0
    for _ in range(400):
        deed = dice.choice(["", "", "", "", "read", "x" * 300, dice.choice(DEEDS)])
        kept += deed in ("keep", "view")
        fields = [("X-Do", deed), ("Connection", "keep-alive")]
        wanted = constants | {"HTTP_X_DO": deed, "HTTP_CONNECTION": "keep-alive"}
        for name in ("User-Agent", "Authorization", "Cookie"):
            if dice.random() < 0.3:
                fields.append((name, f"{name} {dice.randrange(3)}"))
                wanted[f"HTTP_{name.upper().replace('-', '_')}"] = fields[-1][1]
        method, body = dice.choice(
            [("GET", None), ("GET", None), ("GET", None), ("PUT", None), ("POST", b"abc")]
        )
        if body:
            wanted["CONTENT_LENGTH"] = "3"
        query = dice.choice(["", "", "", "one=1", "two=2"])
        version = dice.choice(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0"])
        target = f"/used?{query}" if query else "/used"
        client = dice.choice(clients)
        wanted |= {
            "REQUEST_METHOD": method,
            "QUERY_STRING": query,
            "RAW_URI": target,
            "SERVER_PROTOCOL": version,
        }
        wanted["port"] = client.socket.getsockname()[1]
        wanted |= {"REMOTE_PORT": str(wanted["port"]), "body": (body or b"").decode()}
        got = json.loads(client.request(method, target, fields, body, version=version).body)
        assert got == wanted
    with lasting_app.connect() as client:
        assert json.loads(client.request("GET", "/kept").body) == [True] * kept
    for client in clients:
        client.close()


@pytest.mark.parametrize("target, field", [(True, False), (False, True), (True, True)])
def test_environs_of_requests_at_the_same_time_stay_apart(server, worker, target, field):
    """What is known of clients changes while a request is with the application."""
    if worker in ("sync", "tornado"):
        pytest.skip("one request at a time")
    app = server.shared("wsgi_app:app", worker=worker)

    def parts(kind):
        return kind if target else "", kind if field else "agent"

    def send(client, kind, deed=""):
        query, agent = parts(kind)
        client.send(request_bytes("GET", f"/used?{query}", [("User-Agent", agent), ("X-Do", deed)]))

    def check(client, kind, deed=""):
        doc = json.loads(client.read_response().body)
        found = doc["QUERY_STRING"], doc["HTTP_USER_AGENT"], doc["HTTP_X_DO"], doc["REMOTE_PORT"]
        assert found == (*parts(kind), deed, str(client.socket.getsockname()[1]))

    with app.connect() as first, app.connect() as second, app.connect() as third:
        for _ in range(3):
            for _ in range(20):
                send(second, "old")
                check(second, "old")
            send(first, "old", "wait")
            wait_until(lambda: json.loads(third.request("GET", "/waits").body), what="the call that waits")
            for _ in range(20):
                send(second, "new")
                check(second, "new")
            assert json.loads(third.request("GET", "/waits?end=1").body)
            check(first, "old", "wait")
            for client, kind in [(first, "new"), (second, "old"), (first, "old"), (second, "new")]:
                send(client, kind)
                check(client, kind)


def test_secrets_are_forgotten_with_their_request(lasting_app, tmp_path):
    file = tmp_path / "counts"
    file.touch()

    def looks_since(count):
        return file.read_text().split()[count:]

    try:
        with lasting_app.connect() as client:
            client.request("GET", f"/watch?what=0VmcjV2c&file={file}")
            for name in ("Authorization", "Cookie", "Proxy-Authorization"):
                for _ in range(10):
                    doc = json.loads(client.request("GET", "/used", [("X-Do", ""), (name, "c2VjcmV0")]).body)
                assert doc["HTTP_" + name.upper().replace("-", "_")] == "c2VjcmV0"
                # The first of them may have begun before.
                before = len(looks_since(0))
                wait_until(partial(looks_since, before + 1), what="a look behind the request")
                assert looks_since(before + 1)[0] == "0", name
    finally:
        # With it ends the watch.
        file.unlink()


NAMES = ["User-Agent", "user-agent", "Accept", "X-One", "X-Two", "Cookie", "Authorization", "Content-Type"]


def test_each_request_has_its_own_fields_whatever_came_before(app):
    """The same few sets of names over and over, with values that repeat and values that do not."""
    dice = random.Random(20261124)
    sets = [dice.sample(NAMES, dice.randint(1, len(NAMES))) for _ in range(6)]
    values = ["", "same", "other", "\xe9", "x" * 191, "x" * 192, "x" * 193, "y" * 4000]
    for turn in range(300):
        fields = [
            (name, dice.choice(["same", "same", "same", str(turn), *values]))
            for name in sets[turn % 2 if turn < 150 else dice.randrange(6)]
        ]
        doc = environ_of(app.request("GET", "/environ", fields))
        found = {
            key: value
            for key, (_, value) in doc.items()
            if key.startswith(("HTTP_", "CONTENT_")) and key not in ("HTTP_HOST", "HTTP_CONNECTION")
        }
        wanted = {}
        for name, value in fields:
            key = name.upper().replace("-", "_")
            key = key if key.startswith("CONTENT_") else f"HTTP_{key}"
            wanted[key] = f"{wanted[key]},{value}" if key in wanted else value
        assert found == wanted, turn


@pytest.fixture
def lasting_app(server, worker):
    if (server.name, worker) == ("gunicorn", "sync"):
        pytest.skip("Gunicorn's sync worker has no keep-alive")
    return server.shared("wsgi_app:app", worker=worker)


@pytest.mark.parametrize(
    "target, path, query",
    [
        ("/environ/a%20b?c=%20d", "/environ/a b", "c=%20d"),
        ("/environ/%C3%A9", "/environ/\xc3\xa9", ""),
        ("/environ/100%", "/environ/100%", ""),
        ("/environ/%zz%4", "/environ/%zz%4", ""),
        ("/environ/%2F%00", "/environ//\0", ""),
        ("/environ/;p=1?q?r", "/environ/;p=1", "q?r"),
        ("/environ/x#fragment", "/environ/x", ""),
    ],
)
def test_path_info_is_percent_decoded_into_latin_1(app, target, path, query):
    doc = environ_of(app.request("GET", target))
    assert (doc["PATH_INFO"][1], doc["QUERY_STRING"][1], doc["RAW_URI"][1]) == (path, query, target)


def test_repeated_fields_are_joined_in_order(app):
    fields = [("X-A", "1"), ("X-B", "2"), ("x-a", "3"), ("X-A", "1"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    doc = environ_of(app.request("GET", "/environ", fields))
    assert doc["HTTP_X_A"][1] == "1,3,1"
    assert doc["HTTP_X_B"][1] == "2"
    assert doc["HTTP_COOKIE"][1] == "a=1,b=2"


def test_many_names_and_values_stay_apart(lasting_app):
    """More than the caches hold, all on one connection."""
    with lasting_app.connect() as client:
        for start in range(0, 3000, 60):
            fields = [(f"X-Name-{number}", f"value {number}") for number in range(start, start + 60)]
            doc = environ_of(client.request("GET", f"/environ/{start}?{start}", fields))
            got = {key: value for key, (_, value) in doc.items() if key.startswith("HTTP_X_NAME")}
            assert got == {
                name.upper().replace("-", "_").join(["HTTP_", ""]): value for name, value in fields
            }
            assert (doc["PATH_INFO"][1], doc["QUERY_STRING"][1]) == (f"/environ/{start}", str(start))


@pytest.mark.parametrize("length", [1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48])
def test_one_byte_makes_another_value_and_another_name(lasting_app, length):
    """Whatever a server compares to find what it knows, it compares all of it."""
    value, name = "v" * length, "X-" + "n" * length
    with lasting_app.connect() as client:

        def check(name, value):
            doc = environ_of(client.request("GET", "/environ", [(name, value)]))
            got = {key: value for key, (_, value) in doc.items() if key.startswith("HTTP_X_")}
            assert got == {"HTTP_" + name.upper().replace("-", "_"): value}

        for place in range(length):
            # Often enough for what only frequent lines get.
            for _ in range(20 if place == 0 else 1):
                check(name, value)
            check(name, value[:place] + "w" + value[place + 1 :])
            check(name[: place + 2] + "m" + name[place + 3 :], value)
            check(name, value)


@pytest.mark.servers("tricorn")
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="CPython does not say when a dict was changed")
@pytest.mark.parametrize("kinds", [1, 4])
def test_an_environ_that_nobody_touched_serves_again(lasting_app, kinds):
    """To copy and to free one costs a tenth of a quick request. Clients of several kinds may take turns."""
    with lasting_app.connect() as client:

        def aged(kind):
            return json.loads(client.request("GET", "/aged", [("X" * (kind + 1), "")]).body)

        # Each thread has its own, and knows its clients after a few requests.
        assert all(map(any, zip(*([aged(kind) for kind in range(kinds)] for _ in range(60)), strict=True)))


@pytest.mark.servers("tricorn")
def test_values_that_differ_in_their_last_digits_are_kept_side_by_side(server):
    """A string that is made anew with each request costs more than all else that its field needs."""
    with server.shared("wsgi_app:app", worker="sync").connect() as client:

        def met(page):
            referer = f"https://www.example.com/shop/items?page={page}"
            return json.loads(client.request("GET", f"/met/items/{page}", [("Referer", referer)]).body)

        pages = range(1, 65)
        for page in pages:
            met(page)
        values, targets = zip(*map(met, pages), strict=True)
    # The tables have 1,024 and 256 places, which some have to share.
    assert sum(values) > 55 and sum(targets) > 40, (sum(values), sum(targets))


def test_http_1_0_is_told(app):
    assert environ_of(app.request("GET", "/environ", version="HTTP/1.0"))["SERVER_PROTOCOL"][1] == "HTTP/1.0"


@pytest.mark.servers("tricorn")
def test_a_buffered_chunked_body_has_a_content_length(app):
    data = request_bytes("POST", "/environ", [("Transfer-Encoding", "chunked")]) + chunked(b"abc", b"de")
    with app.connect() as client:
        client.send(data)
        doc = environ_of(client.read_response())
    assert doc["CONTENT_LENGTH"][1] == "5"
    assert doc["HTTP_TRANSFER_ENCODING"][1] == "chunked"


def test_several_workers_are_told(server, worker):
    app = server.start("wsgi_app:app", "-w", "2", worker=worker)
    assert environ_of(app.request("GET", "/environ"))["wsgi.multiprocess"][1] == "True"


@pytest.mark.parametrize(
    "host, name, port", [("example.org:81", "example.org", "81"), ("example.org", "example.org", "80")]
)
def test_on_a_unix_socket_the_server_is_the_host_field(server, tmp_path, host, name, port):
    app = server.start("wsgi_app:app", bind=f"unix:{tmp_path}/s")
    with Connection(f"{tmp_path}/s") as client:
        doc = environ_of(client.request("GET", "/environ", host=host))
    assert (doc["SERVER_NAME"][1], doc["SERVER_PORT"][1]) == (name, port)
    assert doc["REMOTE_ADDR"][1] == "" and "REMOTE_PORT" not in doc
    assert app.path == f"{tmp_path}/s"


def test_on_a_unix_socket_without_host_the_server_is_the_path(server, tmp_path):
    server.start("wsgi_app:app", bind=f"unix:{tmp_path}/s")
    with Connection(f"{tmp_path}/s") as client:
        doc = environ_of(client.request("GET", "/environ", host=None, version="HTTP/1.0"))
    assert (doc["SERVER_NAME"][1], doc["SERVER_PORT"][1]) == (f"{tmp_path}/s", "")


@pytest.mark.servers("tricorn")
def test_on_a_unix_socket_an_ipv6_host_is_understood(server, tmp_path):
    server.start("wsgi_app:app", bind=f"unix:{tmp_path}/s")
    with Connection(f"{tmp_path}/s") as client:
        doc = environ_of(client.request("GET", "/environ", host="[::1]:81"))
    assert (doc["SERVER_NAME"][1], doc["SERVER_PORT"][1]) == ("[::1]", "81")


def test_script_name_of_the_environment_is_taken_off_the_path(server):
    app = server.start("wsgi_app:app", env={"SCRIPT_NAME": "/mount"})
    doc = environ_of(app.request("GET", "/mount/environ?x"))
    assert (doc["SCRIPT_NAME"][1], doc["PATH_INFO"][1]) == ("/mount", "/environ")
    assert doc["RAW_URI"][1] == "/mount/environ?x"


def test_a_path_outside_script_name_is_a_configuration_problem(server):
    app = server.start("wsgi_app:app", env={"SCRIPT_NAME": "/mount"})
    response = app.request("GET", "/environ")
    words = "Request path &#x27;/environ&#x27; does not start with SCRIPT_NAME &#x27;/mount&#x27;"
    assert response.status == 500
    assert "Configuration problem: " in response.body.decode()
    assert words in response.body.decode().replace("&#39;", "&#x27;")
    app.wait_for_line(
        r"\[WARNING\] Invalid request from ip=127.0.0.1: .*does not start with SCRIPT_NAME '/mount'"
    )


def test_a_permitted_script_name_field_wins(server):
    app = server.start(
        "wsgi_app:app", "--forwarder-headers", "SCRIPT_NAME", env={"SCRIPT_NAME": "/elsewhere"}
    )
    doc = environ_of(app.request("GET", "/mount/environ", [("SCRIPT_NAME", "/mount")]))
    assert (doc["SCRIPT_NAME"][1], doc["PATH_INFO"][1]) == ("/mount", "/environ")
    assert doc["HTTP_SCRIPT_NAME"][1] == "/mount"


def test_the_scheme_comes_from_a_trusted_peer(app):
    doc = environ_of(app.request("GET", "/environ", [("X-Forwarded-Proto", "https")]))
    assert doc["wsgi.url_scheme"][1] == "https"


def test_gunicorn_socket_is_the_connection(app):
    with app.connect() as client:
        address, port, is_stream = json.loads(client.request("GET", "/peer").body)
        assert (address, port) == client.socket.getsockname()[:2]
        assert is_stream is True


@pytest.mark.servers("tricorn")
def test_closing_gunicorn_socket_closes_nothing(app):
    with app.connect() as client:
        for _ in range(3):
            assert client.request("GET", "/peer?close=1").status == 200


def test_wsgi_errors_goes_to_the_error_log(server, worker):
    app = server.start("wsgi_app:app", worker=worker)
    app.request("GET", "/errors")
    for line in ("one by write", "two by writelines", "three by writelines", "four by print"):
        app.wait_for_line(f"^{line}$")


def test_wsgi_errors_goes_to_a_log_file_and_its_successor(server, tmp_path):
    log = tmp_path / "error.log"
    app = server.start("wsgi_app:app", "--log-file", str(log), wait=None)
    lines = wait_for_text(log, "Booting worker")
    app.port = int(lines.split("Listening at: http://127.0.0.1:")[1].split(" ")[0])
    app.request("GET", "/errors")
    assert "four by print" in log.read_text()


def wait_for_text(path, text):
    from harness.servers import wait_until

    wait_until(lambda: path.exists() and text in path.read_text(), what=f"{text!r} in {path}")
    return path.read_text()
