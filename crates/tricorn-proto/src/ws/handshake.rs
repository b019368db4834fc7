//! The values of the opening handshake: the key and its answer, the extension offered and taken.
//!
//! Not the request and response around them, which are HTTP.
//! Source: RFC 6455, 4.2; RFC 7692, 5.
mod extensions;

use sha1_smol::Sha1;

pub use extensions::{DeflatePolicy, Negotiated, negotiate};

/// Proves to a client that its handshake was understood as one (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The value of `Sec-WebSocket-Accept` for that of `Sec-WebSocket-Key`.
pub fn accept_key(key: &[u8]) -> [u8; 28] {
    let mut sha1 = Sha1::new();
    sha1.update(key);
    sha1.update(GUID);
    base64(&sha1.digest().bytes())
}

/// Whether a `Sec-WebSocket-Key` is the base64 of exactly 16 bytes.
///
/// Bits beyond the 16th byte may be set: the RFC's own example in 4.1 has some.
pub fn key_is_valid(key: &[u8]) -> bool {
    matches!(key.split_last_chunk::<2>(), Some((digits, b"=="))
        if digits.len() == 22 && digits.iter().all(|digit| BASE64.contains(digit)))
}

fn base64(bytes: &[u8; 20]) -> [u8; 28] {
    let mut out = [b'='; 28];
    for (digits, group) in out.chunks_exact_mut(4).zip(bytes.chunks(3)) {
        let bits = group.iter().enumerate().fold(0, |bits, (index, &byte)| {
            bits | u32::from(byte) << (16 - 8 * index)
        });
        // Three bytes are four digits, two are three and a pad.
        for (index, digit) in digits.iter_mut().take(group.len() + 1).enumerate() {
            *digit = BASE64[(bits >> (18 - 6 * index)) as usize % 64];
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_answered_as_in_the_rfc() {
        assert_eq!(
            &accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn a_key_is_the_base64_of_16_bytes() {
        let valid: [&[u8]; 3] = [
            b"dGhlIHNhbXBsZSBub25jZQ==",
            b"AQIDBAUGBwgJCgsMDQ4PEC==",
            b"++++++++++++/////////w==",
        ];
        for key in valid {
            assert!(key_is_valid(key), "{key:?}");
        }
        let invalid: [&[u8]; 7] = [
            b"",
            b"==",
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ= ",
            b"dGhlIHNhbXBsZSBub25jZ===",
            b"dGhlIHNhbXBsZSBub25jZSE=",
            b"dGhlIHNhbXBsZSBub25j-Q==",
        ];
        for key in invalid {
            assert!(!key_is_valid(key), "{key:?}");
        }
    }
}
