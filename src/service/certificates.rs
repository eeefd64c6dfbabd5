//! The mirror's own certificates that end soon: a reason to be degraded, before clients see it.

use jiff::{SignedDuration, Timestamp};

use crate::peer::OwnCertificates;

/// How long before its end a certificate is a fault.
const WARNING_PERIOD: SignedDuration = SignedDuration::from_hours(14 * 24);

/// One sentence for each certificate that ends within two weeks or has ended, without a full stop.
pub(super) fn faults(certificates: &OwnCertificates, now: Timestamp) -> Vec<String> {
    let fault = |name: &str, not_after: Timestamp| {
        let left = not_after.duration_since(now);
        match left.as_hours() {
            _ if left > WARNING_PERIOD => None,
            _ if left.is_negative() => Some(format!("the certificate {name} has ended on {not_after:.0}")),
            hours @ 0..48 => Some(format!("the certificate {name} ends in {hours} h ({not_after:.0})")),
            hours => Some(format!("the certificate {name} ends in {} days ({not_after:.0})", hours / 24)),
        }
    };
    let certificates = certificates.get();
    certificates.iter().filter_map(|certificate| fault(&certificate.name, certificate.not_after?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::CertificateEnd;

    #[test]
    fn a_certificate_is_a_fault_from_two_weeks_before_its_end() {
        let now: Timestamp = "2026-01-02T12:00:00Z".parse().expect("a time");
        for (hours, expected) in [
            (15 * 24, None),
            (13 * 24, Some("the certificate CN=m ends in 13 days (2026-01-15T12:00:00Z)")),
            (5, Some("the certificate CN=m ends in 5 h (2026-01-02T17:00:00Z)")),
            (-1, Some("the certificate CN=m has ended on 2026-01-02T11:00:00Z")),
        ] {
            let certificates = OwnCertificates::default();
            let not_after = Some(now + SignedDuration::from_hours(hours));
            certificates.to_clients.set(vec![
                CertificateEnd { name: "CN=m".into(), not_after },
                CertificateEnd { name: "number 2".into(), not_after: None },
            ]);
            let faults = faults(&certificates, now);
            assert_eq!(faults.first().map(String::as_str), expected);
            assert!(faults.len() < 2);
        }
    }
}
