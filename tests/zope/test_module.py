"""A fresh Zope, made by `mkwsgiinstance`, served from a module as Zope's own documentation suggests."""

import re
import signal
import subprocess

import pytest
from harness.http import basic_auth, request_bytes

ADMIN = basic_auth("admin", "admin")

MODULE = """
from Zope2.Startup.run import make_wsgi_app
from ZPublisher.httpexceptions import HTTPExceptionHandler

application = HTTPExceptionHandler(make_wsgi_app({{}}, {conf!r}))
"""


@pytest.fixture
def zope(server, tmp_path, zope_bin):
    instance = tmp_path / "instance"
    subprocess.run(
        [zope_bin / "mkwsgiinstance", "-d", instance, "-u", "admin:admin"], check=True, capture_output=True
    )
    (tmp_path / "zopeapp.py").write_text(MODULE.format(conf=str(instance / "etc" / "zope.conf")))
    return server.start(
        "zopeapp:application", "--threads", "4", cwd=tmp_path, python=(str(zope_bin / "python"),)
    )


def multipart(**parts: tuple[str | None, bytes]) -> tuple[tuple[str, str], bytes]:
    """(Content-Type field, body) of a form; a part is (file name or None, data)."""
    body = b""
    for name, (filename, data) in parts.items():
        file = f'; filename="{filename}"' if filename else ""
        body += (
            f'--border\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
            + data
            + b"\r\n"
        )
    return ("Content-Type", "multipart/form-data; boundary=border"), body + b"--border--\r\n"


def test_a_fresh_instance_serves_manages_and_stops(zope, server):
    front = zope.request("GET", "/")
    assert front.status == 200 and b"Zope" in front.body
    assert front.get("Server") == server.name and front.get("Date")

    assert zope.request("GET", "/manage_main").status == 401
    manage = zope.request("GET", "/manage_main", [ADMIN])
    assert manage.status == 200 and b"acl_users" in manage.body
    assert zope.request("GET", "/no-such-thing").status == 404

    data = bytes(range(256)) * 8000
    kind, body = multipart(id=(None, b"stored"), file=("stored.bin", data), submit=(None, b"Add"))
    added = zope.request("POST", "/manage_addProduct/OFSP/manage_addFile", [ADMIN, kind], body)
    assert added.status in (200, 201, 302), added.body[:500]
    download = zope.request("GET", "/stored")
    assert download.body == data
    head = zope.request("HEAD", "/stored")
    assert (head.status, head.get("Content-Length"), head.body) == (200, str(len(data)), b"")
    part = zope.request("GET", "/stored", [("Range", "bytes=10-19")])
    assert (part.status, part.body) == (206, data[10:20])

    with zope.connect() as client:
        for _ in range(20):
            assert client.request("GET", "/", [ADMIN]).status == 200

    if server.name == "tricorn":
        # Zope rewinds wsgi.input for this, which Gunicorn's cannot.
        assert zope.request("PUT", "/stored", [ADMIN], b"put instead").status in (200, 201, 204)
        assert zope.request("GET", "/stored").body == b"put instead"

    assert zope.stop(signal.SIGTERM) == 0
    assert not re.search("Traceback", zope.log.text())


@pytest.mark.servers("tricorn")
def test_conflicting_writes_are_retried(zope):
    """Ten clients change one object at the same time; Zope rewinds the body for each retry."""
    kind, body = multipart(id=(None, b"shared"), submit=(None, b"Add"))
    assert zope.request("POST", "/manage_addProduct/OFSP/manage_addFolder", [ADMIN, kind], body).status < 400
    for round_ in range(5):
        clients = [zope.connect(timeout=30) for _ in range(10)]
        for number, client in enumerate(clients):
            kind, body = multipart(title=(None, b"%d-%d" % (round_, number)))
            client.send(request_bytes("POST", "/shared/manage_editProperties", [ADMIN, kind], body))
        statuses = [client.read_response().status for client in clients]
        assert max(statuses) < 400, statuses
        for client in clients:
            client.close()
