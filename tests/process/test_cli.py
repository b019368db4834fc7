"""The command line and the sources of configuration, as `--print-config` and `--check-config` show them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

APP = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"ok"]

application = app

def create(first=1, n=2):
    return app

def nothing():
    return None

def failing():
    raise TypeError("from within")

number = 5
empty = None
"""
FOREIGN = ("GUNICORN_", "TRICORN_", "PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "SENDFILE")


class Command:
    """Runs a server's command in a folder with an application, and keeps what it said."""

    def __init__(self, name: str, folder: Path):
        self.name = name
        self.folder = folder
        (folder / "web.py").write_text(APP)

    def __call__(self, *args: str, env: dict[str, str] | None = None):
        clean = {name: text for name, text in os.environ.items() if not name.startswith(FOREIGN)}
        return subprocess.run(
            [sys.executable, "-m", self.name, *args],
            cwd=self.folder,
            env=clean | {"PWD": str(self.folder)} | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
        )

    def settings(self, *args: str, env: dict[str, str] | None = None) -> dict[str, str]:
        """The settings that a command line leads to."""
        done = self(*args, "--print-config", "web:app", env=env)
        assert done.returncode == 0, done.stderr
        lines = (line.partition(" = ") for line in done.stdout.splitlines())
        return {name.strip(): text for name, _, text in lines}

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name


@pytest.fixture
def command(server, tmp_path):
    return Command(server.name, tmp_path)


def test_version(command):
    done = command("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(f"{command.name} (version ")


def test_help_names_the_program(command):
    done = command("-h")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: {command.name} [OPTIONS] [APP_MODULE]")


@pytest.mark.parametrize("target", ["web", "web:app", "web:create()", 'web:create("a", n=3)'])
def test_application_targets(command, target):
    done = command("--check-config", target)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("web:nope", "AppImportError: Failed to find attribute 'nope' in 'web'."),
        ("web:a.b", "AppImportError: Failed to parse 'a.b' as an attribute name or function call."),
        ("web:(", "AppImportError: Failed to parse '(' as an attribute name or function call."),
        ("web:", "AppImportError: Failed to parse '' as an attribute name or function call."),
        ("web:x.create()", "AppImportError: Function reference must be a simple name: 'x.create()'"),
        ("web:create(x)", "AppImportError: Failed to parse arguments as literal values: 'create(x)'"),
        ("web:create(*[1])", "AppImportError: Failed to parse arguments as literal values: 'create(*[1])'"),
        (
            "web:create(1, 2, 3)",
            "AppImportError: TypeError: create() takes from 0 to 2 positional arguments but 3 were given",
        ),
        ("web:failing()", "TypeError: from within"),
        ("web:nothing()", "AppImportError: Failed to find application object: 'nothing()'"),
        ("web:empty", "AppImportError: Failed to find application object: 'empty'"),
        ("web:number", "AppImportError: Application object must be callable."),
        ("web.py", "ImportError: Failed to find application, did you mean 'web:application'?"),
        ("web.py:app", "ImportError: Failed to find application, did you mean 'web:app'?"),
        ("missing:app", "ModuleNotFoundError: No module named 'missing'"),
    ],
)
def test_targets_that_fail_say_why(command, target, message):
    done = command("--check-config", target)
    assert done.returncode == 1
    assert done.stderr.startswith("\nError while loading the application:\n")
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.removeprefix(f"{command.name}.errors.") == message


def test_no_target(command):
    done = command("--check-config")
    assert (done.returncode, done.stderr) == (1, "\nError: No application module specified.\n")


def test_wsgi_app_is_the_fallback_target(command):
    command.write("conf.py", "wsgi_app = 'web:app'")
    assert command("-c", "conf.py", "--check-config").returncode == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--nosuch"], "unrecognized arguments: --nosuch"),
        (["-w", "abc"], "argument -w/--workers: invalid int value: 'abc'"),
        (["-m", "abc"], "argument -m/--umask: invalid auto_int value: 'abc'"),
        (["--limit", "1"], "ambiguous option: --limit could match"),
    ],
)
def test_bad_arguments_exit_with_2(command, args, message):
    done = command(*args, "--check-config", "web:app")
    assert done.returncode == 2
    assert f"{command.name}: error: {message}" in done.stderr


@pytest.mark.parametrize("args", [["-w4"], ["-w", "4"], ["--workers=4"], ["--workers", "4"]])
def test_forms_of_an_option(command, args):
    assert command.settings(*args)["workers"] == "4"


