//! Typed values of the configuration: sizes, periods, secrets, base URLs and networks.
//!
//! All types but [`Secret`] parse with `FromStr` and (de)serialise as the same text, so that the configuration file, a
//! variable and a flag accept the same notation.

use std::{fmt, net::IpAddr, str::FromStr, time::Duration};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use url::Url;

pub(crate) mod bounded_cache;
pub(crate) mod io_reason;
pub mod memory_budget;
pub mod memory_weight;
pub(crate) mod rate_floor;
pub(crate) mod text;

/// A number of bytes. The text has a binary (`KiB`, `MiB`, `GiB`, `TiB`) or decimal (`kB`, `MB`, `GB`, `TB`) unit,
/// in any case, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// A length of time: `250ms`, `60s`, `5m`, `1h`, `7d` or `forever`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period(pub Duration);

/// A secret text. It prints as `***`; only [`Secret::reveal`] returns the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// An absolute `http` or `https` URL without query, fragment, user or trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BaseUrl(Url);

/// An IP network or a single IP address: `127.0.0.1`, `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpNet);

/// Why a text cannot be parsed. Prints the reason with the example; deserialisation reports the reason alone, because the
/// configuration has a better example: that of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}{}", example.map(|example| format!(", for example {example}")).unwrap_or_default())]
pub struct ValueError {
    /// What is wrong: one clause.
    pub reason: &'static str,
    /// A valid text, in quotes; `None` where it depends on what the value is for.
    pub example: Option<&'static str>,
}

/// Units of [`ByteSize`] with their number of bytes, the largest first.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

impl ByteSize {
    /// `n` mebibytes.
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// `n` gibibytes.
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let reason = "not a size; write a whole number with a unit";
        let invalid = || ValueError { reason, example: Some("\"50GiB\"") };
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| invalid())?;
        let unit = text[digits..].trim();
        let scale = match unit {
            "" => 1,
            _ => SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(invalid)?.1,
        };
        number.checked_mul(scale).map(Self).ok_or_else(invalid)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS.iter().find(|(_, scale)| self.0 >= *scale && self.0.is_multiple_of(*scale));
        let (unit, scale) = exact.unwrap_or(&("B", 1));
        write!(f, "{}{unit}", self.0 / scale)
    }
}

impl Period {
    /// A period that never ends.
    pub const FOREVER: Self = Self(Duration::MAX);

    /// `n` seconds.
    pub const fn secs(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }

    /// `n` minutes.
    pub const fn mins(n: u64) -> Self {
        Self(Duration::from_secs(n * 60))
    }

    /// True for [`Period::FOREVER`].
    pub fn is_forever(self) -> bool {
        self == Self::FOREVER
    }
}

impl FromStr for Period {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let reason = "not a period; write a whole number with ms, s, m, h or d";
        let invalid = || ValueError { reason, example: Some("\"5m\"") };
        let text = text.trim();
        if text == "forever" {
            return Ok(Self::FOREVER);
        }
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| invalid())?;
        let seconds = match text[digits..].trim() {
            "ms" => return Ok(Self(Duration::from_millis(number))),
            "s" => Some(number),
            "m" => number.checked_mul(60),
            "h" => number.checked_mul(3600),
            "d" => number.checked_mul(86_400),
            _ => None,
        };
        seconds.map(Self::secs).ok_or_else(invalid)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_forever() {
            return f.write_str("forever");
        }
        let seconds = self.0.as_secs();
        if self.0.subsec_millis() != 0 {
            return write!(f, "{}ms", self.0.as_millis());
        }
        match seconds {
            0 => f.write_str("0s"),
            s if s % 86_400 == 0 => write!(f, "{}d", s / 86_400),
            s if s % 3600 == 0 => write!(f, "{}h", s / 3600),
            s if s % 60 == 0 => write!(f, "{}m", s / 60),
            s => write!(f, "{s}s"),
        }
    }
}

impl Secret {
    /// Wraps a text without the white space at its ends: token files end in a newline.
    pub fn new(text: &str) -> Self {
        Self(text.trim().to_owned())
    }

