//! HTTP/1.x requests: head parser, body decoder.
