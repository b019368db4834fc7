"""PasteDeploy: applications from its files (`--paste`), and the server that they name (`egg:tricorn#main`).

With one worker the server runs in the process that has loaded the application (`tricorn.resident`); with
several the workers load it themselves, through the runner that started the server (`tricorn.runner_arbiter`).

Source: the entry points `paste.server_factory` and `paste.server_runner`; Gunicorn's module of this name.
"""

import configparser
import os
import sys

from tricorn.app.base import Application, run_telling_errors
from tricorn.app.paste_keys import Section
from tricorn.app.paste_proxy import Cleared
from tricorn.errors import ConfigError

# In the place of waitress, without a word about workers or threads: as many threads as waitress has.
DEFAULT_THREADS = 4
OTHER_WAYS = "serve the file with `tricorn --paste FILE`, or a module with `tricorn MODULE:APP`"
_NO_WORKERS = "there are no worker processes"
_RUNNER_LOADS = "the runner loads the application"
# Settings that mean nothing where somebody else loads the application; with one worker, and with several.
_IDLE = {"wsgi_app": _RUNNER_LOADS, "paste": _RUNNER_LOADS, "raw_paste_global_conf": _RUNNER_LOADS}
_IDLE_ALONE = _IDLE | {
    "timeout": "no arbiter watches the only process",
    "pre_fork": _NO_WORKERS,
    "post_fork": _NO_WORKERS,
    "child_exit": _NO_WORKERS,
    "pre_exec": _NO_WORKERS,
    "on_reload": _NO_WORKERS,
    "worker_abort": _NO_WORKERS,
}
_IDLE_WITH_WORKERS = _IDLE | {"preload_app": "each worker loads the application"}
_GREEN = ("gevent", "gevent_wsgi", "gevent_pywsgi", "eventlet")
_GREEN_CLASSES = ("GeventWorker", "GeventPyWSGIWorker", "EventletWorker")


def has_logging_config(path):
    """Whether an ini file configures logging."""
    parser = configparser.ConfigParser()
    parser.read([path])
    return parser.has_section("loggers")


def get_wsgi_app(uri, name=None, defaults=None):
    """The application of `PATH[#SECTION]`.

    Errors: ImportError with a hint when PasteDeploy is not installed; whatever PasteDeploy raises.
    """
    try:
        from paste.deploy import loadapp
    except ImportError as error:
        raise ImportError(f"--paste needs PasteDeploy: pip install PasteDeploy ({error})") from None

    path, hash_mark, section = uri.partition("#")
    uri = f"config:{os.path.abspath(path)}"
    return loadapp(
        uri, name=section if hash_mark else name, relative_to=os.getcwd(), global_conf=defaults or {}
    )


def server_section(path, cfg):
    """The section `[server:main]` of an ini file, whichever server it names; None when there is none.

    Errors: ConfigError for what cannot be read.
    """
    try:
        from paste.deploy.loadwsgi import SERVER, ConfigLoader
    except ImportError:
        # Loading the application says so, in the words that are due there.
        return None
    loader = ConfigLoader(path)
    loader.update_defaults(cfg.paste_global_conf, overwrite=False)
    try:
        name = loader.find_config_section(SERVER)
    except LookupError:
        return None
    parser = loader.parser
    use = parser.get(name, "use", fallback="")
    for option in ("use", "paste.server_runner"):
        parser.remove_option(name, option)
    # PasteDeploy resolves variables and `set`, `get`; the server that is named need not be installed.
    parser.set(name, "paste.server_factory", f"{__name__}:server_factory")
    try:
        conf = loader.get_context(SERVER, global_conf=cfg.paste_global_conf).local_conf
    except (configparser.Error, LookupError) as error:
        raise ConfigError(f"the server section of {path} cannot be read: {error}") from None
    return Section(path, conf, cfg.settings, ours=use.startswith(("egg:tricorn", "egg:gunicorn")) or not use)


class Placed:
    """An application behind `url_scheme` and `url_prefix`, which mean what they mean for waitress."""

    def __init__(self, app, scheme, prefix):
        self.app = app
        self.scheme = scheme
        self.prefix = prefix

    def __call__(self, environ, start_response):
        if self.scheme:
            environ["wsgi.url_scheme"] = self.scheme
        if self.prefix:
            path = environ["PATH_INFO"]
            if path == self.prefix or path.startswith(f"{self.prefix}/"):
                environ["PATH_INFO"] = path[len(self.prefix) :]
            environ["SCRIPT_NAME"] = self.prefix
        return self.app(environ, start_response)


def place(app, section, cfg):
    """`app` where the section wants it, with the fields that the section lets through."""
    if section.seen_fields is not None:
        app = Cleared(app, section.seen_fields, cfg.forwarded_allow_ips, section.logs_unseen)
    prefix = section.url_prefix.strip("/")
    if not section.url_scheme and not prefix:
        return app
    return Placed(app, section.url_scheme, f"/{prefix}" if prefix else "")


