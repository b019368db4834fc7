"""The scope of an HTTP request: every key, its type, where its value comes from (ASGI 3.0, HTTP)."""

import random

import pytest
from harness.asgi import literal
from harness.http import Connection, request_bytes

OWN = "http.response."


def scope_of(response):
    return literal(response)["scope"]


def test_every_key_is_there_in_its_type(asgi):
    with asgi.connect() as client:
        port = client.socket.getsockname()[1]
        doc = literal(client.request("GET", "/scope?a=b"))
    types = {
        "type": "str",
        "asgi": "dict",
        "http_version": "str",
        "method": "str",
        "scheme": "str",
        "path": "str",
        "raw_path": "bytes",
        "query_string": "bytes",
        "root_path": "str",
        "state": "dict",
        "scope": "dict",
        "header": {"bytes"},
    }
    assert {key: doc["types"][key] for key in types} == types
    scope = doc["scope"]
    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    major, minor = scope["asgi"]["spec_version"].split(".")
    assert (int(major), int(minor)) >= (2, 3)
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "GET", "http")
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/scope", b"/scope", b"a=b")
    assert scope["root_path"] == ""
    assert list(scope["server"]) == ["127.0.0.1", asgi.port]
    assert list(scope["client"]) == ["127.0.0.1", port]
    assert [tuple(pair) for pair in scope["headers"]] == [(b"host", b"test")]


@pytest.mark.servers("tricorn")
def test_extensions_are_announced(asgi):
    extensions = scope_of(asgi.request("GET", "/scope"))["extensions"]
    for name in ("pathsend", "zerocopysend", "early_hint", "trailers"):
        assert extensions[OWN + name] == {}
    assert "websocket.http.response" not in extensions


@pytest.mark.servers("tricorn")
def test_changed_extensions_are_this_requests_own(asgi):
    with asgi.connect() as client:
        for _ in range(2):
            scope = scope_of(client.request("GET", "/scope?extend"))
            assert "left behind" not in scope["extensions"] and "left behind" not in scope["asgi"]


def test_nothing_is_left_behind_for_the_next_request(asgi):
    with asgi.connect() as client:
        first = scope_of(client.request("POST", "/scope?a=1", [("X-First", "1")], b"abc"))
        second = scope_of(client.request("GET", "/scope"))
    assert first["method"] == "POST" and first["query_string"] == b"a=1"
    assert "left behind" not in second
    assert (second["method"], second["query_string"]) == ("GET", b"")
    assert [tuple(pair) for pair in second["headers"]] == [(b"host", b"test")]


def test_http_1_0_is_told(asgi):
    scope = scope_of(asgi.request("GET", "/scope", version="HTTP/1.0", host=None))
    assert scope["http_version"] == "1.0"
    assert scope["headers"] == []


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "M-SEARCH", "PROPFIND"]
)
def test_the_method_is_the_clients(asgi, method):
    assert scope_of(asgi.request(method, "/scope"))["method"] == method


@pytest.mark.parametrize(
    "target, path, raw_path, query",
    [
        ("/scope/gr%C3%BC%C3%9Fe/a%20b", "/scope/grüße/a b", b"/scope/gr%C3%BC%C3%9Fe/a%20b", b""),
        ("/scope/%F0%9F%A6%84", "/scope/\U0001f984", b"/scope/%F0%9F%A6%84", b""),
        ("/scope/a%2Fb", "/scope/a/b", b"/scope/a%2Fb", b""),
        ("/scope/a%2fb?c%2fd", "/scope/a/b", b"/scope/a%2fb", b"c%2fd"),
        ("/scope/100%", "/scope/100%", b"/scope/100%", b""),
        ("/scope/%zz%4", "/scope/%zz%4", b"/scope/%zz%4", b""),
        ("/scope/%FF", "/scope/\ufffd", b"/scope/%FF", b""),
        ("/scope/a+b;c=d", "/scope/a+b;c=d", b"/scope/a+b;c=d", b""),
        ("/scope//a/../b/.", "/scope//a/../b/.", b"/scope//a/../b/.", b""),
        ("/scope/?", "/scope/", b"/scope/", b""),
        ("/scope?a=%C3%BC&b=+&&?", "/scope", b"/scope", b"a=%C3%BC&b=+&&?"),
        ("/scope/%3Fa=b?c=d", "/scope/?a=b", b"/scope/%3Fa=b", b"c=d"),
        ("/", "/", b"/", b""),
    ],
)
def test_the_target_is_split_and_decoded(asgi, target, path, raw_path, query):
    scope = scope_of(asgi.request("GET", target))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == (path, raw_path, query)


