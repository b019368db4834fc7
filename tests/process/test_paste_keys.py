"""PasteDeploy: the keys of a server section, logging that the file sets up, `--paste` with such a file."""

from __future__ import annotations

import signal
import stat

import pytest
from harness.paste import RUNNER, answer, printed, refusal
from harness.servers import free_port, wait_until

LOGGERS = """
[loggers]
keys = root, access
[handlers]
keys = file, access
[formatters]
keys = plain, bare
[logger_root]
level = INFO
handlers = file
[logger_access]
level = INFO
handlers = {access}
qualname = gunicorn.access
propagate = 0
[handler_file]
class = FileHandler
args = ('{folder}/event.log', 'a')
formatter = plain
[handler_access]
class = FileHandler
args = ('{folder}/access.log', 'a')
formatter = bare
[formatter_plain]
format = FROM THE INI %(name)s %(message)s
[formatter_bare]
format = %(message)s
"""

tricorn_only = pytest.mark.servers("tricorn")
pytestmark = tricorn_only


def configuration(paste, keys, **how):
    """What the server section comes to."""
    return printed(paste(f"{keys}\nprint_config = true", listen=False, wait=None, **how))


# ---- addresses


@pytest.mark.parametrize(
    ("keys", "bind"),
    [
        ("bind = 127.0.0.1:81, unix:/tmp/x", ["127.0.0.1:81", "unix:/tmp/x"]),
        ("bind = 127.0.0.1:81\n    127.0.0.1:82", ["127.0.0.1:81", "127.0.0.1:82"]),
        ("host = 127.0.0.1,127.0.0.2\nport = 81", ["127.0.0.1:81", "127.0.0.2:81"]),
        ("host = ::1\nport = 81", ["[::1]:81"]),
        ("host = unix:/tmp/x", ["unix:/tmp/x"]),
        ("port = 81", ["0.0.0.0:81"]),
        ("host =\nport = 81", ["0.0.0.0:81"]),
        ("listen = 127.0.0.1:81 [::1]:82", ["127.0.0.1:81", "[::1]:82"]),
        ("listen = *:81", ["0.0.0.0:81"]),
        ("listen = localhost", ["localhost:8080"]),
        ("listen = 81", ["0.0.0.0:81"]),
        ("socket = 127.0.0.1:81", ["127.0.0.1:81"]),
        ("socket = /tmp/x", ["unix:/tmp/x"]),
        ("unix_socket = /tmp/x", ["unix:/tmp/x"]),
    ],
)
def test_address_is_understood_however_it_is_written(paste, keys, bind):
    assert configuration(paste, keys)["bind"] == str(bind)


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        ("bind = 127.0.0.1:0\nlisten = 127.0.0.1:0", ("bind", "listen")),
        ("listen = 127.0.0.1:0\nport = 1", ("listen", "port")),
        ("unix_socket = /tmp/x\nhost = 127.0.0.1", ("unix_socket", "host")),
    ],
)
def test_two_ways_to_say_where_to_listen_are_refused(paste, keys, named):
    text = refusal(paste(keys, listen=False, wait=None))
    assert all(name in text for name in named) and str(paste.ini) in text


@pytest.mark.parametrize(
    ("keys", "mode"), [("", 0o600), ("unix_socket_perms = 660", 0o660), ("umask = 7", 0o770)]
)
def test_unix_socket_has_the_permissions_that_were_asked_for(paste, tmp_path, keys, mode):
    running = paste(f"unix_socket = {tmp_path}/s\n{keys}", listen=False)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == mode
    assert running.path == f"{tmp_path}/s"
    assert answer(running)["path"] == "/"
    assert running.stop() == 0
    assert not (tmp_path / "s").exists()


# ---- keys of other servers


@pytest.mark.parametrize(
    ("key", "setting", "value"),
    [
        ("connection_limit = 50", "worker_connections", "50"),
        ("channel_timeout = 120", "keepalive", "120"),
        ("max_request_body_size = 1000", "limit_request_body", "1000"),
        ("max_request_header_size = 2000", "limit_request_field_size", "2000"),
        ("inbuf_overflow = 3000", "request_buffer_memory", "3000"),
        ("outbuf_overflow = 4000", "response_buffer_memory", "4000"),
        ("trusted_proxy = 10.0.0.1", "forwarded_allow_ips", "['10.0.0.1']"),
        ("trusted_proxy = *", "forwarded_allow_ips", "['*']"),
        ("trusted_proxy = localhost", "forwarded_allow_ips", "[]"),
        # Waitress believes no other field unless it is told to, and with this line not even that one.
        ("trusted_proxy = *", "secure_scheme_headers", "{'X-FORWARDED-PROTO': 'https'}"),
        ("trusted_proxy_headers = x-forwarded-for", "secure_scheme_headers", "{}"),
        ("max_number_headers = 20", "limit_request_fields", "20"),
        ("keepalive_timeout = 9", "keepalive", "9"),
        ("backlog = 99", "backlog", "99"),
        ("threads = 7", "threads", "7"),
        ("send_timeout = 8", "send_timeout", "8"),
        ("reuse_port = on", "reuse_port", "True"),
    ],
)
def test_key_of_another_server_is_a_setting(paste, key, setting, value):
    assert configuration(paste, key)[setting] == value


