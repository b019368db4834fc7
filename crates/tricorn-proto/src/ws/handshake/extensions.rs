//! Which of a client's offers to compress is taken, and on what terms.
//!
//! Not the compression. Invariant: an offer with anything unknown, repeated or out of range in it is declined, never
//! understood halfway; what is answered is what the codec does.
//! Source: RFC 6455, 9.1 (the grammar); RFC 7692, 5 and 7.1.
use alloc::vec::Vec;

use crate::grammar::{TOKEN, is, is_blank, run};
use crate::ws::deflate::DeflateParams;

const NAME: &[u8] = b"permessage-deflate";
/// zlib, and zlib-rs with it, refuses to compress raw deflate in the window of 8 bits, where its search has a bug.
const MIN_BITS: u8 = 9;
const MAX_BITS: u8 = 15;

/// What this server wants of compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// Keep the compressor between messages where the client lets us.
    pub server_context_takeover: bool,
    /// Let the client compress against earlier messages, which we keep a window for.
    pub client_context_takeover: bool,
    /// 9 to 15.
    pub server_max_window_bits: u8,
    /// 1 to 9, as in zlib.
    pub level: u8,
    /// Messages below are sent as they are.
    pub min_size: usize,
}

impl Default for DeflatePolicy {
    /// No contexts: one costs 270 KiB to send and 40 KiB to receive, for as long as the connection lives, while a
    /// new one costs 2.5 us a message. Level 2: 1 KiB of JSON in 10 us to 30 %; level 6 is at 28 %, and 64 KiB take
    /// it two and a half times as long. 1 KiB: less leaves in one packet, compressed or not.
    fn default() -> DeflatePolicy {
        DeflatePolicy {
            server_context_takeover: false,
            client_context_takeover: false,
            server_max_window_bits: MAX_BITS,
            level: 2,
            min_size: 1024,
        }
    }
}

/// Terms that client and server share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Negotiated {
    pub params: DeflateParams,
    says_server_bits: bool,
}

impl Negotiated {
    /// Appends the value of the response's `Sec-WebSocket-Extensions`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(NAME);
        if !self.params.server_context_takeover {
            out.extend_from_slice(b"; server_no_context_takeover");
        }
        if !self.params.client_context_takeover {
            out.extend_from_slice(b"; client_no_context_takeover");
        }
        if self.says_server_bits {
            out.extend_from_slice(b"; server_max_window_bits=");
            let bits = self.params.server_window_bits;
            out.extend_from_slice(itoa::Buffer::new().format(bits).as_bytes());
        }
    }
}

/// Takes the first offer of a `Sec-WebSocket-Extensions` that can be taken; several fields are joined by commas.
///
/// `None` is no extension: nothing was offered that can be taken, or what is there is no list of extensions.
pub fn negotiate(offers: &[u8], policy: &DeflatePolicy) -> Option<Negotiated> {
    let mut list = List { rest: offers };
    let mut taken = None;
    while list.skip_to_element() {
        let is_deflate = list.token()? == NAME;
        let mut offer = Some(Offer::default());
        while list.skip(b';') {
            let name = list.token()?;
            let value = if list.skip(b'=') {
                Some(list.value()?)
            } else {
                None
            };
            offer = offer.and_then(|offer| offer.with(name, value.as_deref()));
        }
        if !list.is_at_end_of_element() {
            return None;
        }
        if is_deflate && taken.is_none() {
            taken = offer.and_then(|offer| offer.accept(policy));
        }
    }
    taken
}

/// The parameters of one offer.
#[derive(Clone, Copy, Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// With or without a number: nothing is answered, because any window of a client's fits into ours.
    client_max_window_bits: bool,
}

