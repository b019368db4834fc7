//! A connection as the engine would run it, and what happens on it as lines of text.
#![allow(dead_code)] // each test file uses its own part
pub mod ws;

use tricorn_proto::h1::{BodyDecoder, BodyStep, Familiar, HeadParser};
use tricorn_proto::{Head, PeerTrust, Policy, Scheme};

/// Bytes with everything but visible ASCII and space escaped.
pub fn shown(bytes: &[u8]) -> String {
    let visible = |&byte: &u8| match byte {
        b'\\' => "\\\\".to_string(),
        b' '..=b'~' => (byte as char).to_string(),
        b'\r' => "\\r".to_string(),
        b'\n' => "\\n".to_string(),
        b'\t' => "\\t".to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(visible).collect()
}

/// The bytes of a corpus line; the escapes are those of [`shown`].
pub fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        out.push(
            match (
                character,
                if character == '\\' { rest.next() } else { None },
            ) {
                ('\\', Some('r')) => b'\r',
                ('\\', Some('n')) => b'\n',
                ('\\', Some('t')) => b'\t',
                ('\\', Some('\\')) => b'\\',
                ('\\', Some('x')) => {
                    u8::from_str_radix(&rest.by_ref().take(2).collect::<String>(), 16).unwrap()
                }
                (plain, None) => u8::try_from(plain).unwrap(),
                other => panic!("no such escape: {other:?}"),
            },
        );
    }
    out
}

/// Everything that happens when `raw` arrives cut at `cuts` (ascending offsets within `raw`).
pub fn events(raw: &[u8], cuts: &[usize], policy: &Policy, trust: PeerTrust) -> Vec<String> {
    let mut connection = Connection {
        policy,
        trust,
        ..Connection::new(policy)
    };
    let mut from = 0;
    for &to in cuts.iter().chain([&raw.len()]) {
        connection.receive(&raw[from..to]);
        from = to;
    }
    if !connection.is_over && (connection.body.is_some() || !connection.buf.is_empty()) {
        connection.events.push("more".to_string());
    }
    connection.events
}

struct Connection<'a> {
    policy: &'a Policy,
    trust: PeerTrust,
    parser: HeadParser,
    familiar: Familiar,
    head: Head,
    body: Option<(BodyDecoder, Vec<u8>)>,
    buf: Vec<u8>,
    events: Vec<String>,
    is_over: bool,
}

impl<'a> Connection<'a> {
    fn new(policy: &'a Policy) -> Connection<'a> {
        Connection {
            policy,
            trust: PeerTrust::Untrusted,
            parser: HeadParser::default(),
            familiar: Familiar::default(),
            head: Head::default(),
            body: None,
            buf: Vec::new(),
            events: Vec::new(),
            is_over: false,
        }
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
        while !self.is_over
            && if self.body.is_some() {
                self.read_body()
            } else {
                self.read_head()
            }
        {}
    }

    fn reject(&mut self, reject: &tricorn_proto::Reject) -> bool {
        self.events
            .push(format!("reject {} {:?}", reject.status(), reject.kind));
        self.is_over = true;
        false
    }

    fn read_head(&mut self) -> bool {
        match self.parser.parse(
            &self.buf,
            self.policy,
            self.trust,
            &mut self.head,
            &mut self.familiar,
        ) {
            Ok(None) => false,
            Err(reject) => self.reject(&reject),
            Ok(Some(consumed)) => {
                self.buf.drain(..consumed);
                self.tell_head();
                self.body = Some((BodyDecoder::new(self.head.framing), Vec::new()));
                true
            }
        }
    }

    fn tell_head(&mut self) {
        let (head, (major, minor)) = (&self.head, self.head.version);
        let keep = if head.keep_alive { "keep" } else { "close" };
        let (method, target) = (shown(head.method()), shown(head.target()));
        self.events
            .push(format!("request {method} {target} {major}.{minor} {keep}"));
        let parts = [
            ("path", head.path()),
            ("query", head.query()),
            ("fragment", head.slice(head.fragment)),
        ];
        let told = |(name, part): &(&str, &[u8])| {
            !part.is_empty() && (*name != "path" || *part != head.target())
        };
        self.events.extend(
            parts
                .iter()
                .filter(|part| told(part))
                .map(|(name, part)| format!("{name} {}", shown(part))),
        );
        let field = |field: &tricorn_proto::Field| {
            format!(
                "field {}: {}",
                shown(head.slice(field.name)),
                shown(head.slice(field.value))
            )
            .trim_end()
            .to_string()
        };
        self.events.extend(head.fields.iter().map(field));
        if let Some(scheme) = head.scheme {
            self.events.push(format!(
                "scheme {}",
                if scheme == Scheme::Https {
                    "https"
                } else {
                    "http"
                }
            ));
        }
        if let Some(script) = head.script_name {
            self.events
                .push(format!("script {}", shown(head.slice(script))));
        }
        if head.expect_continue {
            self.events.push("expects continue".to_string());
        }
    }

    fn read_body(&mut self) -> bool {
        let Some((decoder, body)) = &mut self.body else {
            return false;
        };
        match decoder.decode(&self.buf, self.policy) {
            Err(reject) => self.reject(&reject),
            Ok(BodyStep::NeedMore { consumed }) => {
                assert!(!decoder.is_done());
                self.buf.drain(..consumed);
                false
            }
            Ok(BodyStep::Data { data, consumed }) => {
                assert!(
                    data.start < data.end && data.end <= consumed && consumed <= self.buf.len()
                );
                body.extend_from_slice(&self.buf[data]);
                self.buf.drain(..consumed);
                true
            }
            Ok(BodyStep::End { consumed }) => {
                assert!(decoder.is_done() && decoder.remaining() == Some(0));
                self.buf.drain(..consumed);
                if !body.is_empty() {
                    self.events.push(format!("body {}", shown(body)));
                }
                for (name, value) in decoder.take_trailers() {
                    self.events.push(
                        format!("trailer {}: {}", shown(&name), shown(&value))
                            .trim_end()
                            .to_string(),
                    );
                }
                self.body = None;
                self.is_over = !self.head.keep_alive;
                true
            }
        }
    }
}

/// Numbers that look random and are the same in every run (SplitMix64).
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is more than 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Some ascending cuts of `len` bytes.
    pub fn cuts(&mut self, len: usize) -> Vec<usize> {
        let mut cuts: Vec<usize> = (0..self.below(8)).map(|_| self.below(len + 1)).collect();
        cuts.sort_unstable();
        cuts
    }
}
