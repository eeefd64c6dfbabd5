//! Asks an upstream what a credential may do.

use http::{HeaderMap, Method, StatusCode};
use jiff::{Timestamp, fmt::strtime};
use serde_json::Value;

use super::{
    CredentialPool,
    app::GithubApp,
    credential::{Credential, CredentialForm},
    exchange::ExchangeAnswer,
    profile::Introspection,
    refusal::RefusalScope,
    status::{CredentialGrant, CredentialOutcome, CredentialReport, GrantedQuota, InstallationGrant},
};
use crate::{origin::FetchError, upstream::error_class::number};

/// Longest name that is copied from an answer into a report, in bytes.
const MAX_REPORTED_NAME_BYTES: usize = 60;
/// Most scopes, installations, and permissions of one, in a report.
const MAX_REPORTED_ITEMS: usize = 20;

impl CredentialPool {
    /// Asks what every credential may do, one after the other. Each request has a deadline. One that is refused for all
    /// owners is out of use from then on.
    pub(in crate::upstream) async fn report(&self) -> Vec<CredentialReport> {
        let mut reports = Vec::new();
        for credential in self.credentials() {
            let mut outcome = self.introspect(&credential).await;
            if self.profile.confirm && matches!(outcome, Ok(CredentialOutcome::Refused(_))) {
                outcome = self.introspect(&credential).await;
            }
            if let Ok(CredentialOutcome::Refused(reason)) = outcome
                && reason.scope() == RefusalScope::AllOwners
            {
                credential.note_refused(&self.exchange.upstream, None, reason, StatusCode::UNAUTHORIZED.as_u16());
            }
            let outcome = outcome.unwrap_or_else(CredentialOutcome::Unanswered);
            reports.push(CredentialReport { label: credential.label.clone(), outcome });
        }
        reports
    }

    async fn introspect(&self, credential: &Credential) -> Result<CredentialOutcome, FetchError> {
        let (auth, segment) = match (&credential.form, self.profile.introspection) {
            (_, Introspection::Nowhere) => return Ok(CredentialOutcome::NotCheckable),
            (CredentialForm::App(app), _) => return self.introspect_app(app).await,
            (CredentialForm::Secret { auth, .. }, Introspection::Github) => (auth, "rate_limit"),
            (CredentialForm::Secret { auth, .. }, Introspection::Gitee) => (auth, "user"),
        };
        let authenticate = |headers: &mut HeaderMap| auth.add_to(headers);
        let answer = self.exchange.send(Method::GET, self.exchange.urls.api([segment]), authenticate).await?;
        if let Some(reason) = answer.as_error(self.profile.refusal) {
            return Ok(CredentialOutcome::Refused(reason));
        }
        // A GitHub Enterprise Server without rate limits answers 404; it has accepted the token.
        let accepted = answer.status.is_success() || answer.status == StatusCode::NOT_FOUND;
        if !accepted {
            return Err(FetchError::Status(answer.status.as_u16()));
        }
        Ok(CredentialOutcome::Accepted(CredentialGrant {
            account: answer.json().ok().as_ref().and_then(|json| json.get("login")).and_then(name),
            scopes: scopes(&answer.headers),
            expires: expiration(&answer.headers),
            quota: quota(&answer.headers),
            installations: None,
        }))
    }

    async fn introspect_app(&self, app: &GithubApp) -> Result<CredentialOutcome, FetchError> {
        let answer = app.send(&self.exchange, Method::GET, self.exchange.urls.api(["app"])).await?;
        if let Some(refused) = self.refused(&answer)? {
            return Ok(refused);
        }
        let account = answer.json()?.get("slug").and_then(name);
        let mut url = self.exchange.urls.api(["app", "installations"]);
        url.query_pairs_mut().append_pair("per_page", "100");
        let answer = app.send(&self.exchange, Method::GET, url).await?;
        if let Some(refused) = self.refused(&answer)? {
            return Ok(refused);
        }
        let installations = answer.json()?;
        let installations = installations.as_array().map(Vec::as_slice).unwrap_or_default();
        let installations = installations.iter().take(MAX_REPORTED_ITEMS).filter_map(installation).collect();
        Ok(CredentialOutcome::Accepted(CredentialGrant {
            account,
            installations: Some(installations),
            ..CredentialGrant::default()
        }))
    }