class PasteApplication(Application):
    """The configuration of a server that a PasteDeploy file names, and the application once it is there."""

    def __init__(self, global_conf, local_conf):
        self.ini = (global_conf or {}).get("__file__")
        self.local_conf = local_conf
        self.section = None
        super().__init__()

    def load_config(self):
        cfg = self.cfg
        source = self.ini or "PasteDeploy's caller"
        cfg.set("default_proc_name", source)
        self.section = Section(source, self.local_conf, cfg.settings)
        location = self.section.config or self._config_location([])
        if location:
            self.load_config_from_file(location)
        self.section.apply(cfg)
        if self._silent_about_workers():
            cfg.set("threads", DEFAULT_THREADS)
        self._choose_logger()
        self._refuse()
        if cfg.chdir != cfg.settings["chdir"].default:
            self.chdir()

    def _silent_about_workers(self):
        """Whether nobody has said how many requests may run at once."""
        names = ("worker_class", "workers", "threads")
        return self.cfg.workers == 1 and not any(self.cfg.settings[name].given for name in names)

    def _choose_logger(self):
        """Where the file has set up logging, it is used as it is, unless the settings say otherwise."""
        cfg = self.cfg
        chosen = cfg.settings["logger_class"].get() != cfg.settings["logger_class"].default
        configured = cfg.logconfig or cfg.logconfig_dict or cfg.logconfig_json
        if chosen or configured or self.ini is None or not has_logging_config(self.ini):
            return
        from tricorn.hostlog import HostLogger, is_configured

        if is_configured():
            cfg.set("logger_class", HostLogger)
        else:
            # A caller that does not care for logging.
            cfg.set("logconfig", self.ini)

    def _refuse(self):
        """Errors: ConfigError for a setting that cannot be had where somebody else loads the application."""
        cfg = self.cfg
        self._refuse_worker_class()
        if cfg.reload:
            raise ConfigError(
                "the setting reload needs a server that loads the application itself: use"
                " `tricorn --paste FILE --reload`, or the runner's own (`pserve --reload`)"
            )
        if cfg.workers <= 1 and cfg.max_requests:
            raise ConfigError(
                f"max_requests = {cfg.max_requests} needs workers that can be replaced, and with one worker"
                " the server is the process that loaded the application: set workers to 2 or more, or"
                f" {OTHER_WAYS}"
            )

    def _refuse_worker_class(self):
        from tricorn.workers.base import Worker
        from tricorn.workers.gthread import ThreadWorker
        from tricorn.workers.sync import SyncWorker

        name = self.cfg.worker_class_str
        if name in _GREEN or name.rpartition(".")[2] in _GREEN_CLASSES:
            raise ConfigError(
                f"worker_class = {name} cannot be had through the server section: the runner has imported"
                " the application's modules before anything could be patched, and updates would be lost;"
                f" {OTHER_WAYS}"
            )
        worker_class = self.cfg.worker_class
        if self.cfg.workers <= 1:
            possible = worker_class in (SyncWorker, ThreadWorker)
        else:
            # What such a class does before it loads the application, if anything, has no place in a runner.
            possible = issubclass(worker_class, (SyncWorker, ThreadWorker))
            possible = possible and worker_class.init_process is Worker.init_process
        if not possible:
            raise ConfigError(
                f"worker_class = {name} needs worker processes that load the application themselves, and here"
                f" the runner does: use sync or gthread, or {OTHER_WAYS}"
            )

    def settle(self):
        """Become the process that the settings want."""
        self._settle()
        self._trace()

    def _idle(self):
        """Sentences about settings that do nothing here."""
        table = _IDLE_ALONE if self.cfg.workers <= 1 else _IDLE_WITH_WORKERS
        settings = self.cfg.settings
        changed = [name for name in table if settings[name].get() != settings[name].default]
        return [f"{name} ({table[name]})" for name in changed]

    def wsgi(self):
        """The application, None until the runner has loaded it."""
        return self.callable

    def serve(self, app, arbiter):
        """Serve what the runner has loaded, with `arbiter`; returns when told to stop."""
        self.callable = place(app, self.section, self.cfg)
        if self.cfg.print_config:
            print(self.cfg)
        if self.cfg.print_config or self.cfg.check_config:
            # The application is loaded: there is nothing more to check.
            sys.exit(0)
        run_telling_errors(arbiter.run)

    def resident(self):
        """The arbiter for this process alone."""
        from tricorn.resident import ResidentArbiter

        return self._with_warning(run_telling_errors(lambda: ResidentArbiter(self)))

    def with_workers(self):
        """In the arbiter: serve and leave. In a worker: the function that serves the application."""
        from tricorn.runner_arbiter import RunnerArbiter

        arbiter = self._with_warning(run_telling_errors(lambda: RunnerArbiter(self)))
        worker = run_telling_errors(arbiter.run)

        def serve_in_worker(app):
            self.callable = place(app, self.section, self.cfg)
            arbiter.serve(worker)

        return serve_in_worker

    def _with_warning(self, arbiter):
        further = self._idle()
        if further or self.section.idle:
            arbiter.log.warning("%s", self.section.idle_sentence(further))
        return arbiter


def server_factory(global_conf, **local_conf):
    """`paste.server_factory`: the function that serves an application, made before that is loaded."""
    app = PasteApplication(global_conf, local_conf)
    app.settle()
    if app.cfg.workers > 1 and not (app.cfg.print_config or app.cfg.check_config):
        return app.with_workers()
    arbiter = app.resident()
    return lambda application: app.serve(application, arbiter)


def serve(app, global_conf, **local_conf):
    """`paste.server_runner`: serve an application that is loaded, in this process."""
    configured = PasteApplication(global_conf, local_conf)
    run_telling_errors(lambda: refuse_forks(configured.cfg))
    configured.settle()
    configured.serve(app, configured.resident())


def refuse_forks(cfg):
    """Errors: ConfigError for settings that fork, where the application has been loaded already."""
    for name, wish in (("workers", cfg.workers > 1), ("daemon", cfg.daemon)):
        if wish:
            raise ConfigError(
                f"the setting {name} forks, and the application was loaded before the server was asked:"
                f" name the server by `use = egg:tricorn#main`, whose factory comes first, or {OTHER_WAYS}"
            )
