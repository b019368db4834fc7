"""Waitress's keys about the fields of proxies (`trusted_proxy` and its kin): what they mean here.

Invariant: whom and what the engine believes stands in settings (`forwarded_allow_ips`,
`secure_scheme_headers`); the only thing done here to a request is to take fields away from it. Nothing sets
host, port or client address from a field: what is not done is told, with what to do instead.

Source: waitress 3.0 (`waitress.adjustments`, `waitress.proxy_headers`).
"""

import ipaddress
import logging

SCHEME_FIELD = "x-forwarded-proto"
# Waitress's other fields of proxies: why naming one as trusted changes nothing, and what does. It makes no
# use of X-Forwarded-By either.
INSTEAD = {
    "x-forwarded-for": (
        "REMOTE_ADDR stays the address of the proxy: name that as trusted-proxy in zope.conf, or read the"
        " field in the application"
    ),
    "x-forwarded-host": (
        "the host is that of the Host field: let the proxy pass the client's Host, or give the address by"
        " VirtualHostBase"
    ),
    "x-forwarded-port": "the port is that of the Host field: let the proxy pass it there",
    "x-forwarded-by": None,
    "forwarded": "the field is not read: let the proxy send X-Forwarded-Proto, and name that",
}
# Those of which waitress takes the last `trusted_proxy_count` entries.
_COUNTED = {"x-forwarded-for", "x-forwarded-host", "forwarded"}


def trusted_peers(text):
    """`forwarded_allow_ips` for a `trusted_proxy`.

    Shape: `localhost` is waitress's name for a peer on a unix socket. Those are always trusted here; as an
    address it matches nobody, there as here.
    """
    return "" if text.strip().lower() == "localhost" else text


def trusted_fields(text):
    """The fields that a `trusted_proxy_headers` names; the scheme's alone when it names none.

    Errors: ValueError for a field that waitress does not know.
    """
    fields = set(text.lower().replace(",", " ").split()) or {SCHEME_FIELD}
    unknown = fields - {SCHEME_FIELD, *INSTEAD}
    if unknown:
        raise ValueError(f"{', '.join(sorted(unknown))}: waitress knows {SCHEME_FIELD}, {', '.join(INSTEAD)}")
    return fields


def scheme_headers(fields):
    """`secure_scheme_headers` where a proxy may set `fields`."""
    return {"X-FORWARDED-PROTO": "https"} if SCHEME_FIELD in fields else {}


def without_effect(fields, count):
    """Sentences about what waitress would do with `fields` and `trusted_proxy_count`, and what to do here."""
    told = [(field, INSTEAD[field]) for field in INSTEAD if field in fields and INSTEAD[field]]
    sentences = [f"trusted_proxy_headers = {field} ({reason})" for field, reason in told]
    if count not in ("", "1") and fields & _COUNTED:
        sentences.append(f"trusted_proxy_count = {count} (nothing is taken from a field that lists several)")
    return sentences


def _environ_key(field):
    return f"HTTP_{field.upper().replace('-', '_')}"


class Cleared:
    """An application that does not see the proxies' fields, but for trusted ones of trusted peers.

    Invariant: who is trusted is what the engine was told; a peer without an address is one on a unix socket.
    Behind `proxy_protocol` the address is the client's, so that the fields go although a proxy has set them.
    """

    def __init__(self, app, fields, peers, log):
        """`peers`: as `forwarded_allow_ips`; `log`: whether to say what was removed."""
        self.app = app
        self.log = log
        self.networks = [ipaddress.ip_network(each) for each in peers if each != "*"]
        self.everybody = "*" in peers
        self.of_trusted = [_environ_key(each) for each in (SCHEME_FIELD, *INSTEAD) if each not in fields]
        self.of_others = [_environ_key(each) for each in (SCHEME_FIELD, *INSTEAD)]

    def __call__(self, environ, start_response):
        peer = environ["REMOTE_ADDR"]
        keys = self.of_trusted if self._trusts(peer) else self.of_others
        removed = [key for key in keys if environ.pop(key, None) is not None]
        if removed and self.log:
            names = ", ".join(key[5:].title().replace("_", "-") for key in removed)
            logging.getLogger("gunicorn.error").warning("Removed untrusted headers of %s: %s", peer, names)
        return self.app(environ, start_response)

    def _trusts(self, peer):
        if self.everybody or not peer:
            return True
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return False
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in self.networks)
