//! Compiles `access_log_format` and writes lines from it.
//!
//! What it is not: the whole of Python's `%`. What it cannot say exactly as Python would, it declines, and
//! the line is then formatted by Python. Source: Gunicorn setting `access_log_format`, Python's
//! printf-style formatting.

use super::record::RecordSource;
use super::{basic, clock::Clock, escape};

/// Padding beyond this is left to Python.
const WIDTH_LIMIT: usize = 1024;

/// A compiled format.
pub struct Format {
    pieces: Vec<Piece>,
}

enum Piece {
    Literal(Vec<u8>),
    Atom(Atom, Option<Padding>),
}

enum Atom {
    Unknown,
    RemoteAddr,
    User,
    Time,
    RequestLine,
    Status,
    Method,
    Path,
    Query,
    Protocol,
    Bytes,
    Referer,
    Agent,
    Seconds,
    Millis,
    Micros,
    SecondsAndMicros,
    Pid,
    RequestField(String),
    ResponseField(String),
    Environ(String),
}

/// Flags, width and precision of one conversion.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
struct Padding {
    left: bool,
    zero: bool,
    plus: bool,
    space: bool,
    width: usize,
    precision: Option<usize>,
    number: bool,
}

impl Format {
    /// None when Python has to format the lines.
    pub fn compile(format: &str) -> Option<Format> {
        let mut pieces = Vec::new();
        let mut literal = Vec::new();
        let mut rest = format;
        while let Some(at) = rest.find('%') {
            literal.extend_from_slice(&rest.as_bytes()[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('%') {
                literal.push(b'%');
                rest = after;
                continue;
            }
            let (name, after) = key(rest)?;
            let (padding, after) = Padding::parse(after)?;
            let atom = Atom::named(name);
            // `%(s)d` is an error in Python, which reports it in its own way.
            if padding.number && !atom.is_number(name) {
                return None;
            }
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            let plain = Padding {
                number: padding.number,
                ..Padding::default()
            };
            pieces.push(Piece::Atom(atom, (padding != plain).then_some(padding)));
            rest = after;
        }
        literal.extend_from_slice(rest.as_bytes());
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Some(Format { pieces })
    }

    /// Whether a line asks for fields of the response.
    pub fn needs_response_fields(&self) -> bool {
        self.atoms()
            .any(|atom| matches!(atom, Atom::ResponseField(_)))
    }

    /// Append one line, without its line feed.
    pub fn write(&self, out: &mut Vec<u8>, source: &dyn RecordSource, clock: &mut Clock) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => out.extend_from_slice(literal),
                Piece::Atom(atom, None) => atom.write(out, source, clock),
                Piece::Atom(atom, Some(padding)) => {
                    let start = out.len();
                    atom.write(out, source, clock);
                    padding.apply(out, start);
                }
            }
        }
    }

    fn atoms(&self) -> impl Iterator<Item = &Atom> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Atom(atom, _) => Some(atom),
            Piece::Literal(_) => None,
        })
    }
}

/// Split `(name)rest`; parentheses in the name nest.
fn key(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('(')?;
    let mut depth = 1;
    for (at, byte) in inner.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&inner[..at], &inner[at + 1..]));
        }
    }
    None
}

impl Atom {
    fn named(name: &str) -> Atom {
        match name {
            "h" => Atom::RemoteAddr,
            "u" => Atom::User,
            "t" => Atom::Time,
            "r" => Atom::RequestLine,
            "s" => Atom::Status,
            "m" => Atom::Method,
            "U" => Atom::Path,
            "q" => Atom::Query,
            "H" => Atom::Protocol,
            "b" | "B" => Atom::Bytes,
            "f" => Atom::Referer,
            "a" => Atom::Agent,
            "T" => Atom::Seconds,
            "M" => Atom::Millis,
            "D" => Atom::Micros,
            "L" => Atom::SecondsAndMicros,
            "p" => Atom::Pid,
            _ => Atom::in_braces(name).unwrap_or(Atom::Unknown),
        }
    }

    fn in_braces(name: &str) -> Option<Atom> {
        let (name, suffix) = name.strip_prefix('{')?.rsplit_once('}')?;
        let name = name.to_lowercase();
        match suffix {
            "i" | "I" => Some(Atom::RequestField(name)),
            "o" | "O" => Some(Atom::ResponseField(name)),
            "e" | "E" => Some(Atom::Environ(name)),
            _ => None,
        }
    }

    /// Whether Python's `d` takes the value; `b` is the text twin of `B`.
    fn is_number(&self, name: &str) -> bool {
        matches!(self, Atom::Seconds | Atom::Millis | Atom::Micros) || name == "B"
    }

