"""Config, Setting and the validators that live in Python."""

import functools
import os

import pytest
from tricorn import config, hooks
from tricorn.config import KNOWN_SETTINGS, AccessLogFormat, Config, Setting, make_settings
from tricorn.errors import ConfigError, NotImplementedYet


@pytest.fixture
def cfg():
    return Config()


@pytest.fixture
def registered():
    """Forget the settings that a test registers."""
    known = len(KNOWN_SETTINGS)
    yield
    del KNOWN_SETTINGS[known:]


def test_every_setting_is_an_attribute(cfg):
    assert len(cfg.settings) == 134
    for name in cfg.settings.keys() - {"worker_class", "logger_class"}:  # these load the class
        assert hasattr(cfg, name)


def test_settings_are_read_only_as_attributes(cfg):
    with pytest.raises(AttributeError, match="Invalid access!"):
        cfg.workers = 3
    cfg.note = "other attributes are free"
    assert cfg.note


def test_unknown_settings_are_refused(cfg):
    with pytest.raises(AttributeError, match="No configuration setting for: nope"):
        cfg.set("nope", 1)
    with pytest.raises(AttributeError, match="No configuration setting for: nope"):
        cfg.nope  # noqa: B018


def test_settings_have_value_default_get_and_set(cfg):
    threads = cfg.settings["threads"]
    threads.set("0x4")
    assert (threads.get(), threads.value, threads.default, cfg.threads) == (4, 4, 1, 4)
    assert Config().threads == 1


def test_defaults_that_are_text_are_stored_as_lists(cfg):
    assert cfg.uwsgi_allow_ips == ["127.0.0.1", "::1"]
    assert cfg.forwarder_headers == ["SCRIPT_NAME", "PATH_INFO"]
    assert [str(network) for network in cfg.proxy_allow_networks] == ["127.0.0.1/32", "::1/128"]


def test_dictionaries_keep_what_they_hold(cfg):
    value = {"version": 1, "filters": {"own": {"()": object}}}
    cfg.set("logconfig_dict", value)
    assert cfg.logconfig_dict is value


def test_the_access_log_format_can_be_imported():
    assert AccessLogFormat.default == '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'


@pytest.mark.parametrize(
    ("bind", "address"),
    [
        ("localhost", ("localhost", 8000)),
        ("LOCALHOST:80", ("localhost", 80)),
        (":80", ("", 80)),
        ("tcp://host:1", ("host", 1)),
        ("[::1]", ("::1", 8000)),
        ("[::1]:5", ("::1", 5)),
        ("unix:/run/a", "/run/a"),
        ("unix:///run/a", "/run/a"),
        ("unix:\0a", "\0a"),
        ("fd://3", 3),
    ],
)
def test_bind_forms(cfg, bind, address):
    cfg.set("bind", bind)
    assert cfg.address == [address]


@pytest.mark.parametrize(
    ("bind", "message"),
    [
        ("host:x", "'x' is not a valid port number."),
        ("fd://x", "'x' is not a valid file descriptor."),
        ("::1", "'' is not a valid port number."),
    ],
)
def test_bad_binds(cfg, bind, message):
    cfg.set("bind", bind)
    with pytest.raises(RuntimeError) as caught:
        cfg.address  # noqa: B018
    assert str(caught.value) == message


def test_raw_env_becomes_a_dict(cfg):
    cfg.set("raw_env", ["A=1", "B=x=y"])
    assert cfg.env == {"A": "1", "B": "x=y"}
    cfg.set("raw_env", ["A"])
    with pytest.raises(RuntimeError, match="environment setting 'A' invalid"):
        cfg.env  # noqa: B018


def test_paste_global_conf_knows_escapes(cfg):
    cfg.set("raw_paste_global_conf", [r"a\=b=c\=d", "x=y"])
    assert cfg.paste_global_conf == {"a=b": "c=d", "x": "y"}


def test_the_process_name_falls_back(cfg):
    assert cfg.proc_name == "tricorn"
    cfg.set("default_proc_name", "module:app")
    assert cfg.proc_name == "module:app"
    cfg.set("proc_name", "mine")
    assert cfg.proc_name == "mine"


