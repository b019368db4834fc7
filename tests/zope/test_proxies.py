"""The proxies of docs/zope.md, run for real in front of Zope: each with the snippet that the page shows.

Only ports are changed in a snippet, and around it stands the least that the program needs. Where a program is
missing its tests are skipped. nginx and HAProxy speak HTTPS as well, with a certificate made for the run; in
front of Varnish the test stands for what does.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from harness.http import Connection, basic_auth, request_bytes
from harness.servers import Launcher, Running, free_port, wait_until

pytestmark = [pytest.mark.servers("tricorn"), pytest.mark.usefixtures("server")]

SECTION = "Varnish, HAProxy, nginx"
SITE = Path(__file__).resolve().parent / "exhibit" / "folder_site.py"
ADMIN = basic_auth("admin", "admin")
MEGABYTES = 10
BIG = random.Random(7).randbytes(MEGABYTES * 1024 * 1024)
DEFAULT_KEEPALIVE = 2  # seconds
PUBLIC = "https://www.example.org"
# What a Debian package is called, and its program.
PACKAGES = {"nginx": "nginx-light", "haproxy": "haproxy", "varnishd": "varnish", "openssl": "openssl"}

NGINX = """
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {upstream}
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {pem};
        ssl_certificate_key {pem};
        {location}
    }}
}}
"""
HAPROXY = """
global
    stats socket {folder}/stats
    # So that it is not the kernel that takes a large file off Zope's hands.
    tune.rcvbuf.server 65536
    tune.sndbuf.client 65536
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend public
    bind 127.0.0.1:{port}
    bind 127.0.0.1:{tls_port} ssl crt {pem}
    default_backend plone
{backend}
"""


@dataclass
class Front:
    """A proxy that runs: where it listens, and its folder."""

    name: str
    running: Running
    folder: Path
    port: int
    tls_port: int = 0

    def connect(self, tls: bool = False, timeout: float = 20, **how) -> Connection:
        client = Connection(self.tls_port if tls else self.port, timeout, **how)
        if tls:
            context = ssl.create_default_context(cafile=self.folder / "site.pem")
            client.socket = context.wrap_socket(client.socket, server_hostname="www.example.org")
        return client

    def request(self, method="GET", target="/", fields=None, body=None, tls=False):
        with self.connect(tls) as client:
            return client.request(method, target, fields, body, host="www.example.org")

    def asked(self, *fields, tls=False) -> dict:
        """What Zope was told about a request."""
        return json.loads(self.request("GET", "/@@exhibit-asked", fields, tls=tls).body)


def program(name: str) -> str:
    """Where it is; administrators' programs are not on everybody's path."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))
    if found is None:
        pytest.skip(f"{name} is missing (Debian: apt-get install {PACKAGES[name]})")
    return found


def make_certificate(openssl: str, folder: Path) -> Path:
    pem, name = folder / "site.pem", "www.example.org"
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}", "-days", "2"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    pem.write_text(certificate.read_text() + key.read_text())
    return pem


def on_port(block: str, port: int) -> str:
    """The snippet with the port that Zope has here."""
    assert block.count("8080") == 1
    return block.replace("8080", str(port))


# ---- Zope and what stands in front of it


@pytest.fixture(scope="module")
def zope(furnished, snippet, tmp_path_factory) -> Iterator[Running]:
    """A Zope with a folder in the place of a site, and the server section that the page recommends."""
    instance = type(furnished)(tmp_path_factory.mktemp("behind") / "instance", furnished.bin)
    shutil.copytree(furnished.folder, instance.folder)
    instance.write_conf()
    instance.console(SITE, str(MEGABYTES))
    ini = instance.write_ini(on_port(snippet(SECTION, "ini"), 0).replace("[server:main]", ""))
    launcher = Launcher("tricorn", {})
    try:
        yield launcher.start_command(str(instance.bin / "runwsgi"), str(ini), env=instance.env)
    finally:
        launcher.end()


def nginx(block: str, folder: Path, port: int, tls_port: int) -> list[str]:
    """The command, after its configuration was written. So are the other two."""
    executable, pem = program("nginx"), make_certificate(program("openssl"), folder)
    upstream, location, inside = block.partition("location / {")
    # Started by root it would go on as somebody who may not write into the folder.
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    blocks = {"upstream": upstream, "location": location + inside}
    conf = NGINX.format(user=user, folder=folder, port=port, tls_port=tls_port, pem=pem, **blocks)
    (folder / "nginx.conf").write_text(conf)
    return [executable, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]