def test_workers_beside_socket_are_the_threads_of_pyruvate(paste):
    settings = configuration(paste, "socket = 127.0.0.1:81\nworkers = 3")
    assert (settings["workers"], settings["threads"]) == ("1", "3")


def test_keys_without_a_meaning_are_named_in_one_warning(paste):
    running = paste(
        "asyncore_use_poll = true\nident = me\nipv4 = true\nexpose_tracebacks = false\ntimeout = 99"
    )
    (line,) = running_warnings(running)
    assert all(key in line for key in ("asyncore_use_poll", "ident", "timeout"))
    # Those ask for what happens anyway.
    assert "ipv4" not in line and "expose_tracebacks" not in line


def test_sections_that_are_widespread_give_no_warning(paste):
    keys = (
        "threads = 2",
        "clear_untrusted_proxy_headers = false",
        "max_request_body_size = 1073741824",
        "expose_tracebacks = off",
    )
    assert running_warnings(paste("\n".join(keys))) == []


def warning_about(paste, *keys):
    (line,) = running_warnings(paste("\n".join(("trusted_proxy = 127.0.0.1", *keys))))
    return line


@pytest.mark.parametrize(
    ("keys", "advice"),
    [
        (("ident = Apache",), "ident (the Server field always says tricorn: let the proxy replace or remove"),
        (
            ("trusted_proxy_headers = X-Forwarded-Proto, X-Forwarded-For", "trusted_proxy_count = 2"),
            "trusted_proxy_headers = x-forwarded-for (REMOTE_ADDR stays the address of the proxy:",
        ),
        (("trusted_proxy_headers = x-forwarded-host",), "let the proxy pass the client's Host"),
        (("trusted_proxy_headers = x-forwarded-port",), "let the proxy pass it there"),
        (("trusted_proxy_headers = forwarded",), "let the proxy send X-Forwarded-Proto, and name that"),
        (("log_untrusted_proxy_headers = on",), "set that, too"),
    ],
)
def test_warning_about_a_key_of_proxies_says_what_to_do_instead(paste, keys, advice):
    line = warning_about(paste, *keys)
    assert advice in line
    assert ("trusted_proxy_count = 2" in line) == ("trusted_proxy_count = 2" in keys)


@pytest.mark.parametrize(
    "keys",
    [
        ("ident = tricorn",),
        ("trusted_proxy_headers = x-forwarded-proto", "trusted_proxy_count = 3"),
        ("trusted_proxy_headers = x-forwarded-by", "log_untrusted_proxy_headers = off"),
        ("clear_untrusted_proxy_headers = on", "log_untrusted_proxy_headers = on"),
    ],
)
def test_keys_of_proxies_that_have_their_effect_give_no_warning(paste, keys):
    assert running_warnings(paste("\n".join(("trusted_proxy = 127.0.0.1", *keys)))) == []


HTTPS = ("X-Forwarded-Proto", "https")


@pytest.mark.parametrize(
    ("keys", "field", "scheme"),
    [
        ("trusted_proxy = 127.0.0.1", HTTPS, "https"),
        ("trusted_proxy = 127.0.0.1", ("X-Forwarded-Ssl", "on"), "http"),
        ("trusted_proxy = 10.0.0.1", HTTPS, "http"),
        ("trusted_proxy = localhost", HTTPS, "http"),
        ("trusted_proxy =", HTTPS, "http"),
        ("trusted_proxy = *\ntrusted_proxy_headers = x-forwarded-proto", HTTPS, "https"),
        ("trusted_proxy = *\ntrusted_proxy_headers = x-forwarded-for", HTTPS, "http"),
    ],
)
def test_scheme_is_that_of_the_trusted_field_of_the_trusted_proxy(paste, keys, field, scheme):
    assert answer(paste(keys), fields=[field])["scheme"] == scheme


def test_proxy_on_a_unix_socket_is_the_localhost_of_waitress(paste, tmp_path):
    running = paste(f"unix_socket = {tmp_path}/s\ntrusted_proxy = localhost", listen=False)
    assert answer(running, fields=[HTTPS])["scheme"] == "https"


