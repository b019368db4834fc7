//! The whole response to a request that is refused.
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::reject::Reject;

/// Appends status line, fields and HTML body; the connection is closed behind it.
pub fn error_page(out: &mut Vec<u8>, reject: &Reject) {
    let (status, reason) = (reject.status(), reject.reason());
    let text = escaped(&reject.page_text());
    let page = format!(
        "<html>\n  <head>\n    <title>{reason}</title>\n  </head>\n  <body>\n    <h1><p>{reason}</p></h1>\n    {text}\n  </body>\n</html>\n"
    );
    let page = latin1(&page);
    let length = page.len();
    let head = format!(
        "HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\r\n"
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&page);
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#x27;"),
            other => out.push(other),
        }
    }
    out
}

/// The peer's own bytes again: messages show them as Latin-1.
fn latin1(text: &str) -> Vec<u8> {
    text.chars()
        .map(|character| u8::try_from(u32::from(character)).unwrap_or(b'?'))
        .collect()
}
