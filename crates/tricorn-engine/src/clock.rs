//! Monotonic time, and the fields that every response has from us. The only place of the engine that reads a clock.
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use tricorn_proto::AppFault;
use tricorn_proto::response::{Opening, Signature, Status};

use crate::exchange::Signed;

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now_ns() -> u64 {
    read_ns(ClockId::Monotonic)
}

/// Nanoseconds of CPU that all threads of this process have used.
pub fn process_ns() -> u64 {
    read_ns(ClockId::ProcessCPUTime)
}

/// Nanoseconds of CPU that the calling thread has used.
pub fn thread_ns() -> u64 {
    read_ns(ClockId::ThreadCPUTime)
}

fn read_ns(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Milliseconds of CLOCK_MONOTONIC.
pub fn now_ms() -> u64 {
    now_ns() / 1_000_000
}

/// Server and Date as lines of a response head, formatted once a second (RFC 9110, 5.6.7).
#[derive(Debug)]
pub struct Stamp {
    second: u64,
    /// Of the last head, if it began in this second.
    opening: Option<Opening>,
    lines: Vec<u8>,
    /// Length of the Server line, with which `lines` begins.
    server_len: usize,
}

impl Stamp {
    pub fn new(server: &[u8]) -> Self {
        let lines = [b"Server: ", server, b"\r\n"].concat();
        Stamp {
            second: u64::MAX,
            opening: None,
            server_len: lines.len(),
            lines,
        }
    }

    /// How most heads of that status begin in this second. Errors: as for [`Status::parse`].
    #[inline]
    pub fn opening(&mut self, status: &[u8]) -> Result<&Opening, AppFault> {
        self.refresh();
        self.opening.take_if(|opening| !opening.is_of(status));
        match &mut self.opening {
            Some(opening) => Ok(opening),
            none => {
                let signature = Signature {
                    lines: &self.lines,
                    has_server: true,
                    has_date: true,
                };
                Ok(none.insert(Opening::new(Status::parse(status)?, &signature)))
            }
        }
    }

    /// What of it a head still needs.
    pub fn signature(&mut self, signed: Signed) -> Signature<'_> {
        self.refresh();
        let (server, date) = self.lines.split_at(self.server_len);
        let lines = match (signed.server, signed.date) {
            (false, false) => &self.lines,
            (false, true) => server,
            (true, false) => date,
            (true, true) => &[],
        };
        Signature {
            lines,
            has_server: !signed.server,
            has_date: !signed.date,
        }
    }

    #[inline]
    fn refresh(&mut self) {
        // The coarse clock is good to a few milliseconds, which a field of whole seconds never shows.
        let second = clock_gettime(ClockId::RealtimeCoarse).tv_sec as u64;
        if second != self.second {
            self.second = second;
            self.opening = None;
            let now = UNIX_EPOCH + std::time::Duration::from_secs(second);
            let date = httpdate::fmt_http_date(now.max(SystemTime::UNIX_EPOCH));
            self.lines.truncate(self.server_len);
            for part in ["Date: ", &date, "\r\n"] {
                self.lines.extend_from_slice(part.as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tricorn_proto::response::{HeadEncoder, ResponseContext};

    use super::*;

    #[test]
    fn a_stamp_leaves_out_what_the_application_says_itself() {
        let mut stamp = Stamp::new(b"us");
        for (server, date) in [(false, false), (true, false), (false, true), (true, true)] {
            let signature = stamp.signature(Signed { server, date });
            let lines = String::from_utf8(signature.lines.to_vec()).expect("text");
            assert_eq!(lines.contains("Server: us\r\n"), !server, "{lines}");
            assert_eq!(
                lines.contains("\r\nDate: ") || lines.starts_with("Date: "),
                !date
            );
            assert!(lines.is_empty() || lines.ends_with("\r\n"));
            assert_eq!((signature.has_server, signature.has_date), (!server, !date));
        }
    }

    #[test]
    fn a_head_that_begins_as_one_before_says_what_it_would_say_anyway() {
        let mut stamp = Stamp::new(b"us");
        let context = ResponseContext {
            version: (1, 1),
            is_head: false,
            is_connect: false,
            keep_alive: true,
        };
        for text in ["200 OK", "200 OK", "404 Not Found", "200", "200 OK"] {
            let (mut again, mut afresh) = (Vec::new(), Vec::new());
            let status = Status::parse(text.as_bytes()).expect("a status");
            // Until both are of one second.
            while again != afresh || again.is_empty() {
                (again, afresh) = (Vec::new(), Vec::new());
                let opening = stamp.opening(text.as_bytes()).expect("a status");
                let encoder = HeadEncoder::begin_again(&mut again, &context, opening);
                let signature = stamp.signature(Signed::default());
                let other = HeadEncoder::begin(&mut afresh, &context, status, &signature);
                assert_eq!(format!("{encoder:?}"), format!("{other:?}"));
                assert_eq!(again.len(), afresh.len());
            }
            assert!(stamp.opening(b"OK").is_err());
        }
    }
}
