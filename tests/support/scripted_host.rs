//! A scripted mirror that hosts packages: it records requests and gives the answers that a test has put in.

#![allow(dead_code, unreachable_pub)]

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

/// A running scripted mirror. Dropping it ends it.
pub struct ScriptedHost {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    run: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    answers: Mutex<VecDeque<ScriptedAnswer>>,
    requests: Mutex<Vec<HostRequest>>,
}

/// An answer, for the next request.
struct ScriptedAnswer {
    status: u16,
    json: Value,
    /// Whether the whole body is read before.
    reads_body: bool,
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct HostRequest {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    /// `None` where the answer did not wait for the body.
    pub body: Option<Bytes>,
}

impl HostRequest {
    /// A header field as text; empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().expect("text")).unwrap_or_default()
    }
}

impl ScriptedHost {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::default());
        let of_task = shared.clone();
        let run = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = of_task.clone();
                let service = service_fn(move |request| answer(shared.clone(), request));
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, shared, run }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next answer, given once the whole body was read.
    pub fn answer(&self, status: u16, json: Value) {
        self.push(ScriptedAnswer { status, json, reads_body: true });
    }

    /// The next answer, given before the body is read.
    pub fn answer_early(&self, status: u16, json: Value) {
        self.push(ScriptedAnswer { status, json, reads_body: false });
    }

    fn push(&self, answer: ScriptedAnswer) {
        self.shared.answers.lock().expect("no panic").push_back(answer);
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<HostRequest> {
        self.shared.requests.lock().expect("no panic").clone()
    }
}

impl Drop for ScriptedHost {
    fn drop(&mut self) {
        self.run.abort();
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let next = shared.answers.lock().expect("no panic").pop_front();
    let ScriptedAnswer { status, json, reads_body } = next.expect("an answer for each request");
    let (head, body) = request.into_parts();
    let body = if reads_body { Some(body.collect().await.expect("a whole body").to_bytes()) } else { None };
    let path = head.uri.path().to_owned();
    let request = HostRequest { method: head.method, path, headers: head.headers, body };
    shared.requests.lock().expect("no panic").push(request);
    let response = Response::builder().status(status).header("content-type", "application/json");
    Ok(response.body(Full::new(json.to_string().into())).expect("a response"))
}