def test_scheme_fields_that_somebody_has_given_are_kept_beside_trusted_proxy(paste, tmp_path):
    (tmp_path / "conf.py").write_text("secure_scheme_headers = {'X-SCHEME': 'https'}\n")
    settings = configuration(paste, f"config = {tmp_path}/conf.py\ntrusted_proxy = *")
    assert settings["secure_scheme_headers"] == "{'X-SCHEME': 'https'}"


@pytest.mark.parametrize(
    ("keys", "seen"),
    [
        ("", "HTTP_FORWARDED HTTP_X_FORWARDED_FOR HTTP_X_FORWARDED_PROTO"),
        ("clear_untrusted_proxy_headers = off", "HTTP_FORWARDED HTTP_X_FORWARDED_FOR HTTP_X_FORWARDED_PROTO"),
        ("trusted_proxy = 10.0.0.1\nclear_untrusted_proxy_headers = on", ""),
        ("trusted_proxy = 127.0.0.1\nclear_untrusted_proxy_headers = on", "HTTP_X_FORWARDED_PROTO"),
        (
            "trusted_proxy = *\nclear_untrusted_proxy_headers = on\ntrusted_proxy_headers = x-forwarded-for",
            "HTTP_X_FORWARDED_FOR",
        ),
        ("forwarded_allow_ips = 127.0.0.0/8\nclear_untrusted_proxy_headers = on", "HTTP_X_FORWARDED_PROTO"),
    ],
)
def test_application_sees_the_fields_of_proxies_unless_they_are_cleared(paste, keys, seen):
    fields = [HTTPS, ("X-Forwarded-For", "192.0.2.1"), ("Forwarded", "for=192.0.2.1")]
    assert answer(paste(keys), fields=fields)["proxy_fields"] == seen


def test_cleared_fields_are_logged_where_that_was_asked_for(paste):
    verbs = ("clear", "log")
    keys = "\n".join(f"{verb}_untrusted_proxy_headers = on" for verb in verbs)
    running = paste(f"trusted_proxy = 10.0.0.1\nworkers = 2\n{keys}")
    assert answer(running, fields=[("X-Forwarded-For", "192.0.2.1")])["proxy_fields"] == ""
    running.wait_for_line("WARNING.*Removed untrusted headers of 127.0.0.1: X-Forwarded-For")
    assert answer(running)["proxy_fields"] == ""
    assert len(running.log.matches("Removed untrusted")) == 1


def running_warnings(running):
    return [match.string for match in running.log.matches("(?i)warning")]


@pytest.mark.parametrize(
    ("ours", "foreign"),
    [
        ("keepalive = 1", "channel_timeout = 2"),
        ('secure_scheme_headers = {"X-SCHEME": "https"}', "trusted_proxy_headers = x-forwarded-proto"),
    ],
)
def test_setting_under_two_names_is_refused(paste, ours, foreign):
    text = refusal(paste(f"{ours}\n{foreign}", wait=None))
    assert foreign in text and ours.split()[0] in text


@pytest.mark.parametrize(
    ("key", "wanted"),
    [
        ("threads = many", "threads = many"),
        ("connection_limit = few", "connection_limit = few"),
        ("unix_socket_perms = rwx", "octal"),
        ("trusted_proxy = proxy.example", "trusted_proxy = proxy.example"),
        ("trusted_proxy_headers = x-real-ip", "x-real-ip: waitress knows x-forwarded-proto"),
        ("worker_class = no.such.Class", "no.such.Class"),
    ],
)
def test_value_that_is_not_understood_is_named_with_its_key(paste, key, wanted):
    assert wanted in refusal(paste(key, wait=None))


def test_url_scheme_and_prefix_place_the_application(paste):
    running = paste("url_scheme = https\nurl_prefix = site/")
    below = answer(running, "/site/page")
    assert (below["scheme"], below["script"], below["path"]) == ("https", "/site", "/page")
    beside = answer(running, "/sites")
    assert (beside["script"], beside["path"]) == ("/site", "/sites")


# ---- what cannot be had where somebody else loads the application


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("worker_class = gevent", ("worker_class = gevent", "tricorn --paste", "MODULE:APP")),
        ("worker_class = eventlet\nworkers = 2", ("worker_class = eventlet", "patched")),
        ("worker_class = tricorn.workers.base.Worker", ("tricorn.workers.base.Worker", "sync or gthread")),
        ("worker_class = asgi\nworkers = 2", ("worker_class = asgi", "sync or gthread")),
        ("reload = true", ("reload", "pserve --reload")),
        ("max_requests = 9", ("max_requests = 9", "workers to 2 or more")),
    ],
)
def test_setting_that_needs_another_way_is_refused_with_that_way(paste, keys, words):
    text = refusal(paste(keys, wait=None))
    assert all(word in text for word in words), text
    assert "loaded in" not in text


