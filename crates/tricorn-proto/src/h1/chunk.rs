//! The line in front of each chunk: size and extensions, byte by byte.
//!
//! Not the data behind it. Invariant: extensions are checked and thrown away, so nothing grows.
//! Source: RFC 9112, 7.1 and 7.1.1.
use crate::grammar::{TOKEN, is, is_blank};
use crate::reject::RejectKind;

/// Where the line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Size,
    /// Blanks behind the size: only `;` may follow.
    SizeBlank,
    /// Behind `;`: blanks, then a name.
    NameStart,
    Name,
    /// Blanks behind a name: `=` or `;` may follow.
    NameBlank,
    /// Behind `=`: blanks, then a value.
    ValueStart,
    Value,
    Quoted,
    QuotedPair,
    /// Behind a quoted value; also blanks behind any value once one was seen.
    QuotedEnd,
    /// Blanks behind a value: only `;` may follow.
    ValueBlank,
    Lf,
}

/// Reads one chunk-size line; fresh for each line.
#[derive(Clone, Debug, Default)]
pub(super) struct SizeLine {
    state: State,
    has_digit: bool,
    size: u64,
    /// Bytes of extensions so far, from the first blank or `;` on.
    pub extension_bytes: u64,
    /// Bytes of the whole line so far.
    pub line_bytes: usize,
}

/// How far a line is after some bytes.
pub(super) enum Line {
    More,
    /// Offset behind the LF, and the size.
    Done(usize, u64),
}

impl SizeLine {
    /// Goes on with the line.
    ///
    /// Errors: `ChunkSize` for a size that is no hexadecimal number of 63 bits, `ChunkExtension` for the rest.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Line, RejectKind> {
        for (index, &byte) in bytes.iter().enumerate() {
            self.line_bytes += 1;
            if self.state == State::Lf {
                return if byte == b'\n' {
                    Ok(Line::Done(index + 1, self.size))
                } else if self.extension_bytes > 0 {
                    Err(RejectKind::ChunkExtension)
                } else {
                    Err(RejectKind::ChunkSize)
                };
            }
            if self.state == State::Size {
                if let Some(digit) = hex(byte) {
                    self.has_digit = true;
                    self.size = push_digit(self.size, digit).ok_or(RejectKind::ChunkSize)?;
                    continue;
                }
                if !self.has_digit {
                    return Err(RejectKind::ChunkSize);
                }
            }
            self.state = next(self.state, byte)?;
            self.extension_bytes += u64::from(self.state != State::Lf);
        }
        Ok(Line::More)
    }
}

#[inline]
fn hex(byte: u8) -> Option<u64> {
    (byte as char).to_digit(16).map(u64::from)
}

#[inline]
fn push_digit(size: u64, digit: u64) -> Option<u64> {
    (size <= (i64::MAX as u64) >> 4).then_some((size << 4) | digit)
}

/// The extension grammar as transitions; the size's digits are counted by the caller.
fn next(state: State, byte: u8) -> Result<State, RejectKind> {
    use State::*;
    let extension = RejectKind::ChunkExtension;
    Ok(match (state, byte) {
        (Size | Name | Value | QuotedEnd, b'\r') => Lf,
        (Size | SizeBlank | Name | NameBlank | Value | QuotedEnd | ValueBlank, b';') => NameStart,
        (Size | SizeBlank, byte) if is_blank(byte) => SizeBlank,
        (Size | SizeBlank, _) => return Err(RejectKind::ChunkSize),
        (NameStart | ValueStart, byte) if is_blank(byte) => state,
        (NameStart | Name, byte) if is(byte, TOKEN) => Name,
        (Name | NameBlank, b'=') => ValueStart,
        (Name | NameBlank, byte) if is_blank(byte) => NameBlank,
        (ValueStart, b'"') => Quoted,
        (ValueStart | Value, byte) if is(byte, TOKEN) => Value,
        (Value | QuotedEnd | ValueBlank, byte) if is_blank(byte) => ValueBlank,
        (Quoted, b'"') => QuotedEnd,
        (Quoted, b'\\') => QuotedPair,
        (Quoted | QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => Quoted,
        _ => return Err(extension),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &[u8]) -> Result<u64, RejectKind> {
        match SizeLine::default().read(line)? {
            Line::Done(end, size) => {
                assert_eq!(end, line.len());
                Ok(size)
            }
            Line::More => panic!("{line:?} is not a whole line"),
        }
    }

    #[test]
    fn sizes_and_well_formed_extensions_are_read() {
        let table: [(&[u8], u64); 10] = [
            (b"5\r\n", 5),
            (b"aF\r\n", 0xaf),
            (b"0000000000000000000000005\r\n", 5),
            (b"7fffffffffffffff\r\n", i64::MAX as u64),
            (b"5;a\r\n", 5),
            (b"5;a=b;c=\"d\\\" e\x80\"\r\n", 5),
            (b"5 ; a\r\n", 5),
            (b"5\t;\ta\r\n", 5),
            (b"5; a = b ;c\r\n", 5),
            (b"0;a=\"\"\r\n", 0),
        ];
        for (line, size) in table {
            assert_eq!(read(line), Ok(size), "{line:?}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        use RejectKind::{ChunkExtension, ChunkSize};
        let table: [(&[u8], RejectKind); 19] = [
            (b"\r\n", ChunkSize),
            (b"0x5\r\n", ChunkSize),
            (b"+5\r\n", ChunkSize),
            (b"-5\r\n", ChunkSize),
            (b"5_0\r\n", ChunkSize),
            (b" 5\r\n", ChunkSize),
            (b"5 \r\n", ChunkSize),
            (b"5\n", ChunkSize),
            (b"5\r5", ChunkSize),
            (b"5\0\r\n", ChunkSize),
            (b"8000000000000000\r\n", ChunkSize),
            (b"5;\r\n", ChunkExtension),
            (b"5;a;;b\r\n", ChunkExtension),
            (b"5;a=\r\n", ChunkExtension),
            (b"5;a \r\n", ChunkExtension),
            (b"5;a=b\"\r\n", ChunkExtension),
            (b"5;a=\"b\r\n", ChunkExtension),
            (b"5;a\n", ChunkExtension),
            (b"5;a\rb", ChunkExtension),
        ];
        for (line, kind) in table {
            assert_eq!(read(line), Err(kind), "{line:?}");
        }
    }
}