    fn write(&self, out: &mut Vec<u8>, source: &dyn RecordSource, clock: &mut Clock) {
        match self {
            Atom::Unknown => out.push(b'-'),
            Atom::RemoteAddr => escape::latin1(out, source.remote_addr(), true),
            Atom::User => write_user(out, source),
            Atom::Time => out.extend_from_slice(clock.now()),
            Atom::RequestLine => {
                for part in [source.method(), source.target()] {
                    escape::latin1(out, part, false);
                    out.push(b' ');
                }
                escape::latin1(out, source.protocol(), true);
            }
            Atom::Status => {
                let words = source.status().split(u8::is_ascii_whitespace);
                let code = words
                    .into_iter()
                    .find(|word| !word.is_empty())
                    .unwrap_or_default();
                escape::latin1(out, code, true);
            }
            Atom::Method => escape::latin1(out, source.method(), true),
            Atom::Path => escape::latin1(out, &source.path(), true),
            Atom::Query => escape::latin1(out, source.query(), true),
            Atom::Protocol => escape::latin1(out, source.protocol(), true),
            Atom::Bytes => number(out, source.body_bytes()),
            Atom::Referer => optional(out, source.joined_field("referer")),
            Atom::Agent => optional(out, source.joined_field("user-agent")),
            Atom::Seconds => number(out, source.duration_ns() / 1_000_000_000),
            Atom::Millis => number(out, source.duration_ns() / 1_000_000),
            Atom::Micros => number(out, source.duration_ns() / 1_000),
            Atom::SecondsAndMicros => {
                let micros = source.duration_ns() / 1_000;
                number(out, micros / 1_000_000);
                out.push(b'.');
                let start = out.len();
                number(out, micros % 1_000_000);
                pad_front(out, start, 6, b'0');
            }
            Atom::Pid => {
                out.push(b'<');
                number(out, u64::from(std::process::id()));
                out.push(b'>');
            }
            Atom::RequestField(name) => optional(out, source.request_field(name)),
            Atom::ResponseField(name) => optional(out, source.response_field(name)),
            Atom::Environ(name) => optional(out, source.environ_variable(name)),
        }
    }
}

fn write_user(out: &mut Vec<u8>, source: &dyn RecordSource) {
    let credentials = source.joined_field("authorization");
    match credentials.and_then(|value| basic::user(&value)) {
        Some(user) if !user.is_empty() => escape::text(out, &user),
        _ => out.push(b'-'),
    }
}

fn optional(out: &mut Vec<u8>, value: Option<Vec<u8>>) {
    match value {
        Some(value) => escape::latin1(out, &value, true),
        None => out.push(b'-'),
    }
}

fn number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Fill with `fill` before what was written from `start` on, up to `width` characters.
fn pad_front(out: &mut Vec<u8>, start: usize, width: usize, fill: u8) {
    let missing = width.saturating_sub(characters(&out[start..]));
    out.splice(start..start, std::iter::repeat_n(fill, missing));
}

fn characters(utf8: &[u8]) -> usize {
    utf8.iter().filter(|&&byte| byte & 0xc0 != 0x80).count()
}

impl Padding {
    /// Read flags, width, precision and conversion; None for what only Python knows.
    fn parse(text: &str) -> Option<(Padding, &str)> {
        let mut padding = Padding::default();
        let mut rest = text;
        loop {
            match rest.bytes().next()? {
                b'-' => padding.left = true,
                b'0' => padding.zero = true,
                b'+' => padding.plus = true,
                b' ' => padding.space = true,
                b'#' => {}
                _ => break,
            }
            rest = &rest[1..];
        }
        (padding.width, rest) = digits(rest)?;
        if let Some(after) = rest.strip_prefix('.') {
            let (precision, after) = digits(after)?;
            padding.precision = Some(precision);
            rest = after;
        }
        rest = rest.strip_prefix(['h', 'l', 'L']).unwrap_or(rest);
        padding.number = match rest.bytes().next()? {
            b's' => false,
            b'd' | b'i' | b'u' => true,
            _ => return None,
        };
        Some((padding, &rest[1..]))
    }

    fn apply(self, out: &mut Vec<u8>, start: usize) {
        if self.number {
            pad_front(out, start, self.precision.unwrap_or(0), b'0');
            let sign = if self.plus {
                Some(b'+')
            } else {
                self.space.then_some(b' ')
            };
            if self.zero && !self.left {
                let width = self.width.saturating_sub(usize::from(sign.is_some()));
                pad_front(out, start, width, b'0');
            }
            if let Some(sign) = sign {
                out.insert(start, sign);
            }
        } else if let Some(precision) = self.precision {
            let ends = out[start..]
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte & 0xc0 != 0x80);
            if let Some((end, _)) = ends
                .skip(precision)
                .map(|(at, byte)| (start + at, byte))
                .next()
            {
                out.truncate(end);
            }
        }
        if self.left {
            let missing = self.width.saturating_sub(characters(&out[start..]));
            out.resize(out.len() + missing, b' ');
        } else {
            pad_front(out, start, self.width, b' ');
        }
    }
}

/// A decimal number, 0 when there is none; None above the limit.
fn digits(text: &str) -> Option<(usize, &str)> {
    let end = text.bytes().take_while(u8::is_ascii_digit).count();
    let value = if end == 0 {
        0
    } else {
        text[..end].parse().ok()?
    };
    (value <= WIDTH_LIMIT).then_some((value, &text[end..]))
}
