//! TLS and HTTP/2.
use super::{Setting, UNSET, int, text, truth};
use crate::kind::Kind::*;
use crate::kind::WordChoice;

static CLEARTEXT: WordChoice = WordChoice {
    unset: Some("off"),
    truth: Some(("prior-knowledge", "off")),
    ..WordChoice::of(
        &["off", "prior-knowledge", "upgrade", "both"],
        "Invalid http2_cleartext",
    )
};

#[rustfmt::skip]
pub(super) const SSL: &[Setting] = &[
    Setting::new("keyfile", Text, UNSET).flags(&["--keyfile"]).metavar("FILE").not_yet()
        .help("TLS private key path."),
    Setting::new("certfile", Text, UNSET).flags(&["--certfile"]).metavar("FILE").not_yet()
        .help("TLS certificate path; setting it turns on TLS."),
    Setting::new("ssl_version", Anything, int(2)).flags(&["--ssl-version"]).no_effect("the TLS version follows the defaults of the library")
        .help("Obsolete TLS version selector, no effect."),
    Setting::new("cert_reqs", Count, int(0)).flags(&["--cert-reqs"]).any_base().not_yet()
        .help("Client certificate policy: 0 none, 1 optional, 2 required."),
    Setting::new("ca_certs", Text, UNSET).flags(&["--ca-certs"]).metavar("FILE").not_yet()
        .help("CA bundle used to verify client certificates."),
    Setting::new("suppress_ragged_eofs", Bool, truth(true)).flags(&["--suppress-ragged-eofs"]).not_yet()
        .help("Passed to wrap_socket for abrupt TLS closes."),
    Setting::new("do_handshake_on_connect", Bool, truth(false)).flags(&["--do-handshake-on-connect"]).not_yet()
        .help("Do the TLS handshake while wrapping the socket."),
    Setting::new("ciphers", Text, UNSET).flags(&["--ciphers"]).not_yet()
        .help("OpenSSL cipher list string."),
];

#[rustfmt::skip]
pub(super) const HTTP2: &[Setting] = &[
    Setting::new("http_protocols", HttpVersions, text("h1")).flags(&["--http-protocols"]).metavar("STRING").not_yet()
        .help("Offered HTTP versions in preference order for ALPN."),
    Setting::new("http2_cleartext", Choice(&CLEARTEXT), text("off")).flags(&["--http2-cleartext"]).metavar("STRING").not_yet()
        .help("Which cleartext HTTP/2 mechanisms trusted peers may use."),
    Setting::new("http2_max_concurrent_streams", Range { min: 1, max: i64::MAX }, int(100)).flags(&["--http2-max-concurrent-streams"]).metavar("INT").not_yet()
        .help("Streams a client may have open per HTTP/2 connection."),
    Setting::new("http2_initial_window_size", Range { min: 0, max: 2_147_483_647 }, int(65535)).flags(&["--http2-initial-window-size"]).metavar("INT").not_yet()
        .help("Initial HTTP/2 flow-control window in bytes."),
    Setting::new("http2_max_frame_size", Range { min: 16_384, max: 16_777_215 }, int(16384)).flags(&["--http2-max-frame-size"]).metavar("INT").not_yet()
        .help("Largest HTTP/2 frame payload accepted."),
    Setting::new("http2_max_header_list_size", Count, int(65536)).flags(&["--http2-max-header-list-size"]).metavar("INT").not_yet()
        .help("Limit on decompressed HTTP/2 header size; zero is unlimited."),
];