def test_prefixes_repeats_and_switches(command):
    args = ["-b", "a:1", "--bind", "b:2", "--graceful", "7", "--preload", "--no-sendfile", "-m", "022"]
    settings = command.settings(*args)
    assert settings["bind"] == "['a:1', 'b:2']"
    assert settings["graceful_timeout"] == "7"
    assert settings["preload_app"] == "True"
    assert settings["sendfile"] == "False"
    assert settings["umask"] == "18"


def test_options_may_follow_the_target(command):
    done = command("web:app", "further", "words", "--print-config", "-w", "3")
    assert done.returncode == 0
    assert any(line.split() == ["workers", "=", "3"] for line in done.stdout.splitlines())


@pytest.mark.parametrize("location", ["conf.py", "file:conf.py", "./conf.py"])
def test_configuration_files(command, location):
    command.write("conf.py", "import os\nworkers = 3\nTimeout = 9\nother = 1\n")
    settings = command.settings("-c", location)
    assert (settings["workers"], settings["timeout"]) == ("3", "30")


def test_configuration_modules(command):
    command.write("settings_module.py", "workers = 3\n")
    assert command.settings("-c", "python:settings_module")["workers"] == "3"


def test_gunicorn_conf_py_is_found_by_itself(command):
    command.write("gunicorn.conf.py", "workers = 3\n")
    assert command.settings()["workers"] == "3"


@pytest.mark.servers("tricorn")
def test_tricorn_conf_py_comes_before_gunicorn_conf_py(command):
    command.write("gunicorn.conf.py", "workers = 3\ntimeout = 9\n")
    command.write("tricorn.conf.py", "workers = 4\n")
    settings = command.settings()
    assert (settings["workers"], settings["timeout"]) == ("4", "30")


def test_other_extensions_are_read_with_a_warning(command):
    command.write("conf.txt", "workers = 3\n")
    done = command("-c", "conf.txt", "--check-config", "web:app")
    assert done.returncode == 0
    warning = "!!!\n!!! WARNING: configuration file should have a valid Python extension.\n!!!\n"
    assert done.stderr.startswith(warning)


@pytest.mark.parametrize("location", ["nope.py", "file:nope.py"])
def test_a_missing_configuration_file(command, location):
    done = command("-c", location, "--check-config", "web:app")
    assert (done.returncode, done.stderr) == (1, "\nError: 'nope.py' doesn't exist\n")


def test_a_missing_configuration_module(command):
    done = command("-c", "python:nope", "--check-config", "web:app")
    assert (done.returncode, done.stderr) == (1, "\nError: No module named 'nope'\n")


def test_a_configuration_file_that_raises(command):
    command.write("conf.py", "1/0\n")
    done = command("-c", "conf.py", "--check-config", "web:app")
    assert done.returncode == 1
    assert done.stderr.startswith("Failed to read config file: conf.py\nTraceback")
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("workers", "abc", "invalid literal for int() with base 0: 'abc'"),
        ("workers", -1, "Value must be positive: -1"),
        ("preload_app", "yes", "Invalid boolean: yes"),
        ("bind", [1], "Not a string: 1"),
        ("header_map", "keep", "Invalid header map behaviour: keep"),
        ("forwarded_allow_ips", "10.0.0.1/8", "10.0.0.1/8 has host bits set"),
        ("on_starting", "x", "Value 'x' is not import string. Format: module[.submodules...].object"),
    ],
)
def test_wrong_values_are_named(command, name, value, error):
    command.write("conf.py", f"{name} = {value!r}\n")
    done = command("-c", "conf.py", "--check-config", "web:app")
    assert done.returncode == 1
    assert done.stderr.startswith(f"Invalid value for {name}: {value}\n")
    assert f"\nError: {error}" in done.stderr


def test_precedence_of_the_sources(command):
    command.write("conf.py", "workers = 2\nthreads = 2\ntimeout = 2\n")
    env = {"WEB_CONCURRENCY": "1", "PORT": "5000", "GUNICORN_CMD_ARGS": "--threads 3 --timeout 3"}
    settings = command.settings("-c", "conf.py", "--timeout", "4", env=env)
    assert [settings[name] for name in ("workers", "threads", "timeout")] == ["2", "3", "4"]
    assert settings["bind"] == "['0.0.0.0:5000']"


def test_the_environment_decides_defaults(command):
    settings = command.settings(env={"WEB_CONCURRENCY": "5", "FORWARDED_ALLOW_IPS": "*"})
    assert settings["workers"] == "5"
    assert settings["forwarded_allow_ips"] == "['*']"


