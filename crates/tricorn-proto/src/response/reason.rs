//! Reason phrases for applications that give a status code alone. Source: the IANA registry of HTTP status codes.
use alloc::borrow::Cow;
use alloc::format;

/// `OK` for 200; `Unknown` for what nobody has registered.
pub fn reason(status: u16) -> &'static str {
    registered(status).map_or(UNKNOWN, |line| &line["200 ".len()..])
}

/// `200 OK` for 200, as heads begin.
pub fn status_line(status: u16) -> Cow<'static, str> {
    match registered(status) {
        Some(line) => Cow::Borrowed(line),
        None => Cow::Owned(format!("{status} {UNKNOWN}")),
    }
}

const UNKNOWN: &str = "Unknown";

fn registered(status: u16) -> Option<&'static str> {
    Some(match status {
        100 => "100 Continue",
        101 => "101 Switching Protocols",
        102 => "102 Processing",
        103 => "103 Early Hints",
        200 => "200 OK",
        201 => "201 Created",
        202 => "202 Accepted",
        203 => "203 Non-Authoritative Information",
        204 => "204 No Content",
        205 => "205 Reset Content",
        206 => "206 Partial Content",
        207 => "207 Multi-Status",
        208 => "208 Already Reported",
        226 => "226 IM Used",
        300 => "300 Multiple Choices",
        301 => "301 Moved Permanently",
        302 => "302 Found",
        303 => "303 See Other",
        304 => "304 Not Modified",
        305 => "305 Use Proxy",
        307 => "307 Temporary Redirect",
        308 => "308 Permanent Redirect",
        400..=499 => return client_error(status),
        500..=599 => return server_error(status),
        _ => return None,
    })
}

fn client_error(status: u16) -> Option<&'static str> {
    Some(match status {
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        402 => "402 Payment Required",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        406 => "406 Not Acceptable",
        407 => "407 Proxy Authentication Required",
        408 => "408 Request Timeout",
        409 => "409 Conflict",
        410 => "410 Gone",
        411 => "411 Length Required",
        412 => "412 Precondition Failed",
        413 => "413 Content Too Large",
        414 => "414 URI Too Long",
        415 => "415 Unsupported Media Type",
        416 => "416 Range Not Satisfiable",
        417 => "417 Expectation Failed",
        418 => "418 I'm a teapot",
        421 => "421 Misdirected Request",
        422 => "422 Unprocessable Content",
        423 => "423 Locked",
        424 => "424 Failed Dependency",
        425 => "425 Too Early",
        426 => "426 Upgrade Required",
        428 => "428 Precondition Required",
        429 => "429 Too Many Requests",
        431 => "431 Request Header Fields Too Large",
        451 => "451 Unavailable For Legal Reasons",
        _ => return None,
    })
}

fn server_error(status: u16) -> Option<&'static str> {
    Some(match status {
        500 => "500 Internal Server Error",
        501 => "501 Not Implemented",
        502 => "502 Bad Gateway",
        503 => "503 Service Unavailable",
        504 => "504 Gateway Timeout",
        505 => "505 HTTP Version Not Supported",
        506 => "506 Variant Also Negotiates",
        507 => "507 Insufficient Storage",
        508 => "508 Loop Detected",
        510 => "510 Not Extended",
        511 => "511 Network Authentication Required",
        _ => return None,
    })
}