@pytest.mark.parametrize(
    ("value", "variable", "expected"),
    [(None, None, True), (None, "no", False), (None, "Yes", True), (False, "yes", False), (True, "no", True)],
)
def test_sendfile_is_decided_by_the_setting_then_the_environment(cfg, monkeypatch, value, variable, expected):
    monkeypatch.delenv("SENDFILE", raising=False)
    if variable is not None:
        monkeypatch.setenv("SENDFILE", variable)
    cfg.set("sendfile", value)
    assert cfg.sendfile is expected


def test_several_threads_turn_sync_into_gthread(cfg):
    assert cfg.worker_class_str == "sync"
    cfg.set("threads", 2)
    assert cfg.worker_class_str == "gthread"
    assert cfg.settings["worker_class"].get() == "sync"


class Worker:
    was_set_up = False

    @classmethod
    def setup(cls):
        cls.was_set_up = True


def test_a_worker_class_may_be_a_class_a_function_or_a_dotted_path(cfg):
    for value in (Worker, lambda: Worker, f"{__name__}.Worker"):
        Worker.was_set_up = False
        cfg.set("worker_class", value)
        assert cfg.worker_class is Worker
        assert Worker.was_set_up
    cfg.set("worker_class", Worker)
    assert cfg.worker_class_str == "Worker"


@pytest.mark.parametrize("uri", ["nope", "nopkg.Class", "os.nope", "egg:nope#x", ""])
def test_worker_classes_that_lead_nowhere(cfg, uri):
    cfg.set("worker_class", uri)
    with pytest.raises(RuntimeError) as caught:
        cfg.worker_class  # noqa: B018
    assert str(caught.value).startswith(f"class uri {uri!r} invalid or not found: \n\n[Traceback")


@pytest.mark.parametrize("uri", ["gaiohttp", "#gaiohttp", "uvicorn.workers.UvicornWorker"])
def test_worker_classes_of_later_versions_are_refused_by_name(cfg, uri):
    cfg.set("worker_class", uri)
    with pytest.raises(NotImplementedYet, match=uri):
        cfg.validate()


def test_a_worker_made_for_gunicorn_itself_is_refused(cfg):
    foreign = type("Foreign", (), {"__module__": "gunicorn.workers.base"})
    cfg.set("worker_class", type("Mine", (foreign,), {}))
    with pytest.raises(NotImplementedYet, match="Mine"):
        cfg.validate()


def test_hooks_know_whether_they_are_the_default(cfg):
    assert cfg.pre_request is hooks.pre_request
    assert cfg.hook_is_default("pre_request")
    cfg.set("pre_request", lambda worker, req: None)
    assert not cfg.hook_is_default("pre_request")


def takes_one(server):
    return server


@functools.wraps(takes_one)
def wrapped(*args, **kwargs):
    return takes_one(*args, **kwargs)


class Hooks:
    def method(self, server):
        return server


@pytest.mark.parametrize("hook", [takes_one, wrapped, Hooks().method, f"{__name__}.takes_one"])
def test_hooks_of_the_right_arity_are_taken(cfg, hook):
    cfg.set("on_starting", hook)
    assert cfg.on_starting(7) == 7


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (lambda: None, "Value must have an arity of: 1"),
        (lambda *args: None, "Value must have an arity of: 1"),
        (lambda one, two=2: None, "Value must have an arity of: 1"),
        (5, "Value is not callable: 5"),
        (None, "Value is not callable: None"),
        ("nodots", "Value 'nodots' is not import string. Format: module[.submodules...].object"),
        ("os.nope", "Can not load 'nope' from 'os'"),
        ("nopkg.hook", "No module named 'nopkg'"),
    ],
)
def test_other_hooks_are_refused(cfg, hook, message):
    with pytest.raises(TypeError) as caught:
        cfg.set("on_starting", hook)
    assert str(caught.value) == message


