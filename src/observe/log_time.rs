//! The time of a log event: in full, or on a terminal the time of day.

use std::fmt;

use jiff::Timestamp;
use tracing_subscriber::fmt::{format::Writer, time::FormatTime};

/// How the text log writes times. All are UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogTime {
    /// Date and time with fractions of a second, RFC 3339.
    Full,
    /// Hours, minutes and seconds.
    Short,
}

impl FormatTime for LogTime {
    fn format_time(&self, to: &mut Writer<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(to, "{:.6}", Timestamp::now()),
            Self::Short => to.write_str(&short_time(Timestamp::now())),
        }
    }
}

/// The time of day, such as `15:04:05Z`.
pub(super) fn short_time(now: Timestamp) -> String {
    const DAY: i64 = 24 * 60 * 60;
    let seconds = now.as_second().rem_euclid(DAY);
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
