//! Documents: one answer, or a walk over the pages of a release list, conditional wherever something is stored.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use jiff::Timestamp;
use serde::Serialize;
use url::Url;

use super::{
    body::{Body, Meter},
    call_log::{CallLog, LOG},
    client::{Answer, Client, is_same},
    failure::invalid,
    json::ArrayElements,
    normalise::{self, Listed},
    redirect, throttle,
};
use crate::{
    entry::{Document, PageValidator, Validators},
    origin::{FetchError, FetchedDocument, Missing},
    package::{Release, Releases},
};

/// Releases asked for per page, the most that GitHub and Gitee give.
pub(super) const PER_PAGE: usize = 100;
/// Most pages of a list: GitHub gives no more than the first 1000 releases.
const MAX_PAGES: usize = 10;

/// How a forge tells where the next page is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paging {
    /// `Link: <…>; rel="next"` (RFC 8288), followed on the API's own origin only.
    Link,
    /// `page=N` up to the `total_page` header; without it until a page is not full.
    Numbered,
}

/// One document of one answer.
pub(super) struct Single<'a> {
    pub(super) url: &'a Url,
    pub(super) accept: Option<&'static str>,
    /// What a 404 means.
    pub(super) missing: Missing,
}

/// Asks for a document of one answer and normalises it.
pub(super) async fn single<T: Serialize>(
    client: &Client,
    call: &CallLog<'_>,
    ask: Single<'_>,
    stored: Option<&Document>,
    normalise: impl FnOnce(&[u8]) -> Result<T, FetchError>,
) -> Result<FetchedDocument, FetchError> {
    let known = client.usable(stored, ask.url);
    let validator = known.and_then(|known| known.pages.first()).filter(|page| is_conditional(page));
    match client.document(call, ask.url, ask.accept, validator, ask.missing).await? {
        Answer::NotModified => Ok(FetchedDocument::NotModified { validators: renewed(known) }),
        Answer::Body(body) => {
            let validators = client.validators(vec![page_validator(ask.url, body.headers(), 1, None)]);
            let value = normalise(&body.whole(&mut client.meter()).await?)?;
            changed(&value, validators)
        }
    }
}

/// Asks for a whole release list.
///
/// A 304 on page one renews it, unless the last full walk is too long ago: then every page is asked with its own
/// validator, and those that have not changed are taken from the stored list.
pub(super) async fn releases(
    client: &Client,
    call: &CallLog<'_>,
    first: &Url,
    paging: Paging,
    stored: Option<&Document>,
) -> Result<FetchedDocument, FetchError> {
    let known = client.usable(stored, first).zip(stored);
    if let Some(done) = fetch_all_pages(client, call, first, paging, known).await? {
        return Ok(done);
    }
    // What is stored could not be read: ask for everything.
    fetch_all_pages(client, call, first, paging, None)
        .await?
        .ok_or_else(|| invalid("unchanged, without having been asked so"))
}

/// `None` when a page is said to be unchanged whose stored releases cannot be found.
async fn fetch_all_pages(
    client: &Client,
    call: &CallLog<'_>,
    first: &Url,
    paging: Paging,
    known: Option<(&Validators, &Document)>,
) -> Result<Option<FetchedDocument>, FetchError> {
    let mut meter = client.meter();
    let mut old = None;
    let mut list = Releases::default();
    let mut pages: Vec<PageValidator> = Vec::new();
    let mut next = Some(first.clone());
    let mut all_the_same = true;
    while let Some(url) = next.take() {
        let number = pages.len() + 1;
        if number > MAX_PAGES {
            list.truncated = true;
            break;
        }
        let validator = known
            .and_then(|(known, _)| known.pages.get(number - 1))
            .filter(|page| is_same(page, &url) && is_conditional(page));
        match (client.document(call, &url, None, validator, Missing::Package).await, validator) {
            (Ok(Answer::NotModified), Some(page)) => {
                if number == 1 && known.is_some_and(|(known, _)| is_renewed_by_page_one(known, client)) {
                    return Ok(known.map(|(known, _)| FetchedDocument::NotModified { validators: known.clone() }));
                }
                let Some(slices) = old.get_or_insert_with(|| known.and_then(slices)) else { return Ok(None) };
                list.releases.append(slices.get_mut(number - 1).unwrap_or(&mut Vec::new()));
                next = page.next.as_deref().and_then(|next| Url::parse(next).ok()).filter(|next| client.is_api(next));
                pages.push(page.clone());
            }
            (Ok(Answer::NotModified), None) => return Err(invalid("unchanged, without having been asked so")),
            (Ok(Answer::Body(mut body)), _) => {
                all_the_same = false;
                let page = read(client, call, &mut body, &mut meter).await?;
                next = match next_page(paging, body.headers(), &url, number, page.entries) {
                    Some(next) if !client.is_api(&next) => {
                        let upstream = client.name.as_str();
                        let package = call.package;
                        tracing::warn!(target: LOG, upstream, %package, "the next page is not the API's own: not followed");
                        list.truncated = true;
                        None
                    }
                    next => next,
                };
                pages.push(page_validator(&url, body.headers(), page.releases.len(), next.as_ref()));
                list.releases.extend(page.releases);
            }
            // "Only the first 1000 results are available."
            (Err(FetchError::Status(422)), _) if number > 1 => {
                all_the_same = false;
                list.truncated = true;
            }
            (Err(error), _) => return Err(error),
        }
    }
    let validators = client.validators(pages);
    match known {
        Some((known, _)) if all_the_same && known.pages == validators.pages => {
            Ok(Some(FetchedDocument::NotModified { validators }))
        }
        _ => changed(&list, validators).map(Some),
    }
}