    /// The text, to be sent to the host that the secret is for.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl BaseUrl {
    /// The URL; its path has no trailing slash unless it is the root.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The URL as text, without a trailing slash.
    pub fn as_str(&self) -> &str {
        self.0.as_str().trim_end_matches('/')
    }

    /// Scheme, host and port: the origin that a token is limited to ([RFC 6454]).
    ///
    /// [RFC 6454]: https://www.rfc-editor.org/rfc/rfc6454
    pub fn origin(&self) -> url::Origin {
        self.0.origin()
    }

    /// The host, in lower case.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl FromStr for BaseUrl {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let invalid = |reason| ValueError { reason, example: None };
        let mut url = Url::parse(text.trim()).map_err(|_| invalid("not an absolute URL"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("the scheme must be http or https"));
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(invalid("the host is missing"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("the URL must not have a user or password"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("the URL must not have a query or fragment"));
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Network {
    /// True when the network has the address; an IPv4-mapped IPv6 address counts as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let single = text.parse::<IpAddr>().map(IpNet::from);
        let invalid = ValueError { reason: "not an IP address or network", example: Some("\"10.0.0.0/8\"") };
        single.or_else(|_| text.parse()).map(Self).map_err(|_| invalid)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() { self.0.addr().fmt(f) } else { self.0.fmt(f) }
    }
}

/// Serialises the types through `Display` and deserialises them through `FromStr`, with [`ValueError::reason`] as the error.
macro_rules! serde_as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(|error: ValueError| de::Error::custom(error.reason))
            }
        }
    )*};
}

serde_as_text!(ByteSize, Period, BaseUrl, Network);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_parses_and_prints_with_its_largest_exact_unit() {
        for (text, bytes) in [("50GiB", 50 << 30), ("1024", 1024), ("10 mb", 10_000_000), ("1KiB", 1024), ("0", 0)] {
            let size: ByteSize = text.parse().expect(text);
            assert_eq!(size.0, bytes, "{text}");
            assert_eq!(size.to_string().parse::<ByteSize>(), Ok(size));
        }
        assert_eq!(ByteSize::gib(50).to_string(), "50GiB");
    }

    #[test]
    fn a_network_contains_its_addresses_and_a_single_address_itself() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            ("fd00::/8", "fd12::1", "fe80::1"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::10.0.0.1"),
        ] {
            let network: Network = text.parse().expect(text);
            assert_eq!(network.to_string(), text);
            assert!(network.contains(inside.parse().expect("an address")), "{text}");
            assert!(!network.contains(outside.parse().expect("an address")), "{text}");
        }
        for text in ["", "localhost", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0-10.0.0.9"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_invalid_size_or_period_is_refused_with_an_example() {
        for text in ["", "GiB", "1.5GiB", "-1", "5 parsecs", "99999999999TiB"] {
            assert!(text.parse::<ByteSize>().expect_err(text).to_string().ends_with("for example \"50GiB\""));
        }
        for text in ["", "5", "m", "-1s", "5y", "99999999999999999d"] {
            assert!(text.parse::<Period>().expect_err(text).to_string().ends_with("for example \"5m\""));
        }
    }

    #[test]
    fn a_period_prints_as_it_was_written() {
        for text in ["250ms", "59s", "5m", "2h", "7d", "0s", "forever"] {
            assert_eq!(text.parse::<Period>().expect(text).to_string(), text);
        }
    }

    #[test]
    fn a_secret_prints_as_asterisks() {
        let secret = Secret::new(" ghp_x \n");
        assert_eq!(format!("{secret} {secret:?}"), "*** ***");
        assert_eq!(secret.reveal(), "ghp_x");
    }

    #[test]
    fn a_base_url_loses_its_trailing_slash_and_nothing_else() {
        let base: BaseUrl = "https://gitee.com/api/v5/".parse().expect("valid");
        assert_eq!(base.as_str(), "https://gitee.com/api/v5");
        assert_eq!("http://[::1]:8080".parse::<BaseUrl>().expect("valid").to_string(), "http://[::1]:8080");
        for text in ["gitee.com", "ftp://x/", "https://u:p@h", "https://h/?q", "https://h/#f"] {
            assert!(text.parse::<BaseUrl>().is_err(), "{text}");
        }
    }
}
