"""Custom applications, and loading the configuration again."""

import sys

import pytest
from tricorn.app.base import BaseApplication
from tricorn.app.wsgiapp import WSGIApplication
from tricorn.errors import ConfigError


class Standalone(BaseApplication):
    def __init__(self, app, options):
        self.options = options
        self.application = app
        super().__init__()

    def load_config(self):
        for name, value in self.options.items():
            if name in self.cfg.settings and value is not None:
                self.cfg.set(name.lower(), value)

    def load(self):
        return self.application


def test_a_custom_application_is_configured_by_its_options(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program", "--nosuch"])
    app = object()
    custom = Standalone(app, {"bind": "127.0.0.1:0", "workers": 3, "unknown": 1})
    assert custom.cfg.workers == 3
    assert custom.wsgi() is app


def test_a_custom_application_with_a_wrong_option_exits_with_1(capsys):
    with pytest.raises(SystemExit) as caught:
        Standalone(None, {"workers": -1})
    assert caught.value.code == 1
    assert "\nError: Value must be positive: -1" in capsys.readouterr().err


@pytest.fixture
def served(tmp_path, monkeypatch):
    """An application with a configuration file, and the file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["tricorn", "-c", "conf.py", "--chdir", "sub", "web:app"])
    (tmp_path / "sub").mkdir()
    conf = tmp_path / "conf.py"
    conf.write_text("workers = 2\n")
    return WSGIApplication(), conf


def test_reload_reads_the_file_again_from_where_the_server_started(served):
    app, conf = served
    assert app.cfg.workers == 2
    conf.write_text("workers = 3\n")
    app.reload()
    assert app.cfg.workers == 3


@pytest.mark.parametrize("text", ["workers = 'many'\n", "1/0\n", "certfile = 'x'\n"])
def test_reload_keeps_the_configuration_when_the_new_one_is_wrong(served, text):
    app, conf = served
    before = app.cfg
    conf.write_text(text)
    with pytest.raises(ConfigError):
        app.reload()
    assert app.cfg is before
    assert app.app_uri == "web:app"


def test_a_configuration_file_is_a_module_with_a_spec(served):
    app, conf = served
    conf.write_text(
        "proc_name = f'{__name__} {__spec__.name} {__spec__.origin == __file__} {__loader__.path}'\n"
    )
    app.reload()
    assert app.cfg.proc_name == f"__config__ __config__ True {conf}"


def test_a_configuration_module_is_read_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["tricorn", "-c", "python:conf_module", "web:app"])
    (tmp_path / "conf_module.py").write_text("workers = 2\n")
    app = WSGIApplication()
    (tmp_path / "conf_module.py").write_text("workers = 3\n")
    app.reload()
    sys.modules.pop("conf_module")
    assert app.cfg.workers == 3