# ---- logging that the file sets up


def log_says(path, text):
    """A fact for `wait_until`."""
    return lambda: path.exists() and text in path.read_text()


def test_logging_of_the_file_is_used_and_left_alone(paste, tmp_path):
    running = paste("", rest=LOGGERS.format(folder=tmp_path, access="access"), wait=None)
    log = tmp_path / "event.log"
    wait_until(log_says(log, "Listening at"), what="the line in the file's log")
    assert "FROM THE INI gunicorn.error Listening at" in log.read_text()
    assert "Listening at" not in running.log.text()
    assert running.stop() == 0


def test_access_logger_of_the_file_gets_the_access_lines(paste, tmp_path):
    port = free_port()
    keys = f"host = 127.0.0.1\nport = {port}"
    running = paste(keys, rest=LOGGERS.format(folder=tmp_path, access="access"), listen=False, wait=None)
    running.port = port
    wait_until(log_says(tmp_path / "event.log", "Serving"), what="the start")
    answer(running, "/seen")
    assert running.stop() == 0
    assert '"GET /seen HTTP/1.1" 200' in (tmp_path / "access.log").read_text()
    assert "/seen" not in (tmp_path / "event.log").read_text()


def test_usr1_reopens_the_log_files_of_the_file(paste, tmp_path):
    running = paste("", rest=LOGGERS.format(folder=tmp_path, access=""), wait=None)
    log = tmp_path / "event.log"
    wait_until(log_says(log, "Serving"), what="the start")
    log.rename(tmp_path / "old.log")
    running.send_signal(signal.SIGUSR1)
    wait_until(log.exists, what="a new log file")
    assert running.stop() == 0
    assert "Shutting down" in log.read_text()


def test_asgi_application_is_refused_in_the_only_process(paste):
    running = paste("", app="asgi = true", runner=RUNNER, wait=None)
    running.wait_for_line("was left with 4")
    assert "tricorn --paste FILE -k asgi" in running.log.text()


def test_errorlog_of_the_section_wins_over_the_logging_of_the_file(paste, tmp_path):
    rest = LOGGERS.format(folder=tmp_path, access="")
    paste(f"errorlog = {tmp_path}/own.log", rest=rest, wait=None)
    wait_until(log_says(tmp_path / "own.log", "Serving"), what="the start")
    assert "Serving" not in (tmp_path / "event.log").read_text()


# ---- `tricorn --paste`


def test_paste_option_reads_the_server_section(paste, server):
    paste.write("workers = 2\nthreads = 3\nchannel_timeout = 5\nurl_scheme = https")
    running = server.start(None, "--paste", str(paste.ini))
    assert answer(running)["scheme"] == "https"
    running.wait_for_workers(2)


def test_paste_option_clears_the_fields_of_proxies_for_whom_the_command_line_trusts(paste, server):
    paste.write("trusted_proxy = 127.0.0.1\nclear_untrusted_proxy_headers = on")
    for options, seen in (((), "HTTP_X_FORWARDED_PROTO"), (("--forwarded-allow-ips", "10.0.0.1"), "")):
        running = server.start(None, "--paste", str(paste.ini), *options)
        assert answer(running, fields=[HTTPS])["proxy_fields"] == seen


def test_command_line_wins_over_the_server_section(paste, server):
    paste.write(f"host = 127.0.0.1\nport = {free_port()}\nworkers = 3")
    running = server.start(None, "--paste", str(paste.ini), "-w", "1")
    running.wait_for_workers(1)


def test_server_section_wins_over_its_configuration_file(paste, server, tmp_path):
    (tmp_path / "conf.py").write_text("threads = 9\nkeepalive = 9\n")
    paste.write(f"config = {tmp_path}/conf.py\nthreads = 2")
    settings = printed(server.start(None, "--paste", str(paste.ini), "--print-config", wait=None))
    assert (settings["threads"], settings["keepalive"]) == ("2", "9")


def test_server_section_may_name_another_server_and_use_variables(paste, server):
    paste.write("threads = %(count)s\nodd_key = 1", server_line="use = egg:waitress#main")
    options = ("--paste", str(paste.ini), "--paste-global", "count=6", "--print-config")
    running = server.start(None, *options, wait=None)
    assert printed(running)["threads"] == "6"
    assert len(running.log.matches("Warning:.*odd_key")) == 1


def test_unknown_key_of_our_own_section_is_an_error_for_the_paste_option(paste, server):
    paste.write("odd_key = 1")
    assert "odd_key" in refusal(server.start(None, "--paste", str(paste.ini), wait=None))
