//! GitHub Apps: their installations, and tokens that end.
//!
//! The signature of an App's statement is not checked here; `tests/clients/app_jwt.py` does that with another library.

use std::{
    collections::HashMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use http::Request;
use serde_json::{Value, json};

use super::{Forge, State, body::Answer, github, paths::Path};

/// The Apps of the forge.
#[derive(Default)]
pub struct Apps {
    /// By App: the owners that it is installed for, in lower case.
    installed: Mutex<HashMap<String, Vec<String>>>,
    lifetime: AtomicU64,
    issued: Mutex<Vec<String>>,
}

impl Forge {
    /// Installs an App for an owner. Its tokens last `lifetime` seconds.
    pub fn install_app(&self, app_id: &str, owner: &str, lifetime: u64) {
        self.state.apps.lifetime.store(lifetime, Ordering::Release);
        let mut installed = self.state.apps.installed.lock().unwrap();
        installed.entry(app_id.to_owned()).or_default().push(owner.to_ascii_lowercase());
    }

    /// Ends every token issued to an App so far: requests with one get 401.
    pub fn end_app_tokens(&self) {
        for token in self.app_tokens() {
            self.revoke_token(&token);
        }
    }

    /// The tokens issued to Apps, oldest first.
    pub fn app_tokens(&self) -> Vec<String> {
        self.state.apps.issued.lock().unwrap().clone()
    }
}

/// The App that a statement names: three parts, an issuer that is known, and times as GitHub demands them.
pub fn caller(state: &State, token: &str) -> Option<String> {
    let [_, claims, _] = token.split('.').collect::<Vec<_>>()[..] else { return None };
    let claims: Value = serde_json::from_slice(&base64url(claims)?).ok()?;
    let time = |name: &str| claims[name].as_i64();
    let now = jiff::Timestamp::now().as_second();
    let in_time = time("iat")? <= now && time("exp")? > now && time("exp")? <= now + 600;
    let app = claims["iss"].as_str()?;
    (in_time && state.apps.installed.lock().unwrap().contains_key(app)).then(|| app.to_owned())
}

/// Responds to a request of an App itself.
pub fn answer(state: &State, request: &Request<()>, app: &str) -> Answer {
    let installed = state.apps.installed.lock().unwrap().get(app).cloned().unwrap_or_default();
    let path = Path::of(request.uri());
    let segments: Vec<&str> = path.segments.iter().map(String::as_str).collect();
    let permissions = json!({"contents": "read", "metadata": "read"});
    let installation = |(index, owner): (usize, &String)| json!({"id": index + 1, "account": {"login": owner}, "permissions": permissions});
    match (request.method().as_str(), &segments[..]) {
        ("GET", ["app"]) => Answer::json(200, &json!({"slug": format!("app-{app}"), "permissions": permissions})),
        ("GET", ["app", "installations"]) => {
            Answer::json(200, &installed.iter().enumerate().map(installation).collect())
        }
        ("GET", ["users", owner, "installation"]) => {
            match installed.iter().enumerate().find(|(_, known)| known.eq_ignore_ascii_case(owner)) {
                Some(found) => Answer::json(200, &installation(found)),
                None => github::error(404, "Not Found", "apps/apps"),
            }
        }
        ("POST", ["app", "installations", id, "access_tokens"])
            if id.parse().is_ok_and(|id: usize| (1..=installed.len()).contains(&id)) =>
        {
            let mut issued = state.apps.issued.lock().unwrap();
            let token = format!("ghs_APPTOKEN{:04}", issued.len() + 1);
            issued.push(token.clone());
            state.tokens.lock().unwrap().insert(token.clone());
            let seconds = i64::try_from(state.apps.lifetime.load(Ordering::Acquire)).unwrap();
            let ends = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + seconds).unwrap();
            Answer::json(201, &json!({"token": token, "expires_at": ends.to_string(), "permissions": permissions}))
        }
        _ => github::error(404, "Not Found", "apps/apps"),
    }
}

/// Base64 without padding, in the alphabet for URLs.
fn base64url(text: &str) -> Option<Vec<u8>> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits: u32 = 0;
    let mut count = 0;
    let mut bytes = Vec::new();
    for letter in text.bytes() {
        bits = bits << 6 | u32::try_from(alphabet.iter().position(|known| *known == letter)?).ok()?;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}
