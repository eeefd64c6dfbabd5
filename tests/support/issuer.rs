//! A scripted OpenID Connect provider on loopback: a description, a key set, and tokens of any shape.
#![allow(dead_code, unreachable_pub)]

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

/// Keys that tests share: to make one takes a part of a second.
static KEYS: LazyLock<[RsaKeyPair; 2]> =
    LazyLock::new(|| [0, 1].map(|_| RsaKeyPair::generate(KeySize::Rsa2048).expect("a key")));

/// One of the two keys of the provider, by its `kid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SigningKey {
    First,
    Second,
}

/// What the provider answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answers {
    /// Its description, and these keys.
    Keys(Vec<SigningKey>),
    /// The status, for every request.
    Status(u16),
    /// A redirect to its keys in place of these.
    Redirect,
    /// A key set that is longer than 1 MiB.
    Endless,
}

/// A running provider. Dropping it ends it.
pub struct Provider {
    address: SocketAddr,
    answers: Arc<Mutex<Answers>>,
    requests: Arc<AtomicUsize>,
    run: JoinHandle<()>,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.run.abort();
    }
}

impl SigningKey {
    pub fn id(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
        }
    }

    fn pair(self) -> &'static RsaKeyPair {
        &KEYS[self as usize]
    }

    fn jwk(self) -> Value {
        let public = self.pair().public_key();
        let number = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        json!({
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.id(),
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        })
    }

    /// The public key as PEM: what an attacker knows.
    pub fn public_pem(self) -> String {
        let der: PublicKeyX509Der<'_> = self.pair().public_key().as_der().expect("a key");
        let text = STANDARD.encode(der.as_ref());
        let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    /// A token by RS256.
    pub fn sign(self, claims: &Value) -> String {
        let message = message(&json!({"alg": "RS256", "typ": "JWT", "kid": self.id()}), claims);
        let mut signature = vec![0; self.pair().public_modulus_len()];
        self.pair().sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).expect("signs");
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// Header and claims of a token.
fn message(header: &Value, claims: &Value) -> String {
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    format!("{}.{}", encode(header), encode(claims))
}

/// A token without a signature.
pub fn unsigned(claims: &Value) -> String {
    format!("{}.", message(&json!({"alg": "none", "kid": "first"}), claims))
}

/// A token by HS256 with a text as the secret.
pub fn signed_with_secret(claims: &Value, secret: &str) -> String {
    let message = message(&json!({"alg": "HS256", "kid": "first"}), claims);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
}

impl Provider {
    /// Starts a provider with its first key.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::new(Mutex::new(Answers::Keys(vec![SigningKey::First])));
        let requests = Arc::new(AtomicUsize::default());
        let run = {
            let answers = answers.clone();
            let requests = requests.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let answers = answers.clone();
                    let requests = requests.clone();
                    let service = service_fn(move |request: Request<Incoming>| {
                        requests.fetch_add(1, Ordering::SeqCst);
                        let response = answer(&answers.lock().expect("no panic"), address, request.uri().path());
                        async move { Ok::<_, Infallible>(response) }
                    });
                    tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
                }
            })
        };
        Self { address, answers, requests, run }
    }

    /// Its issuer.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, answers: Answers) {
        *self.answers.lock().expect("no panic") = answers;
    }

    /// How many requests it has had.
    pub fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn answer(answers: &Answers, address: SocketAddr, path: &str) -> Response<Full<Bytes>> {
    let response = |status: u16, body: String| {
        Response::builder().status(status).header("location", "/keys").body(Full::from(body)).expect("a response")
    };
    let keys = |keys: &[SigningKey]| {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        json!({ "keys": keys }).to_string()
    };
    match (answers, path) {
        (Answers::Status(status), _) => response(*status, String::new()),
        (_, "/.well-known/openid-configuration") => {
            let document = json!({"issuer": format!("http://{address}"), "jwks_uri": format!("http://{address}/jwks")});
            response(200, document.to_string())
        }
        (Answers::Redirect, "/jwks") => response(302, String::new()),
        (Answers::Redirect, _) => response(200, keys(&[SigningKey::First])),
        (Answers::Endless, _) => response(200, format!("{}{}", " ".repeat(1 << 20), keys(&[SigningKey::First]))),
        (Answers::Keys(published), "/jwks") => response(200, keys(published)),
        (Answers::Keys(_), _) => response(404, String::new()),
    }
}
