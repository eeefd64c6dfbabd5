//! In every state of the mirror `/readyz`, `/metrics`, `srm-mirror status` and the page say the same.

use std::{fs, time::Duration};

use serde_json::{Value, json};
use srm_mirror::{
    upstream::CredentialSource,
    value::{Period, Secret},
};
use tempfile::TempDir;

use crate::{
    forge::{Fault, Forge, Match},
    mirror::{Mirror, Setup, setup},
    tls::{ending_in, with_tls},
    web::page,
};

const LIST: &str = "/devsapp/fc3/releases";

#[derive(Clone, Copy, Debug)]
enum State {
    Healthy,
    ForgeHung,
    QuotaGone,
    TokenRefused,
    DiskFull,
    CertificateNearItsEnd,
    Draining,
    DrainingWithAFault,
}

/// What each of the four must say.
struct Expected {
    status: &'static str,
    code: u16,
    /// What the mirror's state is called on the page.
    sentence: &'static str,
    /// What every reason begins with.
    reasons: &'static [&'static str],
    /// A sample of the metrics that shows the cause.
    sample: &'static str,
}

impl State {
    fn expected(self) -> Expected {
        let degraded = |reasons, sample| Expected {
            status: "degraded",
            code: 200,
            sentence: if matches!(self, Self::DiskFull | Self::CertificateNearItsEnd) {
                "This mirror needs its operator"
            } else {
                "This mirror works, but "
            },
            reasons,
            sample,
        };
        let draining = |reasons| Expected {
            status: "draining",
            code: 503,
            sentence: "This mirror is shutting down",
            reasons,
            sample: "srm_mirror_ready 0",
        };
        match self {
            Self::Healthy => Expected {
                status: "ready",
                code: 200,
                sentence: "Everything works.",
                reasons: &[],
                sample: "srm_mirror_ready 1",
            },
            Self::ForgeHung => {
                degraded(&["github does not answer"], "srm_mirror_upstream_breaker_open{upstream=\"github\"} 1")
            }
            Self::QuotaGone => degraded(
                &["github limits the mirror's requests"],
                "srm_mirror_quota_remaining{upstream=\"github\",credential=\"GITHUB_TOKEN_1\"} 0",
            ),
            Self::TokenRefused => degraded(
                &["github refuses the credential GITHUB_TOKEN_1"],
                "srm_mirror_credential_refused{upstream=\"github\",credential=\"GITHUB_TOKEN_1\"} 1",
            ),
            Self::DiskFull => degraded(&[""], "srm_mirror_ready 1"),
            Self::CertificateNearItsEnd => degraded(
                &["the certificate CN=mirror.example ends in 5 days"],
                "srm_mirror_certificate_expiry_timestamp_seconds{certificate=\"CN=mirror.example\"}",
            ),
            Self::Draining => draining(&[]),
            Self::DrainingWithAFault => draining(&["the certificate CN=mirror.example ends in 5 days"]),
        }
    }

