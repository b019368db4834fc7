"""The `tricorn` command: serves the WSGI application named on the command line."""

import os

from tricorn.app.base import Application
from tricorn.errors import ConfigError
from tricorn.importer import import_app


class WSGIApplication(Application):
    """A WSGI application named by APP_MODULE, by `wsgi_app`, or by a PasteDeploy file."""

    def init(self, parser, opts, args):
        self.app_uri = None
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
        options = {"default_proc_name": uri}
        if has_logging_config(path):
            options["logconfig"] = path
        return options

    def load_config(self):
        super().load_config()
        if self.app_uri is None:
            if self.cfg.wsgi_app is None:
                raise ConfigError("No application module specified.")
            self.app_uri = self.cfg.wsgi_app

    def load_wsgiapp(self):
        return import_app(self.app_uri)

    def load_pasteapp(self):
        from tricorn.app.pasterapp import get_wsgi_app

        return get_wsgi_app(self.app_uri, defaults=self.cfg.paste_global_conf)

    def load(self):
        if self.cfg.paste:
            return self.load_pasteapp()
        return self.load_wsgiapp()


def run(prog=None):
    """Run the command."""
    WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]", prog=prog).run()


if __name__ == "__main__":
    run()
