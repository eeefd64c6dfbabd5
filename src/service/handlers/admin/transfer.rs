//! Hands over what is stored, and takes in what another mirror has handed over.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::json;

use super::{
    AdminError, Input, drain,
    inventory::{Asked, items},
    lines, one, with_type,
};
use crate::{
    entry::{ExportedArchive, ExportedDocument, Key},
    http::body::Body,
    registry::{
        ImportError, Registry,
        transfer::{DocumentImport, ImportPlan},
    },
};

/// Longest claim before the bytes of a zip.
const LONGEST_CLAIM: usize = 1 << 20;

/// One claim per stored zip, then every document.
pub(super) async fn claims(mirror: &Arc<Registry>, ask: Asked) -> Result<Response<Body>, AdminError> {
    let ask = ask?;
    let mut claims = Vec::new();
    for item in items(mirror, &ask.pattern).await? {
        let archive = mirror.transfer().describe(&item.entry.key).await;
        let archive = archive.map_err(|error| AdminError::failed("the record of a zip cannot be read", error))?;
        claims.extend(archive.map(|archive| json!({"zip": archive})));
    }
    let failed = |error| AdminError::failed("the index of the cache cannot be read", error);
    let documents = mirror.inventory().document_keys(&ask.with_documents()).await.map_err(failed)?;
    let mirror = mirror.clone();
    let documents = stream::iter(documents).filter_map(move |key| {
        let mirror = mirror.clone();
        async move { Some(json!({"document": mirror.transfer().export_document(&key).await?})) }
    });
    Ok(lines(stream::iter(claims).chain(documents)))
}

#[derive(Deserialize)]
pub(super) struct Named {
    key: Key,
}

/// The bytes of one zip.
pub(super) async fn zip(mirror: &Arc<Registry>, ask: Result<Named, AdminError>) -> Result<Response<Body>, AdminError> {
    let object = mirror.transfer().open(&ask?.key).await;
    let Some(object) = object.map_err(|error| AdminError::failed("the zip cannot be read", error))? else {
        return Err(AdminError(StatusCode::NOT_FOUND, "this zip is not stored any more".into()));
    };
    let len = object.meta.len;
    Ok(with_type(
        "application/zip",
        crate::service::zip_body::range_body(object, 0..len, crate::service::SendMode::Copy),
    ))
}

/// What an import would do: one line per claim.
pub(super) async fn plan(
    mirror: &Arc<Registry>,
    claims: Result<Vec<ExportedArchive>, AdminError>,
) -> Result<Response<Body>, AdminError> {
    let mut states = Vec::new();
    for claim in claims? {
        let failed = |error| AdminError::failed("the record of pins cannot be read", error);
        let state = match mirror.transfer().plan(&claim).await.map_err(failed)? {
            ImportPlan::Refused => "refused",
            ImportPlan::Conflict => "conflict",
            ImportPlan::Stored => "stored",
            ImportPlan::Wanted => "wanted",
        };
        states.push(json!({"key": claim.key, "state": state}));
    }
    Ok(lines(stream::iter(states)))
}

/// Takes in one zip: a line of JSON with its claim, and its bytes.
pub(super) async fn take(mirror: &Arc<Registry>, mut input: Input) -> Result<Response<Body>, AdminError> {
    let done = take_from(mirror, &mut input).await;
    if done.is_err() {
        drain(&mut input).await;
    }
    done
}

async fn take_from(mirror: &Arc<Registry>, input: &mut Input) -> Result<Response<Body>, AdminError> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        force: bool,
        claim: ExportedArchive,
    }
    let mut first = Vec::new();
    let end = loop {
        if let Some(end) = first.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        let frame = input.frame().await.and_then(Result::ok).and_then(|frame| frame.into_data().ok());
        first.extend_from_slice(&frame.ok_or_else(|| AdminError::bad("the claim is not whole"))?);
        if first.len() > LONGEST_CLAIM {
            // Chunks are far smaller: what is longer has no end of line.
            return Err(AdminError::bad("the claim is too long"));
        }
    };
    let head: Head = serde_json::from_slice(&first[..end])
        .map_err(|why| AdminError::bad(format!("the claim is malformed: {why}")))?;
    let rest = Bytes::from(first.split_off(end + 1));
    let frames = stream::unfold(input, |input| async move {
        let frame = input.frame().await?;
        let broken = |_| ImportError::Invalid("its bytes broke off".to_owned());
        Some((frame.map(|frame| frame.into_data().unwrap_or_default()).map_err(broken), input))
    });
    let body = stream::iter([Ok(rest)]).chain(frames);
    mirror.transfer().import(head.claim, body, head.force).await.map_err(refusal)?;
    Ok(one(&json!({"state": "stored"})))
}

/// Takes in one document, or says whether it would be.
pub(super) async fn take_document(
    mirror: &Arc<Registry>,
    handed: Result<ExportedDocument, AdminError>,
    check: bool,
) -> Result<Response<Body>, AdminError> {
    let handed = handed?;
    if !mirror.transfer().accepts_document(&handed.key, handed.body.as_bytes()) {
        return Err(AdminError(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!("this mirror has no place for {}", handed.key),
        ));
    }
    if check {
        let failed = |error| AdminError::failed("a stored document cannot be read", error);
        let stored = mirror.transfer().has_document(&handed.key, &handed.meta).await.map_err(failed)?;
        return Ok(one(&json!({"state": if stored { "stored" } else { "wanted" }})));
    }
    let taken = mirror.transfer().import_document(handed).await.map_err(refusal)?;
    Ok(one(&json!({"state": if taken == DocumentImport::Stored { "stored" } else { "older" }})))
}

fn refusal(error: ImportError) -> AdminError {
    let status = match &error {
        ImportError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
        ImportError::Conflict => StatusCode::CONFLICT,
        ImportError::NoRoom => StatusCode::INSUFFICIENT_STORAGE,
        ImportError::Io(cause) => {
            tracing::error!(error = %cause, "an import cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR
        }
    };
    AdminError(status, error.to_string())
}
