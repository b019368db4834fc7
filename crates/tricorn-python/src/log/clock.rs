//! Local time in the form of the common log format, worked out once a second.
//!
//! The C library is asked, not a time zone crate, because the application may set the zone of the process
//! (`time.tzset`, as Django does). The only `unsafe` of the access log's pure part is that call.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Caches the text of the current second.
#[derive(Default)]
pub struct Clock {
    second: Option<i64>,
    text: String,
}

impl Clock {
    /// `[23/Nov/2026:16:20:25 +0000]` for now.
    pub fn now(&mut self) -> &[u8] {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let second = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        if self.second != Some(second) {
            self.text = common_log_time(&Local::at(second));
            self.second = Some(second);
        }
        self.text.as_bytes()
    }
}

/// A moment broken down for one zone. Units: `month` from 0, `offset_s` seconds east of UTC.
pub struct Local {
    pub year: i32,
    pub month: usize,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
    pub offset_s: i32,
}

impl Local {
    fn at(second: i64) -> Local {
        // SAFETY: `tm` is plain data for which all zeroes are a value; both pointers are to live locals.
        let tm = unsafe {
            let mut tm: libc::tm = std::mem::zeroed();
            let second: libc::time_t = second;
            libc::localtime_r(&raw const second, &raw mut tm);
            tm
        };
        let small = |value: libc::c_int| u8::try_from(value).unwrap_or(0);
        Local {
            year: tm.tm_year + 1900,
            month: usize::try_from(tm.tm_mon).unwrap_or(0) % 12,
            day: small(tm.tm_mday),
            hour: small(tm.tm_hour),
            minute: small(tm.tm_min),
            second: small(tm.tm_sec),
            offset_s: i32::try_from(tm.tm_gmtoff).unwrap_or(0),
        }
    }
}

/// The moment as `[day/month/year:hour:minute:second zone]`.
pub fn common_log_time(at: &Local) -> String {
    let sign = if at.offset_s < 0 { '-' } else { '+' };
    let minutes = at.offset_s.unsigned_abs() / 60;
    format!(
        "[{:02}/{}/{}:{:02}:{:02}:{:02} {sign}{:02}{:02}]",
        at.day,
        MONTHS[at.month],
        at.year,
        at.hour,
        at.minute,
        at.second,
        minutes / 60,
        minutes % 60
    )
}