impl Offer {
    /// The offer with one parameter more; `None` when that makes it one to decline.
    fn with(mut self, name: &[u8], value: Option<&[u8]>) -> Option<Offer> {
        let is_repeated = match (name, value) {
            (b"server_no_context_takeover", None) => {
                core::mem::replace(&mut self.server_no_context_takeover, true)
            }
            (b"client_no_context_takeover", None) => {
                core::mem::replace(&mut self.client_no_context_takeover, true)
            }
            (b"server_max_window_bits", Some(value)) => self
                .server_max_window_bits
                .replace(window_bits(value)?)
                .is_some(),
            (b"client_max_window_bits", value) => {
                value.map_or(Some(0), window_bits)?;
                core::mem::replace(&mut self.client_max_window_bits, true)
            }
            _ => return None,
        };
        (!is_repeated).then_some(self)
    }

    /// The terms under which it is taken; `None` when it asks for a window that cannot be compressed with.
    fn accept(self, policy: &DeflatePolicy) -> Option<Negotiated> {
        let asked = self.server_max_window_bits.unwrap_or(MAX_BITS);
        if asked < MIN_BITS {
            return None;
        }
        let server_window_bits = asked.min(policy.server_max_window_bits.clamp(MIN_BITS, MAX_BITS));
        Some(Negotiated {
            params: DeflateParams {
                // Both may be answered unasked: 7.1.1.1 says so, and 7.1.1.2 has clients understand it. A client that
                // offers either will do without, which is worth knowing whatever the policy is.
                server_context_takeover: policy.server_context_takeover
                    && !self.server_no_context_takeover,
                client_context_takeover: policy.client_context_takeover
                    && !self.client_no_context_takeover,
                server_window_bits,
                level: policy.level,
                min_size: policy.min_size,
            },
            // Unasked it would be allowed too, but nobody needs to know that a window is smaller than theirs.
            says_server_bits: self.server_max_window_bits.is_some(),
        })
    }
}

/// A number from 8 to 15 without leading zeros (RFC 7692, 7.1.2).
fn window_bits(value: &[u8]) -> Option<u8> {
    match value {
        [digit @ b'8'..=b'9'] => Some(digit - b'0'),
        [b'1', digit @ b'0'..=b'5'] => Some(10 + digit - b'0'),
        _ => None,
    }
}

/// What is left of a list of extensions.
struct List<'a> {
    rest: &'a [u8],
}

impl<'a> List<'a> {
    /// Whether there is another element; empty ones are none (RFC 9110, 5.6.1.2).
    fn skip_to_element(&mut self) -> bool {
        while self.skip(b',') {}
        !self.rest.is_empty()
    }

    fn is_at_end_of_element(&self) -> bool {
        matches!(self.rest.first(), None | Some(b','))
    }

    fn skip_blanks(&mut self) {
        while let [byte, rest @ ..] = self.rest
            && is_blank(*byte)
        {
            self.rest = rest;
        }
    }

    /// Skips blanks, then `byte` if it is there, then blanks again.
    fn skip(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let Some(rest) = self.rest.strip_prefix(&[byte]) else {
            return false;
        };
        self.rest = rest;
        self.skip_blanks();
        true
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let (token, rest) = self.rest.split_at(run(self.rest, TOKEN));
        self.rest = rest;
        (!token.is_empty()).then_some(token)
    }