@pytest.mark.servers("tricorn")
def test_an_absolute_target_gives_its_path(asgi):
    """Gunicorn gives the whole target as the path."""
    scope = scope_of(asgi.request("GET", "http://elsewhere:99/scope/%C3%BC?a=b", host="test"))
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/scope/ü", b"/scope/%C3%BC", b"a=b")


@pytest.mark.servers("tricorn")
def test_an_absolute_target_without_a_path_is_the_root(asgi):
    scope = scope_of(asgi.request("GET", "http://elsewhere?a=b", host="test"))
    assert (scope["path"], scope["query_string"]) == ("/", b"a=b")


def test_fields_are_lower_case_bytes_in_order_with_duplicates(asgi):
    fields = [
        ("X-Two", "2"),
        ("ACCEPT", "a"),
        ("x-two", "3"),
        ("Cookie", "a=1"),
        ("Accept", "b"),
        ("Cookie", "b=2"),
        ("X-Empty", ""),
        ("X-Blank", "  \t in \t side  "),
        ("X-Latin", "caf\xe9"),
        ("X-Utf", "\u20ac".encode().decode("latin-1")),
    ]
    scope = scope_of(asgi.request("GET", "/scope", fields))
    expected = [(name.lower().encode(), value.strip(" \t").encode("latin-1")) for name, value in fields]
    assert [tuple(pair) for pair in scope["headers"]] == [(b"host", b"test"), *expected]


NAMES = ["User-Agent", "user-agent", "Accept", "X-One", "X-Two", "Cookie", "Authorization", "Content-Type"]


def test_each_request_has_its_own_fields_whatever_came_before(asgi):
    """The same few sets of names over and over, with values that repeat and values that do not."""
    dice = random.Random(20261125)
    sets = [dice.sample(NAMES, dice.randint(1, len(NAMES))) for _ in range(6)]
    values = ["", "same", "other", "\xe9", "x" * 191, "x" * 192, "x" * 193, "y" * 4000]
    with asgi.connect() as client:
        for turn in range(150):
            names = dice.choice(sets)
            fields = [(name, dice.choice(["same", "same", str(turn), *values])) for name in names]
            scope = scope_of(client.request("GET", f"/scope?{turn}", fields))
            expected = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
            assert [tuple(pair) for pair in scope["headers"]] == [(b"host", b"test"), *expected]
            assert scope["query_string"] == str(turn).encode()


def test_names_with_underscores_are_dropped(asgi):
    scope = scope_of(
        asgi.request("GET", "/scope", [("X_Under", "1"), ("X-Dash", "2"), ("Remote_User", "me")])
    )
    names = [name for name, _ in scope["headers"]]
    assert names == [b"host", b"x-dash"]


@pytest.mark.parametrize("policy, answer", [("refuse", 400), ("dangerous", 200)])
def test_header_map_decides_about_underscores(server, policy, answer):
    running = server.shared("asgi_app:app", "--header-map", policy, worker="asgi")
    with running.connect() as client:
        response = client.request("GET", "/scope", [("X_Under", "1")])
        assert response.status == answer
        if answer == 200:
            assert (b"x_under", b"1") in [tuple(pair) for pair in scope_of(response)["headers"]]


