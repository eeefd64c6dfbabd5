//! Sizes and times in a form for people: on pages, in a terminal, and in the access log that a terminal shows.

use std::fmt;

use jiff::Timestamp;

/// Bytes in the largest unit that fits.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A point in time: how long ago it is, and exactly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    at: Timestamp,
    now: Timestamp,
}

impl Moment {
    pub(crate) fn new(at: Timestamp, now: Timestamp) -> Self {
        Self { at, now }
    }

    /// As RFC 3339 writes it, to the second.
    pub(crate) fn exact(&self) -> String {
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
    fn sizes_have_one_decimal_and_their_largest_unit() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (201_535, "196.8 KiB"), (5 << 30, "5.0 GiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn a_moment_is_told_by_its_age_in_the_largest_unit() {
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
