"""The keys of a `[server:main]` section: every setting by its name, and the keys of other servers.

Invariant: what a key of waitress, pyruvate or the shim of bjoern means here stands in one table, `FOREIGN`,
and for the fields of proxies, whose keys hang together, in `tricorn.app.paste_proxy`; in an ini file made for
one of those servers only the `use =` line has to change. A key without a meaning here is collected for one
warning; a key that nobody knows is an error.

Sources: waitress 3.0 (`waitress.adjustments`), pyruvate 1.6, dataflake.wsgi.bjoern 2.2, and Gunicorn.
"""

from tricorn.app import paste_proxy
from tricorn.config import read_text
from tricorn.errors import ConfigError, NotImplementedYet


class Means:
    """A foreign key that is one of our settings under another name."""

    def __init__(self, setting, convert=str):
        self.setting = setting
        self.convert = convert


class Idle:
    """A foreign key without a meaning here: why, and the values that ask for what happens anyway."""

    def __init__(self, reason, *agreed):
        self.reason = reason
        self.agreed = agreed


def _umask(text):
    """The mask that gives a socket the permissions `text` (octal)."""
    try:
        return 0o777 & ~int(text, 8)
    except ValueError:
        raise ValueError("permissions as octal digits were wanted, such as 660") from None


_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0", "")
_OWN_BUFFERS = "the engine sizes its own buffers"

FOREIGN = {
    # waitress
    "connection_limit": Means("worker_connections"),
    "channel_timeout": Means("keepalive"),
    "max_request_body_size": Means("limit_request_body"),
    "max_request_header_size": Means("limit_request_field_size"),
    "inbuf_overflow": Means("request_buffer_memory"),
    "outbuf_overflow": Means("response_buffer_memory"),
    "trusted_proxy": Means("forwarded_allow_ips", paste_proxy.trusted_peers),
    "unix_socket_perms": Means("umask", _umask),
    "ident": Idle(
        "the Server field always says tricorn: let the proxy replace or remove it, as nginx does unasked"
        " and HAProxy by `http-response del-header Server`",
        "tricorn",
    ),
    "server_name": Idle("SERVER_NAME is the address that the client reached", "waitress.invalid"),
    "expose_tracebacks": Idle("tracebacks go to the error log, never to a client", *_FALSE),
    "log_socket_errors": Idle("clients that leave are not logged", *_FALSE),
    "ipv4": Idle("the addresses say which protocols are listened on", *_TRUE),
    "ipv6": Idle("the addresses say which protocols are listened on", *_TRUE),
    "channel_request_lookahead": Idle("the engine always sees a client leave", "0"),
    "cleanup_interval": Idle("idle connections are closed when they are due"),
    "asyncore_loop_timeout": Idle("there is no asyncore"),
    "asyncore_use_poll": Idle("there is no asyncore"),
    "recv_bytes": Idle(_OWN_BUFFERS),
    "send_bytes": Idle(_OWN_BUFFERS),
    "outbuf_high_watermark": Idle(_OWN_BUFFERS),
    # pyruvate
    "max_number_headers": Means("limit_request_fields"),
    "keepalive_timeout": Means("keepalive"),
    "max_reuse_count": Idle("a kept connection takes any number of requests"),
    "async_logging": Idle("the access log is always written beside the requests", *_TRUE),
    "chunked_transfer": Idle("a body of unknown length is always sent in chunks", *_TRUE),
    "qmon_warn_threshold": Idle("there is no queue monitor", "none"),
}

# Each way to say where to listen; one section uses one of them.
_ADDRESSES = ("bind", "listen", "socket", "unix_socket", "host")
# What waitress does to the environ of every request.
_PLACE = ("url_scheme", "url_prefix")


