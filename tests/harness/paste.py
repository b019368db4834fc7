"""Servers that PasteDeploy starts: ini files, runners, and what `paste_app` answers about itself."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.servers import FIXTURES, LISTENING, Launcher, Running

PSERVE = (str(Path(sys.executable).parent / "pserve"),)
# One that says in its log what it does; see the fixture.
RUNNER = (sys.executable, str(FIXTURES / "paste_runner.py"))
# A server section that names the function for loaded applications, not the factory.
LOADED_SERVER = "paste.server_runner = tricorn.app.pasterapp:serve"
INI = """
[app:main]
paste.app_factory = paste_app:factory
greeting = {greeting}
{app}
[server:main]
{server_line}
{keys}
{rest}
"""


class Paste:
    """Writes ini files into `folder` and starts runners with them."""

    def __init__(self, server: Launcher, folder: Path):
        self.server = server
        self.ini = folder / "site.ini"

    def write(self, keys, rest="", app="", greeting="", server_line=None) -> None:
        """Shape: `keys` of the server section; `rest` are sections, `app` keys of the application's."""
        server_line = server_line or f"use = egg:{self.server.name}#main"
        text = INI.format(server_line=server_line, keys=keys, rest=rest, app=app, greeting=greeting)
        self.ini.write_text(text)

    def __call__(
        self, keys, runner=PSERVE, arguments=(), listen=True, env=None, wait=LISTENING, **parts
    ) -> Running:
        """Shape: `listen` adds an address to `keys`; `arguments` come after the file's name."""
        self.write(f"bind = 127.0.0.1:0\n{keys}" if listen else keys, **parts)
        env = {"PYTHONPATH": str(FIXTURES), **(env or {})}
        return self.server.start_command(*runner, str(self.ini), *arguments, env=env, wait=wait)


def answer(running: Running, target: str = "/", fields=None) -> dict[str, str]:
    """What the application says about itself."""
    response = running.request("GET", target, fields)
    assert response.status == 200, response
    return dict(line.split("=", 1) for line in response.body.decode().splitlines())


def refusal(running: Running) -> str:
    """The error of a server that does not start."""
    assert running.wait() == 1
    return running.log.text()


def printed(running: Running) -> dict[str, str]:
    """The configuration that `print_config` prints."""
    assert running.wait() == 0, running.log.text()
    pairs = (line.split(" = ", 1) for line in running.out.text().splitlines() if " = " in line)
    return {name.strip(): value for name, value in pairs}
