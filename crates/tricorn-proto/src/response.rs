//! Encodes a response head and body of HTTP/1.x, and the error page.