/// Page one alone speaks for the list while the last full walk is young enough.
fn is_renewed_by_page_one(known: &Validators, client: &Client) -> bool {
    let age = known.last_full_fetch.and_then(|walked| Timestamp::now().duration_since(walked).try_into().ok());
    known.pages.len() > 1 && age.is_some_and(|age: std::time::Duration| age < client.full_walk.0)
}

/// The stored list, cut into what each page contributed; `None` when body and validators do not fit together.
fn slices((known, document): (&Validators, &Document)) -> Option<Vec<Vec<Release>>> {
    let mut left = serde_json::from_slice::<Releases>(&document.body).ok()?.releases.into_iter();
    let slices: Vec<Vec<_>> = known.pages.iter().map(|page| left.by_ref().take(page.items).collect()).collect();
    let whole = slices.iter().zip(&known.pages).all(|(slice, page)| slice.len() == page.items);
    (whole && left.next().is_none()).then_some(slices)
}

/// A page as it was read.
struct Page {
    /// How many entries the forge sent, drafts and broken ones too.
    entries: usize,
    releases: Vec<Release>,
}

/// Reads one page, one release at a time.
async fn read(client: &Client, call: &CallLog<'_>, body: &mut Body, meter: &mut Meter) -> Result<Page, FetchError> {
    meter.announce(body.announced())?;
    let mut page = Page { entries: 0, releases: Vec::new() };
    let mut broken = 0_usize;
    let mut elements = ArrayElements::default();
    while let Some(chunk) = body.chunk().await? {
        meter.count(chunk.len())?;
        elements.push(&chunk, |json| {
            page.entries += 1;
            match normalise::release(json) {
                Listed::Release(release) => page.releases.push(*release),
                Listed::Draft => {}
                Listed::Broken => broken += 1,
            }
            Ok(())
        })?;
    }
    elements.end()?;
    if broken > 0 && broken == page.entries {
        return Err(invalid("a list without a single release in it"));
    }
    if broken > 0 {
        // One bad entry must not take the others away from everybody.
        let upstream = client.name.as_str();
        let package = call.package;
        tracing::warn!(target: LOG, upstream, %package, broken, "releases without a tag or a date are left out");
    }
    Ok(page)
}

fn next_page(paging: Paging, headers: &HeaderMap, url: &Url, number: usize, entries: usize) -> Option<Url> {
    match paging {
        Paging::Link => redirect::next_link(headers, url),
        Paging::Numbered => {
            let total = throttle::number(headers, "total_page").and_then(|total| usize::try_from(total).ok());
            let more = entries > 0 && total.map_or(entries >= PER_PAGE, |total| number < total);
            more.then(|| with_page(url, number + 1))
        }
    }
}

fn with_page(url: &Url, number: usize) -> Url {
    let mut next = url.clone();
    let others = url.query_pairs().filter(|(name, _)| name != "page");
    next.query_pairs_mut().clear().extend_pairs(others).append_pair("page", &number.to_string());
    next
}

/// The `ETag` is kept as the 200 sent it: GitHub's 304 sends the same one without `W/`.
fn page_validator(url: &Url, headers: &HeaderMap, items: usize, next: Option<&Url>) -> PageValidator {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    PageValidator {
        url: url.to_string(),
        etag: text(header::ETAG),
        last_modified: text(header::LAST_MODIFIED),
        items,
        next: next.map(Url::to_string),
    }
}

fn is_conditional(page: &PageValidator) -> bool {
    page.etag.is_some() || page.last_modified.is_some()
}

fn renewed(known: Option<&Validators>) -> Validators {
    Validators { last_full_fetch: Some(Timestamp::now()), ..known.cloned().unwrap_or_default() }
}

fn changed<T: Serialize>(value: &T, validators: Validators) -> Result<FetchedDocument, FetchError> {
    let body = serde_json::to_vec(value).map(Bytes::from).map_err(|_| invalid("what cannot be written as JSON"))?;
    Ok(FetchedDocument::Changed { body, validators })
}
