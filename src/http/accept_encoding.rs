//! `Accept-Encoding`: whether a client takes content that is compressed by gzip.

use http::{HeaderMap, header};

/// True when the client takes gzip ([RFC 9110 §12.5.3]): it is listed, or `*` is, with another weight than 0.
///
/// [RFC 9110 §12.5.3]: https://www.rfc-editor.org/rfc/rfc9110#section-12.5.3
pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut by_star = false;
    for line in headers.get_all(header::ACCEPT_ENCODING) {
        for member in line.to_str().unwrap_or_default().split(',') {
            let mut parts = member.split(';').map(str::trim);
            let coding = parts.next().unwrap_or_default();
            let is_taken = parts.all(|parameter| !is_zero_weight(parameter));
            if coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip") {
                // What is listed by name counts more than `*`.
                return is_taken;
            }
            by_star |= coding == "*" && is_taken;
        }
    }
    by_star
}

/// True for `q=0`, `q=0.0` and their like.
fn is_zero_weight(parameter: &str) -> bool {
    let weight = parameter.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    weight.is_some_and(|(_, weight)| weight.trim().parse() == Ok(0.0_f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_taken_where_it_is_listed_with_a_weight_above_zero() {
        for (lines, expected) in [
            (&["gzip"][..], true),
            (&["gzip, deflate, br"], true),
            (&["deflate", "GZIP;q=0.5"], true),
            (&["x-gzip"], true),
            (&["*"], true),
            (&["br;q=1.0, *;q=0.1"], true),
            (&["gzip;q=0"], false),
            (&["gzip; q=0.000, *"], false),
            (&["*;q=0"], false),
            (&["identity"], false),
            (&["gzipped, br"], false),
            (&[""], false),
            (&[], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT_ENCODING, line.parse().expect("a field value"));
            }
            assert_eq!(accepts_gzip(&headers), expected, "{lines:?}");
        }
    }
}