    /// A mirror in this state. Nothing waits for time to pass.
    async fn reach(self) -> (Forge, Mirror, TempDir) {
        let forge = Forge::start().await;
        forge.repo("devsapp/fc3").release("v1.0.0", |r| r);
        forge.accept_token("T0KEN");
        let dir = tempfile::tempdir().expect("a directory");
        let plain = || setup(&forge).with(|config| config.server.drain_delay = Period::secs(3600));
        let started = async |setup: Setup| {
            let mirror = setup.start().await;
            assert_eq!(mirror.get(LIST).await.status, 200);
            mirror
        };
        let mirror = match self {
            Self::Healthy => started(plain()).await,
            Self::ForgeHung => {
                let hurried = |upstream: &mut srm_mirror::upstream::Config| {
                    upstream.response_timeout = Period(Duration::from_millis(50));
                };
                let mirror = started(plain().with(|config| config.upstreams.values_mut().for_each(hurried))).await;
                forge.fault(Match::any(), Fault::HeadStall).always();
                for n in 0..5 {
                    assert_eq!(mirror.get(&format!("/devsapp/none{n}/releases")).await.status, 504);
                }
                mirror
            }
            Self::QuotaGone => {
                forge.rate_limits(10, 3);
                forge.rate_reset_in(1200);
                let mirror = plain().token("github", "T0KEN").start().await;
                for n in 0..9 {
                    mirror.get(&format!("/devsapp/none{n}/releases")).await;
                }
                mirror
            }
            Self::TokenRefused => {
                let bad = CredentialSource::of_token("GITHUB_TOKEN_1", &Secret::new("N0TVALID")).expect("a token");
                started(plain().credential("github", bad)).await
            }
            Self::DiskFull => {
                let mirror = started(plain()).await;
                // As on a full disk, no file can be made.
                fs::remove_dir_all(mirror.dir().join("spool")).expect("the spool folder");
                fs::write(mirror.dir().join("spool"), "not a folder").expect("a file in its place");
                assert_eq!(mirror.get("/devsapp/fc3/zipball/v1.0.0").await.status, 200);
                mirror
            }
            Self::CertificateNearItsEnd => started(with_tls(plain(), vec![ending_in(dir.path(), 6)])).await,
            Self::Draining | Self::DrainingWithAFault => {
                let certificates = match self {
                    Self::DrainingWithAFault => vec![ending_in(dir.path(), 6)],
                    _ => Vec::new(),
                };
                let setup = if certificates.is_empty() { plain() } else { with_tls(plain(), certificates) };
                let mirror = started(setup).await;
                mirror.drain();
                crate::eventually::eventually("the drain has begun", async || {
                    mirror.get("/readyz").await.status == 503
                })
                .await;
                mirror
            }
        };
        (forge, mirror, dir)
    }
}

/// A text without its numbers: periods get shorter from one answer to the next.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().cloned().unwrap_or_default();
    texts.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn readyz_metrics_status_and_page_agree_in_every_state() {
    for state in [
        State::Healthy,
        State::ForgeHung,
        State::QuotaGone,
        State::TokenRefused,
        State::DiskFull,
        State::CertificateNearItsEnd,
        State::Draining,
        State::DrainingWithAFault,
    ] {
        let Expected { status, code, sentence, reasons, sample } = state.expected();
        let (_forge, mirror, _dir) = state.reach().await;

        let ready = mirror.get("/readyz").await;
        assert_eq!((ready.status, &ready.json()["status"]), (code, &json!(status)), "{state:?}: {ready:?}");
        let said = texts(&ready.json()["reasons"]);
        assert_eq!(said.len(), reasons.len(), "{state:?}: {said:?}");
        for (said, begins) in said.iter().zip(reasons) {
            assert!(said.starts_with(begins), "{state:?}: {said}");
        }

        let report = mirror.admin(mirror.dir(), "status", json!({})).await.remove(0);
        assert_eq!(report["state"], json!(status), "{state:?}: {report}");
        let reported: Vec<String> = texts(&report["reasons"]).iter().map(|text| without_numbers(text)).collect();
        assert_eq!(reported, said.iter().map(|text| without_numbers(text)).collect::<Vec<_>>(), "{state:?}");

        let text = String::from_utf8(mirror.get("/metrics").await.body.to_vec()).expect("text");
        let is_ready = format!("srm_mirror_ready {}", u8::from(code == 200));
        let number = format!("srm_mirror_degraded_reasons {}", reasons.len());
        for sample in [sample, &is_ready, &number] {
            assert!(text.lines().any(|line| line.starts_with(sample)), "{state:?}: {sample} is not in\n{text}");
        }

        let shown = page(&mirror, "/-/health").await;
        let plain = without_numbers(&shown.replace("&#39;", "'"));
        assert!(plain.contains(sentence), "{state:?}: {shown}");
        for reason in &said {
            assert!(plain.contains(&without_numbers(reason)), "{state:?}: {reason} is not in\n{shown}");
        }
        let github = report["upstreams"].as_array().expect("rows").iter().find(|row| row["name"] == "github");
        let is_paused = !github.expect("a row")["pause"].is_null();
        assert_eq!(is_paused, matches!(state, State::ForgeHung | State::QuotaGone), "{state:?}: {report}");
    }
}
