//! Field lines that are there as a whole, taken at full speed.
//!
//! Each stops in front of what it cannot take, which whoever comes next meets again from its first byte on: familiar
//! names, then any well-formed line, then the automaton.
use super::HeadParser;
use crate::bytes::places;
use crate::h1::facts::{Facts, Verdict};
use crate::h1::familiar::Familiar;
use crate::head::{Head, Span};
use crate::lines::Lines;
use crate::policy::{PeerTrust, Policy};
use crate::reject::Reject;

/// The most bytes of a whole head, whatever the settings multiply up to.
pub(super) const LARGEST_HEAD: usize = 256 * 1024 * 1024;

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
        let mut same = 0;
        if begins {
            same = self.familiar_lines(bytes, policy, trust, head, familiar)?;
            if bytes.get(self.at - self.base) == Some(&b'\r') {
                head.known = familiar.recognize(self.lines, same);
                return Ok(());
            }
        }
        self.other_lines(bytes, policy, trust, head, familiar, begins.then_some(same))
    }

    /// Lines whose names are those that came at their places before. Returns a bit for each that has the same value, too.
    fn familiar_lines(
        &mut self,
        bytes: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        familiar: &mut Familiar,
    ) -> Result<u64, Reject> {
        let start = self.at - self.base;
        let limits = (policy.fields_limit(), policy.field_size_limit());
        let (taken, due) = familiar.take(bytes, start, limits, &mut head.fields);
        self.lines = head.fields.len();
        for index in places(taken.telling) {
            let field = head.fields[index];
            let part = |span: Span| &bytes[span.start as usize..span.end as usize];
            let noted = (part(field.name), part(field.value));
            // Only a name with an underscore could be dropped, and none of those is familiar.
            let noted = self
                .facts
                .note(noted, (field.value, false), self.version, policy, trust);
            if let Err(reject) = noted {
                head.fields.truncate(index);
                self.lines = index + 1;
                return Err(reject);
            }
        }
        for index in places(due) {
            familiar.keep(index, bytes, head.fields[index]);
        }
        let last = head
            .fields
            .last()
            .map_or(Span::default(), |field| field.name);
        self.took(start, taken.end, last);
        Ok(taken.same)
    }

    /// Any well-formed lines. `begun`: they, and familiar ones before them, begin the head; a bit for each of those that has
    /// the same value, too.
    #[inline(never)]
    fn other_lines(
        &mut self,
        bytes: &[u8],
        policy: &Policy,
        trust: PeerTrust,
        head: &mut Head,
        familiar: &mut Familiar,
        begun: Option<u64>,
    ) -> Result<(), Reject> {
        let mut lines = Lines::new(bytes);
        let telling = policy.with_scheme_headers(Facts::TELLING);
        let start = self.at - self.base;
        let mut at = start;
        let mut last = Span::default();
        let mut learns = begun.is_some() && familiar.begins_to_learn(self.lines);
        while self.lines < policy.fields_limit()
            && let Some(line) = lines.at(at)
            && line.end - at <= policy.field_size_limit()
        {
            let field = line.field(at);
            let name = lines.slice(at, line.name_end);
            last = field.name;
            at = line.end;
            let tells = line.has_underscore || telling.may_hold(name);
            // What a name with an underscore comes to depends on its peer.
            learns =
                learns && !line.has_underscore && familiar.learn(self.lines, bytes, field, tells);
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
        if let Some(same) = begun
            && bytes.get(at) == Some(&b'\r')
        {
            match learns {
                true => head.known = familiar.recognize(self.lines, same),
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