def haproxy(block: str, folder: Path, port: int, tls_port: int) -> list[str]:
    executable, pem = program("haproxy"), make_certificate(program("openssl"), folder)
    conf = HAPROXY.format(folder=folder, port=port, tls_port=tls_port, pem=pem, backend=block)
    (folder / "haproxy.cfg").write_text(conf)
    return [executable, "-db", "-f", str(folder / "haproxy.cfg")]


def varnish(block: str, folder: Path, port: int, tls_port: int) -> list[str]:
    executable = program("varnishd")
    (folder / "site.vcl").write_text("vcl 4.1;\n" + block)
    # No other user, no port for its command line, and a store for some files.
    options = ["-j", "none", "-T", "none", "-s", "malloc,64m", "-n", str(folder / "varnish")]
    return [executable, "-F", "-a", f"127.0.0.1:{port}", "-f", str(folder / "site.vcl"), *options]


PROXIES = {"nginx": (nginx, "nginx"), "haproxy": (haproxy, "backend plone"), "varnish": (varnish, "vcl")}
EVERY_PROXY = pytest.mark.parametrize("front", PROXIES, indirect=True)
SPEAKS_TLS = pytest.mark.parametrize("front", ["nginx", "haproxy"], indirect=True)


@pytest.fixture(scope="module")
def front(request, snippet, tmp_path_factory) -> Iterator[Front]:
    name = request.param
    prepare, begins = PROXIES[name]
    program({"varnish": "varnishd"}.get(name, name))
    zope = request.getfixturevalue("zope")
    folder = tmp_path_factory.mktemp(name)
    port, tls_port = free_port(), free_port()
    command = prepare(on_port(snippet(SECTION, begins), zope.port), folder, port, tls_port)
    launcher = Launcher(name, {})
    try:
        running = launcher.start_command(*command, wait=None)
        wait_until(lambda: listens(running, port), 20, f"{name}, listening on its port,")
        yield Front(name, running, folder, port, tls_port)
        running.stop(signal.SIGTERM, seconds=10)
    finally:
        launcher.end()


def listens(running: Running, port: int) -> bool:
    if running.process.poll() is not None:
        running.log.join()
        raise AssertionError(f"{running.name} has ended:\n{running.log.text()}")
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# ---- the site as the world sees it


@EVERY_PROXY
def test_site_is_at_the_root_and_knows_its_public_address(front):
    page = front.request()
    assert page.status == 200 and b"This is index_html." in page.body
    assert front.request("GET", "/d1/absolute_url").body == f"{PUBLIC}/d1".encode()
    assert front.request("GET", "/absolute_url").body == PUBLIC.encode()


@EVERY_PROXY
@pytest.mark.parametrize("path", ["/no-such-thing", "/no-such%0Athing"])
def test_path_that_leads_nowhere_is_looked_for_in_the_site(front, path):
    """A line end is the character that a regular expression may overlook."""
    answer = front.request("GET", path)
    assert answer.status == 404 and f"{PUBLIC}{path}".encode() in answer.body


@EVERY_PROXY
def test_escapes_and_query_arrive_as_they_were_sent(front):
    assert front.request("GET", "/a%20b/absolute_url").body == f"{PUBLIC}/a%20b".encode()
    told = front.request("GET", "/@@exhibit-asked?a=1%262&b=%C3%BC").body
    assert json.loads(told)["form"] == {"a": "1&2", "b": "\u00fc"}


@SPEAKS_TLS
def test_scheme_is_the_one_the_client_speaks_to_the_proxy(front):
    assert front.asked(tls=True)["scheme"] == "https"
    assert front.asked()["scheme"] == "http"
    assert front.asked(("X-Forwarded-Proto", "https"))["scheme"] == "http"


@pytest.mark.parametrize("front", ["varnish"], indirect=True)
def test_scheme_is_the_one_that_was_told_to_varnish(front):
    assert front.asked(("X-Forwarded-Proto", "https"))["scheme"] == "https"
    assert front.asked()["scheme"] == "http"


@EVERY_PROXY
def test_an_answer_has_one_server_and_one_date(front):
    answer = front.request()
    assert len(answer.get_all("Date")) == 1
    (server,) = answer.get_all("Server")
    assert server.split("/")[0] == ("nginx" if front.name == "nginx" else "tricorn")


# ---- large files


