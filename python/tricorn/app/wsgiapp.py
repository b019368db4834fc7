"""The `tricorn` command: serves the WSGI application named on the command line."""

import os
import sys

from tricorn.app.base import Application
from tricorn.errors import ConfigError
from tricorn.importer import import_app


class WSGIApplication(Application):
    """A WSGI application named by APP_MODULE, by `wsgi_app`, or by a PasteDeploy file."""

    # The PasteDeploy file, and its server section, where there are such.
    paste_file = None
    section = None

    def init(self, parser, opts, args):
        self.app_uri = None
        self.paste_file = None
        paste = opts.paste or self.cfg.paste
        if paste:
            return self._init_paste(os.path.abspath(os.path.join(self.start_directory, paste)))
        if args:
            self.app_uri = args[0]
            return {"default_proc_name": args[0]}
        return None

    def _init_paste(self, uri):
        from tricorn.app.pasterapp import has_logging_config

        path = uri.partition("#")[0]
        if not os.path.exists(path):
            raise ConfigError(f"{path!r} not found")
        self.app_uri = uri
        self.paste_file = path
        options = {"default_proc_name": uri}
        if has_logging_config(path):
            options["logconfig"] = path
        return options

    def _config_location(self, commands):
        if self.paste_file is not None:
            self._read_section(commands)
        if self.section is not None and self.section.config and not any(each.config for each in commands):
            return self.section.config
        return super()._config_location(commands)

    def _read_section(self, commands):
        from tricorn.app.pasterapp import server_section

        for command in commands:
            if command.raw_paste_global_conf:
                self.cfg.set("raw_paste_global_conf", command.raw_paste_global_conf)
        first = self.section is None
        self.section = server_section(self.paste_file, self.cfg)
        if first and self.section is not None and self.section.idle:
            print(f"Warning: {self.section.idle_sentence()}", file=sys.stderr)

    def load_config_beyond_file(self):
        if self.section is not None:
            self.section.apply(self.cfg)

    def load_config(self):
        super().load_config()
        if self.app_uri is None:
            if self.cfg.wsgi_app is None:
                raise ConfigError("No application module specified.")
            self.app_uri = self.cfg.wsgi_app

    def load_wsgiapp(self):
        return import_app(self.app_uri)

    def load_pasteapp(self):
        from tricorn.app.pasterapp import get_wsgi_app, place

        app = get_wsgi_app(self.app_uri, defaults=self.cfg.paste_global_conf)
        return app if self.section is None else place(app, self.section, self.cfg)

    def load(self):
        if self.cfg.paste:
            return self.load_pasteapp()
        return self.load_wsgiapp()


def run(prog=None):
    """Run the command."""
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()


if __name__ == "__main__":
    run()