def test_a_configuration_file_named_in_the_environment(command):
    command.write("conf.py", "workers = 2\n")
    command.write("other.py", "workers = 3\n")
    env = {"GUNICORN_CMD_ARGS": "-c conf.py"}
    assert command.settings(env=env)["workers"] == "2"
    assert command.settings("-c", "other.py", env=env)["workers"] == "3"


def test_chdir_is_where_the_application_is_looked_for(command):
    (command.folder / "sub").mkdir()
    (command.folder / "sub" / "inner.py").write_text(APP)
    command.write("conf.py", "workers = 2\n")
    assert command("--chdir", "sub", "-c", "conf.py", "--check-config", "inner:app").returncode == 0
    done = command("--chdir", "nope", "--check-config", "web:app")
    assert done.returncode == 1
    assert done.stderr.endswith("\nError: can't chdir to 'nope'\n")


def test_print_config_shows_default_hooks(command):
    settings = command.settings()
    assert settings["on_starting"] == "<OnStarting.on_starting()>"
    assert settings["default_proc_name"] == "web:app"


@pytest.mark.servers("tricorn")
def test_own_variables_are_stronger_than_gunicorns(command):
    command.write("conf.py", "timeout = 2\n")
    env = {
        "TRICORN_CONFIG": "conf.py",
        "TRICORN_WORKERS": "6",
        "TRICORN_TIMEOUT": "6",
        "GUNICORN_CMD_ARGS": "--threads 3",
        "TRICORN_CMD_ARGS": "--threads 4",
    }
    settings = command.settings(env=env)
    assert [settings[name] for name in ("workers", "timeout", "threads")] == ["6", "2", "4"]


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize("variable", ["TRICORN_WORKERS", "WEB_CONCURRENCY"])
def test_variables_with_wrong_values_are_named(command, variable):
    done = command("--check-config", "web:app", env={variable: "many"})
    assert done.returncode == 1
    assert "Invalid value for workers: many" in done.stderr
    assert "wanted a whole number" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.servers("tricorn")
@pytest.mark.parametrize(
    "args",
    [
        ["--certfile", "x"],
        ["--http-protocols", "h2,h1"],
        ["--proxy-protocol=v1"],
        ["--protocol", "uwsgi"],
        ["--dirty-app", "x:Y"],
        ["--control-socket", "x"],
        ["--statsd-host", "x"],
        ["-k", "gaiohttp"],
    ],
)
def test_what_is_not_implemented_is_refused_by_name(command, args):
    done = command(*args, "--check-config", "web:app")
    assert done.returncode == 1
    assert "not implemented in this version" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args", [["--no-control-socket"], ["--protocol", "http"], ["--http-protocols", "h1"]]
)
def test_defaults_of_what_is_not_implemented_are_accepted(command, args):
    assert command(*args, "--check-config", "web:app").returncode == 0


def test_paste_files(command):
    pytest.importorskip("paste.deploy", reason="PasteDeploy is not installed")
    command.write(
        "site.ini",
        "[loggers]\nkeys = root\n[app:main]\npaste.app_factory = web_factory:make\n"
        "[app:other]\npaste.app_factory = web_factory:fail\n",
    )
    command.write(
        "web_factory.py",
        "import web\n"
        "def make(global_conf, **local):\n    assert global_conf['key'] == 'a=b'\n    return web.app\n"
        "def fail(global_conf, **local):\n    raise RuntimeError('the other section')\n",
    )
    done = command("--paste", "site.ini", "--paste-global", r"key=a\=b", "--print-config")
    assert done.returncode == 0, done.stderr
    values = {line.partition(" = ")[0].strip(): line.partition(" = ")[2] for line in done.stdout.splitlines()}
    ini = str(command.folder / "site.ini")
    assert (values["default_proc_name"], values["logconfig"]) == (ini, ini)
    done = command("--paste", "site.ini#other", "--check-config")
    assert done.returncode == 1 and "the other section" in done.stderr


def test_a_missing_paste_file(command):
    done = command("--paste", "nope.ini", "--check-config")
    missing = command.folder / "nope.ini"
    assert (done.returncode, done.stderr) == (1, f"\nError: '{missing}' not found\n")


def test_spew_prints_the_lines_of_the_application(server):
    running = server.start("hello:app", "--spew")
    assert running.request().status == 200
    running.out.wait_for(r"^hello:\d+: .*return")
    assert running.stop() == 0
