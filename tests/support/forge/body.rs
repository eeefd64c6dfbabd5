//! Responses, and the transmission of their bodies in pieces, with gates and faults.

use std::{
    io::{self, Write as _},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flate2::{Compression, write::GzEncoder};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue, Response, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody, combinators::UnsyncBoxBody};

use super::{
    fault::{At, Fault, FaultRef, Gate},
    log::Progress,
    pack::{Archive, CHUNK},
    wire::Flushes,
};

pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A response before its body is sent.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub content: Arc<Archive>,
    /// `None` for a chunked body.
    pub with_length: bool,
}

impl Answer {
    pub fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let content = Arc::new(Archive::raw(body.into()));
        let answer = Self { status, headers: HeaderMap::new(), content, with_length: true };
        if content_type.is_empty() { answer } else { answer.header("content-type", content_type) }
    }

    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self::new(status, "application/json; charset=utf-8", value.to_string())
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        let name: HeaderName = name.parse().unwrap();
        self.headers.append(name, HeaderValue::from_str(value).unwrap());
        self
    }

    /// The same response with a JSON body compressed, if the request accepts that.
    pub fn compressed_for(mut self, request: &HeaderMap) -> Self {
        let has = |headers: &HeaderMap, name, text: &str| {
            headers.get(name).is_some_and(|value| String::from_utf8_lossy(value.as_bytes()).contains(text))
        };
        let is_plain_json = has(&self.headers, header::CONTENT_TYPE, "json")
            && !self.headers.contains_key(header::CONTENT_ENCODING)
            && self.content.len() > 0;
        if !is_plain_json || !has(request, header::ACCEPT_ENCODING, "gzip") {
            return self;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&self.content.bytes()).unwrap();
        self.content = Arc::new(Archive::raw(encoder.finish().unwrap().into()));
        self.header("content-encoding", "gzip").header("vary", "Accept-Encoding")
    }

    pub fn without_body(mut self) -> Self {
        self.content = Arc::new(Archive::raw(Bytes::new()));
        self
    }
}

enum Stop {
    Gate(Gate),
    Fault(FaultRef),
}

struct Sending {
    content: Arc<Archive>,
    at: u64,
    stops: Vec<(u64, Stop)>,
    wrong_at: Option<u64>,
    pace: Option<(u64, Duration)>,
    broken: bool,
    progress: Arc<Progress>,
    flushes: Flushes,
}

/// Builds the HTTP response, with the gates and the fault that apply.
pub fn send(
    answer: Answer,
    gates: Vec<Gate>,
    fault: Option<FaultRef>,
    progress: Arc<Progress>,
    flushes: Flushes,
) -> Response<Body> {
    let mut stops: Vec<(u64, Stop)> = gates
        .into_iter()
        .filter_map(|gate| match gate.at() {
            At::Body(at) => Some((at, Stop::Gate(gate))),
            At::Head => None,
        })
        .collect();
    let mut wrong_at = None;
    let mut pace = None;
    let mut length = answer.with_length.then(|| answer.content.len());
    if let Some(fault) = fault {
        match *fault.fault() {
            Fault::CutAfter(at) | Fault::Stall { after: at } => stops.push((at, Stop::Fault(fault))),
            Fault::EndShortAfter(at) => {
                length = None;
                stops.push((at, Stop::Fault(fault)));
            }
            Fault::ShortLength(at) => {
                length = Some(at);
                stops.push((at, Stop::Fault(fault)));
            }
            Fault::WrongBytesAt(at) => wrong_at = Some(at),
            Fault::Slow { bytes, pause } => pace = Some((bytes.max(1), pause)),
            Fault::Status(..)
            | Fault::Refuse
            | Fault::HeadStall
            | Fault::Html200
            | Fault::SecondaryRateLimit { .. } => {}
        }
    }
    stops.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let sending = Sending { content: answer.content, at: 0, stops, wrong_at, pace, broken: false, progress, flushes };
    let pieces = stream::unfold(sending, |mut sending| async move { Some((sending.next().await?, sending)) });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    *response.status_mut() = answer.status.try_into().unwrap();
    *response.headers_mut() = answer.headers;
    if let Some(length) = length
        && !matches!(answer.status, 204 | 304)
    {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

impl Sending {
    async fn next(&mut self) -> Option<io::Result<Frame<Bytes>>> {
        if self.broken {
            return None;
        }
        while let Some((_, stop)) = self.stops.pop_if(|(at, _)| *at <= self.at) {
            match stop {
                Stop::Gate(gate) => gate.pass().await,
                Stop::Fault(fault) => {
                    // What came before must have left, or a break would take it along.
                    self.flushes.next().await;
                    fault.arrived();
                    match fault.fault() {
                        Fault::Stall { .. } => fault.released().await,
                        Fault::CutAfter(_) => {
                            self.broken = true;
                            return Some(Err(io::Error::other("cut by the test")));
                        }
                        _ => return None,
                    }
                }
            }
        }
        let mut max = self.stops.last().map_or(CHUNK, |(at, _)| at - self.at);
        if let Some((bytes, pause)) = self.pace {
            tokio::time::sleep(pause).await;
            max = max.min(bytes);
        }
        let mut piece = self.content.read(self.at, max);
        if piece.is_empty() {
            self.progress.complete.store(true, Ordering::Release);
            return None;
        }
        if let Some(wrong) = self.wrong_at
            && (self.at..self.at + piece.len() as u64).contains(&wrong)
        {
            let mut bytes = BytesMut::from(&piece[..]);
            bytes[(wrong - self.at) as usize] ^= 0xff;
            piece = bytes.freeze();
        }
        self.at += piece.len() as u64;
        self.progress.sent.store(self.at, Ordering::Release);
        if self.at == self.content.len() {
            // With a Content-Length hyper does not poll for the end.
            self.progress.complete.store(true, Ordering::Release);
        }
        Some(Ok(Frame::data(piece)))
    }
}