def test_post_request_takes_two_three_or_four_parameters(cfg):
    seen = []
    for hook in (
        lambda worker, req: seen.append((worker, req)),
        lambda worker, req, environ: seen.append((worker, req, environ)),
        lambda worker, req, environ, resp: seen.append((worker, req, environ, resp)),
    ):
        cfg.set("post_request", hook)
        cfg.post_request(1, 2, 3, 4)
    assert seen == [(1, 2), (1, 2, 3), (1, 2, 3, 4)]
    with pytest.raises(TypeError, match="arity of: 4"):
        cfg.set("post_request", lambda worker: None)


@pytest.mark.parametrize("name", ["ssl_context", "on_dirty_starting", "dirty_post_fork"])
def test_hooks_of_later_versions_are_refused(cfg, name):
    with pytest.raises(NotImplementedYet, match=name):
        cfg.set(name, getattr(hooks, name))


def test_users_and_groups_by_name_and_number(cfg):
    for value, uid in ((5, 5), ("5", 5), ("root", 0), (None, os.geteuid())):
        cfg.set("user", value)
        assert cfg.uid == uid
    with pytest.raises(ConfigError, match="No such user: 'no-such-user'"):
        cfg.set("user", "no-such-user")
    with pytest.raises(ConfigError, match="No such group: 'no-such-group'"):
        cfg.set("group", "no-such-group")


def test_chdir_must_exist_and_becomes_absolute(cfg, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    cfg.set("chdir", "sub")
    assert os.path.samefile(cfg.chdir, tmp_path / "sub") and os.path.isabs(cfg.chdir)
    with pytest.raises(ConfigError, match="can't chdir to 'nope'"):
        cfg.set("chdir", "nope")


def test_reload_files_exist_or_are_patterns(cfg, tmp_path):
    cfg.set("reload_extra_files", str(tmp_path))
    assert cfg.reload_extra_files == [str(tmp_path)]
    with pytest.warns(RuntimeWarning, match="currently matches no files"):
        cfg.set("reload_extra_files", [str(tmp_path / "*.none")])
    with pytest.raises(ValueError, match="does not exists"):
        cfg.set("reload_extra_files", str(tmp_path / "none"))


def test_a_subclass_of_setting_registers_a_setting(registered):
    class Own(Setting):
        name = "own"
        section = "Own"
        cli = ["--own"]
        validator = config.validate_string
        default = "given"
        desc = """\
            One line.

            More lines.
            """

    assert KNOWN_SETTINGS[-1] is Own
    assert Own.short == "One line." and Own.desc == "One line.\n\nMore lines."
    cfg = Config()
    assert cfg.own == "given"
    assert cfg.parser().parse_args(["--own", "said"]).own == "said"


def test_settings_can_be_left_out():
    assert "workers" not in make_settings(ignore=["workers"])


def test_variables_of_settings_are_read_by_kind(monkeypatch):
    for name, text in {
        "WORKERS": "3",
        "BIND": "a:1, b:2",
        "PRELOAD_APP": "on",
        "REQUEST_BUFFERING": "0",
        "UMASK": "022",
        "SECURE_SCHEME_HEADERS": '{"X-TLS": "1"}',
        "ON_STARTING": f"{__name__}.takes_one",
    }.items():
        monkeypatch.setenv(f"TRICORN_{name}", text)
    cfg = Config()
    cfg.set_from_environment()
    assert cfg.workers == 3
    assert cfg.bind == ["a:1", "b:2"]
    assert cfg.preload_app is True and cfg.request_buffering is False
    assert cfg.umask == 0o22
    assert cfg.secure_scheme_headers == {"X-TLS": "1"}
    assert cfg.on_starting is not hooks.on_starting


def test_settings_without_effect_say_so_once(cfg, capsys, monkeypatch):
    monkeypatch.setattr(config, "_warned", set())
    cfg.set("tmp_upload_dir", "/elsewhere")
    cfg.set("tmp_upload_dir", "/elsewhere")
    assert capsys.readouterr().err.count("`tmp_upload_dir` has no effect") == 1
