"""`BaseApplication` for programs that embed the server, `Application` for those with a command line.

Sources of an `Application`, from low to high: defaults (and `TRICORN_<SETTING>` variables), what `init`
returns, the configuration file, GUNICORN_CMD_ARGS, TRICORN_CMD_ARGS, the command line.
"""

import os
import sys

from tricorn.config import Config, current_directory
from tricorn.errors import ConfigError, ConfigFileError
from tricorn.importer import insert_path

DEFAULT_CONFIG_FILES = ("tricorn.conf.py", "gunicorn.conf.py")
COMMAND_VARIABLES = ("GUNICORN_CMD_ARGS", "TRICORN_CMD_ARGS")


class BaseApplication:
    """An application with its configuration.

    Subclasses say how to configure it (`load_config`) and how to load it (`load`).
    """

    def __init__(self, usage=None, prog=None):
        self.usage = usage
        self.cfg = None
        self.callable = None
        self.prog = prog
        self.logger = None
        self.start_directory = current_directory()
        self.do_load_config()

    def do_load_config(self):
        """Load the configuration, or say why not and exit with 1."""
        try:
            self._load_whole_config()
        except ConfigFileError:
            sys.exit(1)
        except Exception as error:
            print(f"\nError: {error}", file=sys.stderr)
            sys.stderr.flush()
            sys.exit(1)

    def _load_whole_config(self):
        self.load_default_config()
        self.load_config()
        self.cfg.validate()

    def load_default_config(self):
        self.cfg = Config(self.usage, prog=self.prog)
        self.cfg.set_from_environment()

    def init(self, parser, opts, args):
        """Hook for subclasses: settings that the framework decides, as a dict."""
        raise NotImplementedError

    def load(self):
        """Return the WSGI callable."""
        raise NotImplementedError

    def load_config(self):
        """Set the settings. It may read any source; nothing but the defaults is there yet."""
        raise NotImplementedError

    def reload(self):
        """Load the configuration again, from every source.

        Errors: ConfigError for a configuration that cannot be used; the one before stays in force.
        """
        before = self.cfg
        try:
            self._load_whole_config()
        except (Exception, SystemExit) as error:
            self.cfg = before
            raise ConfigError(str(error)) from error
        self._trace()

    def _trace(self):
        if self.cfg.spew:
            from tricorn.debug import spew

            spew()

    def wsgi(self):
        """The WSGI callable, loaded at the first call."""
        if self.callable is None:
            self.callable = self.load()
        return self.callable

    def run(self):
        """Serve until told to stop."""
        from tricorn.arbiter import Arbiter

        # Forked workers inherit the trace function.
        self._trace()
        run_telling_errors(lambda: Arbiter(self).run())


def run_telling_errors(part):
    """Run a part of the server. What the user has to mend is told in a line, with exit code 1."""
    try:
        return part()
    except (RuntimeError, ConfigError) as error:
        print(f"\nError: {error}\n", file=sys.stderr)
        sys.stderr.flush()
        sys.exit(1)