class Section:
    """A server section, translated.

    Shape: `settings` has values by name, `keys` says under which key each was written; `idle` holds sentences
    about keys without a meaning here.
    """

    def __init__(self, source, conf, known, ours=True):
        """`ours`: the section names us as its server; of another server's any key may be there."""
        self.source = source
        self.settings = {}
        self.keys = {}
        self.idle = []
        # Settings that follow from a key unless somebody gives them.
        self.implied = {}
        self.config = None
        self.url_scheme = None
        self.url_prefix = ""
        # Which fields the application may see; None: all.
        self.seen_fields = None
        self.logs_unseen = False
        self._known = known
        self._ours = ours
        conf = {key.lower(): value for key, value in conf.items() if value is not None}
        for key in ("host", "port"):
            if not str(conf.get(key, "given")).strip():
                del conf[key]
        self.config = conf.pop("config", None)
        for key in _PLACE:
            if key in conf:
                setattr(self, key, str(conf.pop(key)).strip())
        self._take_addresses(conf)
        for key in [key for key in conf if key in known]:
            self._set(key, key, conf.pop(key))
        self._take_proxy(conf)
        for key, value in conf.items():
            self._take_foreign(key, value)

    def idle_sentence(self, further=()):
        """All that has no effect, in one sentence."""
        return f"without effect in the server section of {self.source}: {'; '.join([*self.idle, *further])}"

    def apply(self, cfg):
        """Set the settings in `cfg`.

        Errors: ConfigError for a value that a setting does not take.
        """
        for name, value in self.implied.items():
            if not cfg.settings[name].given:
                cfg.set(name, value)
        for name, value in self.settings.items():
            try:
                cfg.set(name, value)
            except NotImplementedYet:
                raise
            except Exception as error:
                key = self.keys.get(name, name)
                raise ConfigError(
                    f"{key} = {value} in the server section of {self.source} is not understood: {error}"
                ) from None

    def _take_foreign(self, key, value):
        meaning = FOREIGN.get(key)
        if meaning is None and not self._ours:
            self.idle.append(f"{key} (no setting of this name)")
            return
        if meaning is None:
            raise ConfigError(f"No configuration setting for: {key} (in the server section of {self.source})")
        if isinstance(meaning, Means):
            self._set_once(meaning.setting, key, value, meaning.convert)
        elif str(value).strip().lower() not in meaning.agreed:
            self.idle.append(f"{key} ({meaning.reason})")

    def _take_proxy(self, conf):
        """Waitress's keys about the fields of proxies, but for the proxy's address."""
        text = str(conf.pop("trusted_proxy_headers", ""))
        fields = self._converted("trusted_proxy_headers", text, paste_proxy.trusted_fields)
        scheme_headers = paste_proxy.scheme_headers(fields)
        if text.strip():
            self._set_once("secure_scheme_headers", "trusted_proxy_headers", text, lambda _: scheme_headers)
        elif "trusted_proxy" in conf:
            # Waitress believes no other field about the scheme.
            self.implied["secure_scheme_headers"] = scheme_headers
        self.idle += paste_proxy.without_effect(fields, str(conf.pop("trusted_proxy_count", "")).strip())
        clears, logs = (
            str(conf.pop(f"{verb}_untrusted_proxy_headers", "")).strip().lower() not in _FALSE
            for verb in ("clear", "log")
        )
        if clears:
            self.seen_fields = fields
            self.logs_unseen = logs
        elif logs:
            reason = "it logs what clear_untrusted_proxy_headers removes: set that, too"
            self.idle.append(f"log_untrusted_proxy_headers ({reason})")

    def _set_once(self, name, key, value, convert):
        """Set a setting from another server's key.

        Errors: ConfigError when the section sets it by its name, too.
        """
        if name in self.settings:
            raise ConfigError(
                f"{key} = {value} is the setting {name}, which the server section of"
                f" {self.source} sets as well: leave one of them out"
            )
        self._set(name, key, self._converted(key, value, convert))

    def _converted(self, key, value, convert):
        try:
            return convert(value)
        except ValueError as error:
            raise ConfigError(
                f"{key} = {value} in the server section of {self.source} is not understood: {error}"
            ) from None

    def _set(self, name, key, value):
        """Set a setting from the text under `key`."""
        if isinstance(value, str):
            setting = self._known[name]
            text = value.replace("\n", ",") if setting.kind in ("list", "files") else value
            try:
                value = read_text(setting, text)
            except ValueError as error:
                raise ConfigError(
                    f"{key} = {value} in the server section of {self.source} is not understood: {error}"
                ) from None
        self.settings[name] = value
        self.keys[name] = key

    def _take_addresses(self, conf):
        used = [key for key in _ADDRESSES if key in conf]
        if len(used) > 1:
            raise ConfigError(
                f"the server section of {self.source} says where to listen by {' and by '.join(used)}:"
                " one of them is wanted"
            )
        port = conf.pop("port", None)
        if port is not None and used not in ([], ["host"]):
            raise ConfigError(
                f"the server section of {self.source} sets port beside {used[0]}: put it into {used[0]}"
            )
        if "listen" in conf:
            self.settings["bind"] = [_listen(word) for word in str(conf.pop("listen")).split()]
        elif "unix_socket" in conf:
            self.settings["bind"] = [f"unix:{conf.pop('unix_socket')}"]
            if "umask" not in conf:
                # As waitress has it: a socket that only its owner may use, unless the file says otherwise.
                conf.setdefault("unix_socket_perms", "600")
        elif "socket" in conf:
            self._take_pyruvate(conf)
        elif "host" in conf or port is not None:
            hosts = str(conf.pop("host", "0.0.0.0"))
            names = [name.strip() for name in hosts.split(",") if name.strip()]
            self.settings["bind"] = [_with_port(name, port) for name in names]

    def _take_pyruvate(self, conf):
        """`socket`, and `workers` beside it, which are pyruvate's threads."""
        address = str(conf.pop("socket")).strip()
        if address.lower() not in ("", "none"):
            self.settings["bind"] = [f"unix:{address}" if address.startswith("/") else address]
        if "workers" in conf and "threads" not in conf:
            count = conf.pop("workers")
            self._set("threads", "workers", count)
            self.idle.append(f"workers (beside socket it is pyruvate's: read as threads = {count})")


def _listen(word):
    """One address of waitress's `listen`: HOST:PORT, HOST, `*:PORT`; a lone number is a port (bjoern)."""
    if word.isdecimal():
        return f"0.0.0.0:{word}"
    host, colon, port = word.rpartition(":")
    if not colon or "]" in port:
        host, port = word, "8080"
    return f"{'0.0.0.0' if host in ('*', '') else host}:{port}"


def _with_port(host, port):
    """HOST:PORT, with IPv6 addresses in brackets; a host that is a whole address stays as it is."""
    if port is None or host.startswith(("unix:", "fd://")):
        return host
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"{'0.0.0.0' if host == '*' else host}:{port}"
