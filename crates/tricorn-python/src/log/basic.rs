//! The user name in Basic credentials, for the atom `u`.
//!
//! Source: RFC 7617; lenient like Python's `base64.b64decode`, so that both writers print the same.

/// The user of an Authorization value; None unless it is Basic and decodes to UTF-8.
pub fn user(credentials: &[u8]) -> Option<String> {
    if !credentials.get(..5)?.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let space = credentials.iter().position(|&byte| byte == b' ')?;
    let mut decoded = decode(&credentials[space + 1..])?;
    if let Some(colon) = decoded.iter().position(|&byte| byte == b':') {
        decoded.truncate(colon);
    }
    String::from_utf8(decoded).ok()
}

/// Base64 without the bytes outside its alphabet; None when the padding does not fit.
fn decode(encoded: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(encoded.len() / 4 * 3);
    let (mut bits, mut digits, mut padding) = (0u32, 0u8, 0u8);
    for &byte in encoded {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            b'=' => {
                padding += u8::from(digits >= 2);
                if digits >= 2 && digits + padding >= 4 {
                    return Some(out);
                }
                continue;
            }
            _ => continue,
        };
        padding = 0;
        bits = (bits << 6) | u32::from(value);
        digits = (digits + 1) % 4;
        if digits != 1 {
            out.push((bits >> [0, 0, 4, 2][usize::from(digits)]) as u8);
        }
    }
    (digits == 0).then_some(out)
}