@EVERY_PROXY
def test_file_of_10_mb_arrives_whole(front):
    whole = front.request("GET", "/big")
    assert (whole.status, whole.get("Content-Length")) == (200, str(len(BIG)))
    assert whole.body == BIG
    # Varnish has it now, and answers by itself.
    assert front.request("GET", "/big").body == BIG


@EVERY_PROXY
def test_head_of_a_file_tells_its_length(front):
    with front.connect() as client:
        head = client.request("HEAD", "/big", [ADMIN])
        assert (head.status, head.get("Content-Length"), head.body) == (200, str(len(BIG)), b"")
        assert client.request("GET", "/d1").status == 200


@EVERY_PROXY
@pytest.mark.parametrize("fields", [(), (ADMIN,)], ids=["anonymous", "admin"])
def test_part_of_a_file_arrives_as_206(front, fields):
    part = front.request("GET", "/big", [*fields, ("Range", "bytes=5000000-5000999")])
    assert (part.status, part.body) == (206, BIG[5_000_000:5_001_000])
    assert part.get("Content-Range") == f"bytes 5000000-5000999/{len(BIG)}"


@EVERY_PROXY
def test_file_that_has_not_changed_is_304(front):
    when = front.request("HEAD", "/big", [ADMIN]).get("Last-Modified")
    for fields in ([], [ADMIN]):
        again = front.request("GET", "/big", [*fields, ("If-Modified-Since", when)])
        assert (again.status, again.body) == (304, b"")


@EVERY_PROXY
def test_upload_of_5_mb_is_stored_whole(front):
    data = random.Random(front.name).randbytes(5 * 1024 * 1024)
    # Without a type Zope would look for a form in it.
    fields = [ADMIN, ("Content-Type", "application/octet-stream")]
    assert front.request("PUT", "/stored", fields, data).status == 204
    assert front.request("GET", "/stored", [ADMIN]).body == data


@EVERY_PROXY
def test_slow_clients_hold_no_thread(front):
    """More of them than Zope has threads, each in the middle of the file. Varnish asks for each anew."""
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(front.connect(receive_buffer=65536)) for _ in range(6)]
        for client in slow:
            client.send(request_bytes("GET", "/big", [ADMIN]))
        heads = [client.read_head() for client in slow]
        for _ in range(8):
            assert front.asked()["scheme"] == "http"
        for head, client in zip(heads, slow, strict=True):
            client.read_body(head)
            assert head.body == BIG


# ---- connections


@EVERY_PROXY
def test_200_requests_share_the_connections_that_the_proxy_keeps(front):
    with front.connect() as client:
        answers = [client.request("GET", "/@@exhibit-asked") for _ in range(200)]
    assert {answer.status for answer in answers} == {200}
    assert all(len(answer.get_all("Date")) == len(answer.get_all("Server")) == 1 for answer in answers)
    assert len({json.loads(answer.body)["peer"] for answer in answers}) <= 10


# HAProxy closes some that are idle when it pleases, and gives every newcomer another one.
@pytest.mark.parametrize("front", ["nginx", "varnish"], indirect=True)
def test_connection_of_the_proxy_outlives_the_keepalive_that_is_not_set(front):
    before = front.asked()["peer"]
    time.sleep(DEFAULT_KEEPALIVE + 0.5)
    assert front.asked()["peer"] == before


@pytest.mark.parametrize("front", ["nginx", "varnish"], indirect=True)
def test_client_that_leaves_does_not_take_the_connection_with_it(front):
    peers = set()
    for _ in range(20):
        with front.connect() as client:
            answer = client.request("GET", "/@@exhibit-asked", [("Connection", "close")])
            assert answer.status == 200
            client.expect_closed(within=5)
        peers.add(json.loads(answer.body)["peer"])
    assert len(peers) <= 10


@pytest.mark.parametrize("front", ["haproxy"], indirect=True)
def test_check_of_haproxy_finds_zope_well(front):
    def status() -> dict:
        with socket.socket(socket.AF_UNIX) as stats:
            stats.connect(str(front.folder / "stats"))
            stats.sendall(b"show stat\n")
            names, *rows = stats.makefile().read().removeprefix("# ").splitlines()
        found = (dict(zip(names.split(","), row.split(","), strict=False)) for row in rows)
        return next(row for row in found if row.get("svname") == "one")

    wait_until(lambda: status()["check_status"] == "L7OK", 10, "a check that Zope has answered")
    assert (status()["status"], status()["check_code"]) == ("UP", "200")