class Application(BaseApplication):
    """An application that is configured by files, the environment and the command line."""

    def reload(self):
        """Load the configuration again, with relative paths meaning what they meant at the start."""
        here = os.getcwd()
        try:
            os.chdir(self.start_directory)
        except OSError as error:
            raise ConfigError(str(error)) from error
        try:
            super().reload()
        except ConfigError:
            os.chdir(here)
            raise

    def chdir(self):
        os.chdir(self.cfg.chdir)
        insert_path(self.cfg.chdir)

    def load_config(self):
        parser = self.cfg.parser()
        args = parser.parse_args()
        framework = self.init(parser, args, args.args)
        if framework:
            for name, value in framework.items():
                self.cfg.set_from(name.lower(), value)
        commands = [
            parser.parse_args(self.cfg.get_cmd_args_from_env(variable)) for variable in COMMAND_VARIABLES
        ]
        commands.append(args)
        location = self._config_location(commands)
        if location:
            self.load_config_from_file(location)
        self.load_config_beyond_file()
        for command in commands:
            self._set_from_command(command)
        self.chdir()

    def load_config_beyond_file(self):
        """Hook for subclasses: a source that wins over the configuration file, not over the command line."""

    def _config_location(self, commands):
        for command in reversed(commands):
            if command.config:
                return command.config
        configured = self.cfg.env_orig.get("TRICORN_CONFIG")
        if configured:
            return configured
        for name in DEFAULT_CONFIG_FILES:
            path = os.path.join(self.start_directory, name)
            if os.path.exists(path):
                return path
        return None

    def _set_from_command(self, command):
        for name, value in vars(command).items():
            if value is not None and name != "args":
                self.cfg.set_from(name.lower(), value)

    def load_config_from_file(self, filename):
        """Apply a configuration file or module: `PATH`, `file:PATH` or `python:MODULE`."""
        self.load_config_from_module_name_or_filename(filename)

    def load_config_from_module_name_or_filename(self, location):
        if location.startswith("python:"):
            values = self.get_config_from_module_name(location[len("python:") :])
        else:
            values = self.get_config_from_filename(location.removeprefix("file:"))
        for name, value in values.items():
            if name in self.cfg.settings:
                self.cfg.set_from(name, value)
        return values

    def get_config_from_filename(self, filename):
        """Run a configuration file as the module `__config__` and return its globals.

        Errors: RuntimeError for a missing file; ConfigFileError when it raises, after printing the traceback.
        """
        path = os.path.join(self.start_directory, filename)
        if not os.path.exists(path):
            raise RuntimeError(f"{filename!r} doesn't exist")
        extension = os.path.splitext(path)[1]
        if extension not in (".py", ".pyc"):
            _warn_about_extension()
        try:
            return _run_config_file(path, is_bytecode=extension == ".pyc")
        except Exception:
            import traceback

            print(f"Failed to read config file: {filename}", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            raise ConfigFileError(f"Failed to read config file: {filename}") from None

    def get_config_from_module_name(self, module_name):
        """Import a configuration module, afresh when the configuration is loaded again."""
        from importlib import import_module, reload

        loaded = sys.modules.get(module_name)
        return vars(reload(loaded) if loaded is not None else import_module(module_name))

    def run(self):
        if self.cfg.print_config:
            print(self.cfg)
        if self.cfg.print_config or self.cfg.check_config:
            self._check()
        self._settle()
        super().run()

    def _settle(self):
        """Become the process that the settings want, before anything else happens in it."""
        if self.cfg.daemon:
            self._daemonize()
        if self.cfg.pythonpath:
            for path in self.cfg.pythonpath.split(","):
                insert_path(os.path.abspath(path))

    def _check(self):
        """Load the application and exit: 0 if that works, 1 if not."""
        try:
            self.load()
        except Exception:
            import traceback

            print("\nError while loading the application:\n", file=sys.stderr)
            traceback.print_exc()
            sys.stderr.flush()
            sys.exit(1)
        sys.exit(0)

    def _daemonize(self):
        from tricorn.daemon import daemonize

        if "NOTIFY_SOCKET" in os.environ:
            print(
                "Warning: the setting `daemon` keeps systemd from following the server started with"
                " NOTIFY_SOCKET; leave it unset in units of Type=notify.",
                file=sys.stderr,
            )
        daemonize(self.cfg.enable_stdio_inheritance)


def _warn_about_extension():
    text = "configuration file should have a valid Python extension.\n"
    print(f"!!!\n!!! WARNING: {text}!!!\n", file=sys.stderr)


def _run_config_file(path, is_bytecode):
    """Run a file without leaving bytecode behind: two edits within a second must not look alike."""
    from importlib.machinery import SourceFileLoader, SourcelessFileLoader
    from importlib.util import module_from_spec, spec_from_file_location

    loader = (SourcelessFileLoader if is_bytecode else SourceFileLoader)("__config__", path)
    module = module_from_spec(spec_from_file_location("__config__", path, loader=loader))
    if is_bytecode:
        code = loader.get_code("__config__")
    else:
        code = loader.source_to_code(loader.get_data(path), path)
    sys.modules["__config__"] = module
    exec(code, vars(module))
    return vars(module)