    fn refused(&self, answer: &ExchangeAnswer) -> Result<Option<CredentialOutcome>, FetchError> {
        match answer.as_error(self.profile.refusal) {
            Some(reason) => Ok(Some(CredentialOutcome::Refused(reason))),
            None if answer.status.is_success() => Ok(None),
            None => Err(FetchError::Status(answer.status.as_u16())),
        }
    }
}

fn installation(json: &Value) -> Option<InstallationGrant> {
    let account = json.pointer("/account/login").and_then(name)?;
    let permissions = json.get("permissions").and_then(Value::as_object);
    let permission = |(what, access): (&String, &Value)| Some(format!("{}: {}", word(what)?, name(access)?));
    let permissions = permissions.into_iter().flatten().take(MAX_REPORTED_ITEMS).filter_map(permission).collect();
    Some(InstallationGrant { account, permissions })
}

/// A name from an answer that a report may repeat; `None` for one with other characters than those of names, which could
/// control a terminal.
fn word(text: &str) -> Option<String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':' | '.' | '[' | ']');
    let valid = !text.is_empty() && text.len() <= MAX_REPORTED_NAME_BYTES && text.chars().all(allowed);
    valid.then(|| text.to_owned())
}

fn name(json: &Value) -> Option<String> {
    json.as_str().and_then(word)
}

/// The scopes of a classic token. Other kinds come without the header.
fn scopes(headers: &HeaderMap) -> Option<Vec<String>> {
    let text = headers.get("x-oauth-scopes")?.to_str().ok()?;
    Some(text.split(',').filter_map(|scope| word(scope.trim())).take(MAX_REPORTED_ITEMS).collect())
}

/// GitHub writes `2026-08-01 10:00:00 UTC`, or an offset in place of the name.
fn expiration(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get("github-authentication-token-expiration")?.to_str().ok()?;
    let text = text.trim().strip_suffix("UTC").map_or_else(|| text.trim().to_owned(), |time| format!("{time}+0000"));
    strtime::parse("%Y-%m-%d %H:%M:%S %z", &text).ok()?.to_timestamp().ok()
}

fn quota(headers: &HeaderMap) -> Option<GrantedQuota> {
    let remaining = number(headers, "x-ratelimit-remaining")?;
    Some(GrantedQuota { remaining, limit: number(headers, "x-ratelimit-limit")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (n.parse().expect("a name"), v.parse().expect("a value"))).collect()
    }

    #[test]
    fn the_end_of_a_token_is_read_with_a_zone_name_or_an_offset() {
        for (text, want) in [
            ("2026-08-01 10:00:00 UTC", Some("2026-08-01T10:00:00Z")),
            ("2026-08-01 10:00:00 +0200", Some("2026-08-01T08:00:00Z")),
            ("2026-08-01 10:00:00 -0700", Some("2026-08-01T17:00:00Z")),
            ("soon", None),
        ] {
            let got = expiration(&headers(&[("github-authentication-token-expiration", text)]));
            assert_eq!(got, want.map(|want| want.parse().expect("a time")), "{text}");
        }
    }

    #[test]
    fn only_plain_words_of_the_upstream_are_repeated() {
        assert_eq!(
            scopes(&headers(&[("x-oauth-scopes", "repo, read:org")])),
            Some(vec!["repo".into(), "read:org".into()])
        );
        assert_eq!(scopes(&headers(&[("x-oauth-scopes", "")])), Some(vec![]));
        assert_eq!(scopes(&headers(&[])), None);
        assert_eq!(word("\u{1b}[2J"), None);
        assert_eq!(word(&"a".repeat(MAX_REPORTED_NAME_BYTES + 1)), None);
        let json =
            serde_json::json!({"account": {"login": "acme"}, "permissions": {"contents": "read", "a b": "read"}});
        let got = installation(&json).expect("an installation");
        assert_eq!((got.account.as_str(), got.permissions), ("acme", vec!["contents: read".to_owned()]));
    }
}
