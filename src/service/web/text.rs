//! Sizes, times and counts as the pages write them.

use std::fmt;

use jiff::Timestamp;

/// Bytes in the largest unit that fits.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A count with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// `1 zip`, `2 zips`.
pub(super) fn counted(number: u64, one: &str, several: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { several })
}

/// A point in time: how long ago it is, and exactly.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    at: Timestamp,
    now: Timestamp,
}

impl Moment {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now }
    }

    /// As RFC 3339 writes it, to the second.
    pub(super) fn exact(&self) -> String {
        format!("{:.0}", self.at)
    }
}

/// `3 min ago`, in the largest unit that fits.
impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 86_400;
        let seconds = self.now.duration_since(self.at).as_secs();
        match seconds.max(0) {
            0..5 => f.write_str("just now"),
            seconds @ 5..60 => write!(f, "{seconds} s ago"),
            seconds @ 60..3600 => write!(f, "{} min ago", seconds / 60),
            seconds @ 3600..DAY => write!(f, "{} h ago", seconds / 3600),
            seconds => write!(f, "{}", Days(seconds / DAY)),
        }
    }
}

struct Days(i64);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("1 day ago"),
            days @ 2..60 => write!(f, "{days} days ago"),
            days @ 60..730 => write!(f, "{} months ago", days / 30),
            days => write!(f, "{} years ago", days / 365),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_times_and_counts_are_short() {
        assert_eq!((size(1023), size(1536)), ("1023 B".into(), "1.5 KiB".into()));
        assert_eq!(count(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!((counted(1, "zip", "zips"), counted(0, "zip", "zips")), ("1 zip".into(), "0 zips".into()));
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().expect("a time");
        for (seconds, expected) in [
            (-5, "just now"),
            (59, "59 s ago"),
            (7200, "2 h ago"),
            (86_400, "1 day ago"),
            (90 * 86_400, "3 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            let at = now - jiff::SignedDuration::from_secs(seconds);
            assert_eq!(Moment::new(at, now).to_string(), expected);
        }
    }
}