@pytest.mark.parametrize(
    "fields, scheme",
    [
        ([("X-Forwarded-Proto", "https")], "https"),
        ([("X-Forwarded-Proto", "http")], "http"),
        ([("X-Forwarded-Ssl", "on")], "https"),
        ([("X-Forwarded-Protocol", "ssl")], "https"),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "on")], "https"),
        ([], "http"),
    ],
)
def test_the_scheme_comes_from_a_trusted_proxy(asgi, fields, scheme):
    with asgi.connect() as client:
        assert scope_of(client.request("GET", "/scope", fields))["scheme"] == scheme
        assert scope_of(client.request("GET", "/scope"))["scheme"] == "http"


def test_schemes_that_contradict_each_other_are_refused(asgi):
    fields = [("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off")]
    assert asgi.request("GET", "/scope", fields).status == 400


def test_nobody_else_sets_the_scheme(server):
    running = server.shared("asgi_app:app", "--forwarded-allow-ips", "192.0.2.1", worker="asgi")
    scope = scope_of(running.request("GET", "/scope", [("X-Forwarded-Proto", "https")]))
    assert scope["scheme"] == "http"
    assert (b"x-forwarded-proto", b"https") in [tuple(pair) for pair in scope["headers"]]


def test_the_address_stays_the_peers_whatever_a_proxy_says(asgi):
    scope = scope_of(asgi.request("GET", "/scope", [("X-Forwarded-For", "192.0.2.7")]))
    assert scope["client"][0] == "127.0.0.1"


def test_root_path_is_the_setting(server):
    running = server.shared("asgi_app:app", "--root-path", "/mounted", worker="asgi")
    scope = scope_of(running.request("GET", "/scope/a"))
    assert (scope["root_path"], scope["path"]) == ("/mounted", "/scope/a")


def test_state_is_a_shallow_copy_for_each_request(asgi, mark):
    with asgi.connect() as client:
        first = literal(client.request("GET", f"/state?mark={mark}"))
        second = literal(client.request("GET", "/state?mark=after"))
    assert first["number"] == second["number"] == 1
    assert "added" not in first and "added" not in second
    assert mark not in first["shared"] and mark in second["shared"]


def test_on_ipv6_addresses_are_pairs(server):
    running = server.start("asgi_app:app", bind="[::1]:0", worker="asgi")
    with Connection(("::1", running.port)) as client:
        port = client.socket.getsockname()[1]
        scope = scope_of(client.request("GET", "/scope"))
    assert list(scope["server"]) == ["::1", running.port]
    assert list(scope["client"]) == ["::1", port]


def test_a_unix_socket_serves(server, tmp_path):
    path = str(tmp_path / "asgi.sock")
    running = server.start("asgi_app:app", bind=f"unix:{path}", worker="asgi")
    scope = scope_of(running.request("GET", "/scope", [("X-Forwarded-Proto", "https")]))
    assert scope["client"] is None
    assert scope["scheme"] == "https"
    # Gunicorn takes the first two characters of the path for host and port.
    if server.name == "tricorn":
        assert list(scope["server"]) == [path, None]


@pytest.mark.parametrize(
    "request_, status",
    [
        (b"GET\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nBad Name: b\r\n\r\n", 400),
        (b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX-Long: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: nonsense, chunked\r\n\r\n", 501),
    ],
)
def test_what_is_no_request_never_reaches_the_application(asgi, request_, status):
    with asgi.connect() as client:
        client.send(request_)
        assert client.read_response().status == status
        client.expect_closed()


def test_a_head_may_come_in_pieces(asgi):
    with asgi.connect() as client:
        client.send_pieces(request_bytes("GET", "/scope/%C3%BC?a=b", [("X-Piece", "1")]))
        scope = scope_of(client.read_response())
    assert (scope["path"], scope["query_string"]) == ("/scope/ü", b"a=b")
    assert (b"x-piece", b"1") in [tuple(pair) for pair in scope["headers"]]