    /// A token, quoted or not: what quotes hold must be a token as well (RFC 6455, 9.1).
    fn value(&mut self) -> Option<Vec<u8>> {
        let Some(mut rest) = self.rest.strip_prefix(b"\"") else {
            return self.token().map(<[u8]>::to_vec);
        };
        let mut value = Vec::new();
        loop {
            rest = match rest {
                [b'"', rest @ ..] => {
                    self.rest = rest;
                    return (!value.is_empty()).then_some(value);
                }
                [b'\\', byte, rest @ ..] | [byte, rest @ ..] if is(*byte, TOKEN) => {
                    value.push(*byte);
                    rest
                }
                _ => return None,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn answer(offers: &str, policy: &DeflatePolicy) -> Option<String> {
        let negotiated = negotiate(offers.as_bytes(), policy)?;
        let mut out = Vec::new();
        negotiated.write(&mut out);
        let value = String::from_utf8(out).expect("ASCII");
        Some(
            value
                .replace("permessage-deflate", "")
                .replace("_context_takeover", ""),
        )
    }

    const TAKEOVER: DeflatePolicy = DeflatePolicy {
        server_context_takeover: true,
        client_context_takeover: true,
        server_max_window_bits: 12,
        level: 6,
        min_size: 0,
    };

    #[test]
    fn offers_are_answered_as_the_policy_wants_it() {
        let neither = "; server_no; client_no";
        let table = [
            ("permessage-deflate", neither, ""),
            (
                "permessage-deflate; server_no_context_takeover",
                neither,
                "; server_no",
            ),
            (
                "permessage-deflate; client_no_context_takeover",
                neither,
                "; client_no",
            ),
            ("permessage-deflate; client_max_window_bits", neither, ""),
            ("permessage-deflate; client_max_window_bits=8", neither, ""),
            (
                "permessage-deflate; server_max_window_bits=9",
                "; server_no; client_no; server_max_window_bits=9",
                "; server_max_window_bits=9",
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                "; server_no; client_no; server_max_window_bits=15",
                "; server_max_window_bits=12",
            ),
        ];
        for (offer, by_default, with_takeover) in table {
            let policy = DeflatePolicy::default();
            assert_eq!(
                answer(offer, &policy).as_deref(),
                Some(by_default),
                "{offer}"
            );
            assert_eq!(
                answer(offer, &TAKEOVER).as_deref(),
                Some(with_takeover),
                "{offer}"
            );
        }
    }

    #[test]
    fn the_first_offer_that_can_be_taken_is() {
        let table = [
            ("x-other; a=b, permessage-deflate", ""),
            (
                "permessage-deflate; a, permessage-deflate; server_no_context_takeover",
                "; server_no",
            ),
            (
                "permessage-deflate; server_max_window_bits=8, permessage-deflate",
                "",
            ),
            (
                "permessage-deflate; server_no_context_takeover, permessage-deflate",
                "; server_no",
            ),
            (", ,permessage-deflate,", ""),
            (
                "permessage-deflate\t;server_max_window_bits = \"1\\0\" ,x",
                "; server_max_window_bits=10",
            ),
            ("x; y=\"z\", permessage-deflate", ""),
        ];
        for (offers, value) in table {
            assert_eq!(
                answer(offers, &TAKEOVER).as_deref(),
                Some(value),
                "{offers}"
            );
        }
    }

    #[test]
    fn offers_that_are_not_understood_as_a_whole_are_declined() {
        let offers = [
            "",
            ",",
            "x-webkit-deflate-frame",
            "Permessage-Deflate",
            "permessage-deflate; unknown",
            "permessage-deflate; server_no_context_takeover; server_no_context_takeover",
            "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
            "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
            "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_no_context_takeover=true",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=7",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=09",
            "permessage-deflate; server_max_window_bits=1e1",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; client_max_window_bits=100",
        ];
        for offer in offers {
            assert_eq!(answer(offer, &TAKEOVER), None, "{offer}");
        }
    }

    #[test]
    fn what_is_no_list_of_extensions_is_no_offer() {
        let offers = [
            ";",
            "permessage-deflate;",
            "permessage-deflate; ;",
            "permessage-deflate; server_max_window_bits=",
            "permessage-deflate; server_max_window_bits=\"\"",
            "permessage-deflate; server_max_window_bits=\"10",
            "permessage-deflate; server_max_window_bits=\"1 0\"",
            "permessage-deflate; server_max_window_bits=\"10\\",
            "permessage-deflate server_no_context_takeover",
            "permessage-deflate, a b",
            "permessage-deflate, \"a\"",
            "permessage-deflate, \u{e4}",
        ];
        for offer in offers {
            assert_eq!(answer(offer, &TAKEOVER), None, "{offer}");
        }
    }
}
