//! Field lines that are there as a whole, taken at full speed.
//!
//! Each stops in front of what it cannot take, which whoever comes next meets again from its first byte on: familiar
//! names, then any well-formed line, then the automaton.
use alloc::vec::Vec;

use super::HeadParser;
use crate::h1::facts::{Facts, Verdict};
use crate::h1::familiar::{Familiar, Name};
use crate::head::{Field, Head, Span};
use crate::lines::{FieldLine, Lines};
use crate::policy::{PeerTrust, Policy};
use crate::reject::Reject;

/// The most bytes of a whole head, whatever the settings multiply up to.
pub(super) const LARGEST_HEAD: usize = 256 * 1024 * 1024;

/// `at`: the line's first byte.
#[inline(always)]
fn field(at: usize, line: &FieldLine) -> Field {
    let span = |start: usize, end: usize| Span {
        start: start as u32,
        end: end as u32,
    };
    Field {
        name: span(at, line.name_end),
        value: span(line.value_start, line.value_end),
    }
}

/// Puts the lines that begin with `names`, one behind the other from `at` on, into `fields`. Returns where they end. Not
/// inlined: it needs all registers for itself.
#[inline(never)]
fn take_familiar(
    bytes: &[u8],
    mut at: usize,
    names: &[Name],
    size_limit: usize,
    fields: &mut Vec<Field>,
) -> usize {
    let mut lines = Lines::new(bytes);
    for name in names {
        match lines.familiar(at, name) {
            Some(line) if line.end - at <= size_limit => {
                fields.push(field(at, &line));
                at = line.end;
            }
            _ => break,
        }
    }
    at
}

impl HeadParser {
    pub(super) fn whole_lines(
        &mut self,
        buf: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        familiar: &mut Familiar,
    ) -> Result<(), Reject> {
        // From here on, places count from the request line, as spans do.
        let bytes = buf.get(self.base..).unwrap_or(&[]);
        let bytes = &bytes[..bytes.len().min(LARGEST_HEAD)];
        // Whose lines come one by one is not worth it.
        let begins = self.lines == 0;
        if begins {
            self.familiar_lines(bytes, policy, trust, head, familiar)?;
            if bytes.get(self.at - self.base) == Some(&b'\r') {
                head.names = familiar.recognize(self.lines);
                return Ok(());
            }
        }
        self.other_lines(bytes, policy, trust, head, familiar, begins)
    }

    /// Lines whose names are those that came at their places before.
    fn familiar_lines(
        &mut self,
        bytes: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        familiar: &Familiar,
    ) -> Result<(), Reject> {
        let names = familiar.names(policy.fields_limit());
        let start = self.at - self.base;
        let end = take_familiar(
            bytes,
            start,
            names,
            policy.field_size_limit(),
            &mut head.fields,
        );
        for (index, (field, name)) in head.fields.iter().zip(names).enumerate() {
            self.lines += 1;
            if name.tells {
                let part = |span: Span| &bytes[span.start as usize..span.end as usize];
                let noted = (part(field.name), part(field.value));
                // Only a name with an underscore could be dropped, and none of those is familiar.
                let noted =
                    self.facts
                        .note(noted, (field.value, false), self.version, policy, trust);
                if let Err(reject) = noted {
                    head.fields.truncate(index);
                    return Err(reject);
                }
            }
        }
        let last = head
            .fields
            .last()
            .map_or(Span::default(), |field| field.name);
        self.took(start, end, last);
        Ok(())
    }

    /// Any well-formed lines.
    #[inline(never)]
    fn other_lines(
        &mut self,
        bytes: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        familiar: &mut Familiar,
        begins: bool,
    ) -> Result<(), Reject> {
        let mut lines = Lines::new(bytes);
        let telling = policy.with_scheme_headers(Facts::TELLING);
        let start = self.at - self.base;
        let mut at = start;
        let mut last = Span::default();
        let mut learns = begins && familiar.is_learning();
        while self.lines < policy.fields_limit()
            && let Some(line) = lines.at(at)
            && line.end - at <= policy.field_size_limit()
        {
            let field = field(at, &line);
            let name = lines.slice(at, line.name_end);
            last = field.name;
            let rest = lines.rest(at);
            at = line.end;
            let tells = line.has_underscore || telling.may_hold(name);
            // What a name with an underscore comes to depends on its peer.
            learns = learns
                && !line.has_underscore
                && familiar.learn(self.lines, rest, name.len(), tells);
            self.lines += 1;
            if tells {
                let noted = (name, lines.slice(line.value_start, line.value_end));
                let flags = (field.value, line.has_underscore);
                if let Verdict::Drop = self.facts.note(noted, flags, self.version, policy, trust)? {
                    continue;
                }
            }
            head.fields.push(field);
        }
        self.took(start, at, last);
        if begins && bytes.get(at) == Some(&b'\r') {
            match learns {
                true => head.names = familiar.recognize(self.lines),
                false => familiar.wonder(),
            }
        }
        Ok(())
    }

    /// `last`: the name of the last line.
    fn took(&mut self, start: usize, end: usize, last: Span) {
        self.at = self.base + end;
        if end > start {
            self.line = self.base + last.start as usize;
            self.name_end = self.base + last.end as usize;
        }
    }
}
