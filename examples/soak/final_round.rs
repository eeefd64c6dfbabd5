//! The last check: undisturbed, every package answers, and every zip is the forge's.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    content::Content,
    line::{Line, Protocol, receive},
};

/// Longest time until a path answers: failures are remembered for a second, and hosts pause.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Asks for every list, zip and view. Returns what did not answer, or wrongly.
pub(crate) async fn ask_all(address: SocketAddr, content: &Content) -> Vec<String> {
    let mut missing = Vec::new();
    for package in &content.packages {
        for path in &package.lists {
            missing.extend(ask(address, path, |_| true).await);
        }
        for version in &package.versions {
            let path = format!("{}{}", package.zips, version.tag);
            missing.extend(ask(address, &path, |body| version.any_zip(|zip| zip == body)).await);
            if let Some(flats) = &package.flats {
                let path = format!("{flats}{}", version.tag);
                missing.extend(ask(address, &path, |body| version.accepts_flat(body)).await);
            }
        }
    }
    missing
}

/// Asks until the answer is 200; what is wrong otherwise.
async fn ask(address: SocketAddr, path: &str, is_right: impl Fn(&Bytes) -> bool) -> Option<String> {
    let until = Instant::now() + ANSWER_TIMEOUT;
    loop {
        let answer = async {
            let mut line = Line::open(address, Protocol::Http1, None).await.ok()?;
            let answer = line.ask("GET", path, &[]).await.ok()?;
            let status = answer.status().as_u16();
            Some((status, receive(answer.into_body(), Duration::ZERO).await.ok()?))
        };
        let status = match answer.await {
            Some((200, body)) if is_right(&body) => return None,
            Some((200, body)) => return Some(format!("wrong at the end: {path}, {} bytes", body.len())),
            Some((status, _)) => Some(status),
            None => None,
        };
        if Instant::now() > until {
            return Some(format!("no answer at the end: {path}, status {status:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
