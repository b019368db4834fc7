//! What a peer may send, how long it may take, and where bytes wait meanwhile.
use super::Action::*;
use super::{Setting, int, truth};
use crate::kind::Kind::*;

#[rustfmt::skip]
pub(super) const SECURITY: &[Setting] = &[
    Setting::new("limit_request_line", Count, int(4094)).flags(&["--limit-request-line"]).metavar("INT")
        .help("Largest accepted request line in bytes, otherwise 414."),
    Setting::new("limit_request_fields", Count, int(100)).flags(&["--limit-request-fields"]).metavar("INT")
        .help("Largest accepted number of request header fields, otherwise 431."),
    Setting::new("limit_request_field_size", Count, int(8190)).flags(&["--limit-request-field_size"]).metavar("INT")
        .help("Largest accepted single header field in bytes, otherwise 431."),
];

/// Ours: Tricorn needs no buffering proxy in front.
#[rustfmt::skip]
pub(super) const BUFFERING: &[Setting] = &[
    Setting::new("client_header_timeout", Count, int(30)).flags(&["--client-header-timeout"]).metavar("INT").own()
        .help("Seconds a client may take to send a request head, otherwise 408; zero is unlimited."),
    Setting::new("client_body_timeout", Count, int(30)).flags(&["--client-body-timeout"]).metavar("INT").own()
        .help("Seconds a client may pause while it sends a request body, otherwise 408; zero is unlimited."),
    Setting::new("client_body_min_rate", Count, int(100)).flags(&["--client-body-min-rate"]).metavar("INT").own()
        .help("Bytes per second that a request body must keep up with on average; zero is no minimum."),
    Setting::new("send_timeout", Count, int(60)).flags(&["--send-timeout"]).metavar("INT").own()
        .help("Seconds a client may leave a response unread before the connection is cut; zero is unlimited."),
    Setting::new("request_buffering", Bool, truth(true)).flags(&["--no-request-buffering"]).action(StoreFalse).own()
        .help("Read the whole request body before the application is called; off, the application reads it as it comes."),
    Setting::new("request_buffer_memory", Count, int(262_144)).flags(&["--request-buffer-memory"]).metavar("INT").own()
        .help("Largest request body in bytes that is always buffered in memory. A larger one needs a share of worker_buffer_memory, or goes to an unlinked temporary file."),
    Setting::new("limit_request_body", Count, int(1_073_741_824)).flags(&["--limit-request-body"]).metavar("INT").own()
        .help("Largest accepted request body in bytes, otherwise 413; zero is unlimited."),
    Setting::new("response_buffer_memory", Count, int(1_048_576)).flags(&["--response-buffer-memory"]).metavar("INT").own()
        .help("Bytes of a response that may wait in memory for a slow client, at least 64 KiB. The rest of a body that is whole waits in a temporary file, unless its client takes it within milliseconds; a generator waits for the client."),
    Setting::new("worker_buffer_memory", Count, int(33_554_432)).flags(&["--worker-buffer-memory"]).metavar("INT").own()
        .help("Memory in bytes that all connections of a worker share for request bodies above request_buffer_memory; bodies that it has no room for go to unlinked temporary files, with zero all of them."),
];
