//! Fetches lists page by page, conditionally when a list is stored.

use http::HeaderMap;
use jiff::Timestamp;
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use super::{
    array_elements::ArrayElements,
    body::{DocumentBody, SizeMeter},
    call_log::CallLog,
    client::ApiClient,
    documents::{changed_document, has_validator, page_validator},
    error_class,
    failure::invalid,
    normalise::{self, ReleaseEntry},
    redirect,
    request::{DocumentRequest, DocumentResponse},
    urls::is_same_url,
};
use crate::{
    entry::{Document, PageValidator, Validators},
    origin::{FetchError, FetchedDocument, Missing},
    package::{Release, Releases},
};

/// Releases requested per page, the most that GitHub and Gitee return.
pub(super) const RELEASES_PER_PAGE: usize = 100;
/// Most pages of a list: GitHub returns no more than the first 1000 releases.
const MAX_RELEASE_PAGES: usize = 10;

/// A list that is fetched page by page.
pub(super) trait PagedList: Default + Serialize + DeserializeOwned + Send {
    /// One entry.
    type Item: Send;

    /// Most pages that are fetched.
    const MAX_PAGES: usize;

    /// True if every new entry is on page one.
    const NEWEST_FIRST: bool;

    /// Reads one entry.
    fn read_item(json: &[u8]) -> ListItem<Self::Item>;

    /// The entries.
    fn items(&mut self) -> &mut Vec<Self::Item>;

    /// True if the list is incomplete.
    fn truncated(&mut self) -> &mut bool;
}

/// An entry of a list.
pub(super) enum ListItem<T> {
    Item(T),
    /// Its text had to be repaired; see [`super::json_repair`].
    Repaired(T),
    /// Valid, but not shown to clients: a draft.
    Skipped,
    /// Cannot be read as an entry of this list.
    Broken,
}

impl PagedList for Releases {
    type Item = Release;

    const MAX_PAGES: usize = MAX_RELEASE_PAGES;

    const NEWEST_FIRST: bool = true;

    fn read_item(json: &[u8]) -> ListItem<Release> {
        match normalise::release(json) {
            ReleaseEntry::Release(release) => ListItem::Item(*release),
            ReleaseEntry::Repaired(release) => ListItem::Repaired(*release),
            ReleaseEntry::Draft => ListItem::Skipped,
            ReleaseEntry::Broken => ListItem::Broken,
        }
    }

    fn items(&mut self) -> &mut Vec<Release> {
        &mut self.releases
    }

    fn truncated(&mut self) -> &mut bool {
        &mut self.truncated
    }
}

/// How a forge points to the next page.
#[derive(Clone, Copy, Debug)]
pub(super) enum Paging {
    /// `Link: <…>; rel="next"` (RFC 8288), followed within the API's origin only.
    Link,
    /// `page=N` up to the `total_page` header; without the header, until a page is not full.
    Numbered,
}

/// Fetches a whole list.
///
/// A 304 on page one renews the list, unless all pages were last fetched too long ago: then every page is requested with
/// its own validator, and the entries of unchanged pages are taken from the stored list. Where a new entry may be on any
/// page, page one is enough only without a credential, when each 304 counts against the quota.
pub(super) async fn fetch_list<L: PagedList>(
    client: &ApiClient,
    call: &CallLog<'_>,
    first: &Url,
    paging: Paging,
    stored: Option<&Document>,
) -> Result<FetchedDocument, FetchError> {
    let known = client.applicable_validators(call, stored, first).zip(stored);
    if let Some(done) = fetch_all_pages::<L>(client, call, first, paging, known).await? {
        return Ok(done);
    }
    // The stored list is unusable: fetch all pages unconditionally.
    let all = fetch_all_pages::<L>(client, call, first, paging, None).await?;
    all.ok_or_else(|| invalid("304 to an unconditional request"))
}

/// Fetches page after page. `None` when a page is unchanged but its entries are not in the stored list.
async fn fetch_all_pages<L: PagedList>(
    client: &ApiClient,
    call: &CallLog<'_>,
    first: &Url,
    paging: Paging,
    known: Option<(&Validators, &Document)>,
) -> Result<Option<FetchedDocument>, FetchError> {
    let mut meter = client.meter();
    let mut stored_pages = None;
    let mut fetched = FetchedPages::<L>::new();
    let mut next = Some(first.clone());
    while let Some(url) = next.take() {
        let number = fetched.validators.len() + 1;
        if number > L::MAX_PAGES {
            fetched.cut(client, call);
            break;
        }
        let validator = known
            .and_then(|(known, _)| known.pages.get(number - 1))
            .filter(|page| is_same_url(page, &url) && has_validator(page));
        let request = DocumentRequest::new(&url, Missing::Package);
        next = match (client.request_document(call, request, validator).await, validator) {
            (Ok(DocumentResponse::NotModified), Some(page)) => {
                if number == 1 && known.is_some_and(|(known, _)| page_one_suffices::<L>(known, client, call)) {
                    return Ok(known.map(|(known, _)| FetchedDocument::NotModified { validators: known.clone() }));
                }
                let stored = stored_pages.get_or_insert_with(|| known.and_then(StoredPages::<L>::read));
                let Some(stored) = stored else { return Ok(None) };
                fetched.add_unchanged(client, page, stored)
            }
            (Ok(DocumentResponse::NotModified), None) => return Err(invalid("304 to an unconditional request")),
            (Ok(DocumentResponse::Body(body)), _) => {
                let body = body.into_document(&meter)?;
                fetched.add_changed(client, call, &url, paging, body, &mut meter).await?
            }
            // "Only the first 1000 results are available."
            (Err(FetchError::Status(422)), _) if number > 1 => {
                fetched.all_unchanged = false;
                fetched.cut(client, call);
                None
            }
            (Err(error), _) => return Err(error),
        };
    }
    let validators = client.new_validators(call, fetched.validators);
    match known {
        Some((known, _)) if fetched.all_unchanged && known.pages == validators.pages => {
            Ok(Some(FetchedDocument::NotModified { validators }))
        }
        _ => changed_document(&fetched.list, validators).map(Some),
    }
}

/// The pages of a list that have been fetched so far.
struct FetchedPages<L: PagedList> {
    list: L,
    /// One for each page.
    validators: Vec<PageValidator>,
    /// True while every response was a 304.
    all_unchanged: bool,
}

impl<L: PagedList> FetchedPages<L> {
    fn new() -> Self {
        Self { list: L::default(), validators: Vec::new(), all_unchanged: true }
    }

    /// Adds a page that was answered with a 304: its entries come from the stored list. Returns the address of the next page.
    fn add_unchanged(&mut self, client: &ApiClient, page: &PageValidator, stored: &mut StoredPages<L>) -> Option<Url> {
        let index = self.validators.len();
        self.list.items().append(stored.pages.get_mut(index).unwrap_or(&mut Vec::new()));
        // An entry that could not be read may be one of this page's.
        *self.list.truncated() |= stored.was_truncated;
        self.validators.push(page.clone());
        page.next.as_deref().and_then(|next| Url::parse(next).ok()).filter(|next| client.is_api(next))
    }

    /// Reads a page, and adds it. Returns the address of the next page; one outside the API cuts the list.
    async fn add_changed(
        &mut self,
        client: &ApiClient,
        call: &CallLog<'_>,
        url: &Url,
        paging: Paging,
        mut body: DocumentBody,
        meter: &mut SizeMeter,
    ) -> Result<Option<Url>, FetchError> {
        self.all_unchanged = false;
        let page = read_page::<L>(client, call, &mut body, meter).await?;
        let number = self.validators.len() + 1;
        let mut next = next_page(paging, body.headers(), url, number, page.entries);
        if next.as_ref().is_some_and(|next| !client.is_api(next)) {
            let upstream = client.name.as_str();
            let package = call.package.map(tracing::field::display);
            tracing::warn!(upstream, package, "next page not followed: its address is outside the API");
            *self.list.truncated() = true;
            next = None;
        }
        self.validators.push(page_validator(url, body.headers(), page.items.len(), next.as_ref()));
        self.list.items().extend(page.items);
        *self.list.truncated() |= page.broken > 0;
        Ok(next)
    }

    /// Ends the list before its last entry.
    fn cut(&mut self, client: &ApiClient, call: &CallLog<'_>) {
        warn_of_cut(client, call, self.list.items().len());
        *self.list.truncated() = true;
    }
}

/// True while a 304 of page one renews the whole list: all pages were fetched recently.
fn page_one_suffices<L: PagedList>(known: &Validators, client: &ApiClient, call: &CallLog<'_>) -> bool {
    known.pages.len() > 1
        && is_recently_fetched(known, client)
        && (L::NEWEST_FIRST || !call.identity().has_credential())
}

/// True while the last fetch of all pages is recent.
pub(super) fn is_recently_fetched(known: &Validators, client: &ApiClient) -> bool {
    let age = known.last_full_fetch.and_then(|walked| Timestamp::now().duration_since(walked).try_into().ok());
    age.is_some_and(|age: std::time::Duration| age < client.full_walk)
}

/// The entries of a stored list.
struct StoredPages<L: PagedList> {
    pages: Vec<Vec<L::Item>>,
    was_truncated: bool,
}

impl<L: PagedList> StoredPages<L> {
    /// The stored entries, page by page; `None` when body and validators do not match.
    fn read((known, document): (&Validators, &Document)) -> Option<Self> {
        let mut list = serde_json::from_slice::<L>(&document.body).ok()?;
        let mut left = std::mem::take(list.items()).into_iter();
        let pages: Vec<Vec<_>> = known.pages.iter().map(|page| left.by_ref().take(page.items).collect()).collect();
        let complete = pages.iter().zip(&known.pages).all(|(items, page)| items.len() == page.items);
        (complete && left.next().is_none()).then(|| Self { pages, was_truncated: *list.truncated() })
    }
}

/// One page of a list.
struct ListPageItems<T> {
    /// Entries in the response, skipped and broken ones included.
    entries: usize,
    /// Entries that could not be read.
    broken: usize,
    items: Vec<T>,
}

/// Reads one page; only one entry is held as JSON at a time.
async fn read_page<L: PagedList>(
    client: &ApiClient,
    call: &CallLog<'_>,
    body: &mut DocumentBody,
    meter: &mut SizeMeter,
) -> Result<ListPageItems<L::Item>, FetchError> {
    let mut page = ListPageItems { entries: 0, broken: 0, items: Vec::new() };
    let mut repaired = 0_usize;
    let mut elements = ArrayElements::default();
    while let Some(chunk) = body.chunk(meter).await? {
        elements.push(&chunk, |json| {
            page.entries += 1;
            match L::read_item(json) {
                ListItem::Item(item) => page.items.push(item),
                ListItem::Repaired(item) => {
                    repaired += 1;
                    page.items.push(item);
                }
                ListItem::Skipped => {}
                ListItem::Broken => page.broken += 1,
            }
            Ok(())
        })?;
    }
    elements.finish()?;
    if page.broken > 0 && page.broken == page.entries {
        return Err(invalid("a list without one valid entry"));
    }
    if page.broken > 0 {
        // One bad entry must not make the others unavailable.
        warn_of_broken(client, call, page.broken);
    }
    if repaired > 0 {
        let package = call.package.map(tracing::field::display);
        tracing::warn!(
            upstream = client.name,
            package,
            repaired,
            "entries of a list that are not quite JSON were repaired"
        );
    }
    Ok(page)
}

/// Logs that entries of a list were skipped.
pub(super) fn warn_of_broken(client: &ApiClient, call: &CallLog<'_>, broken: usize) {
    let upstream = client.name.as_str();
    let package = call.package.map(tracing::field::display);
    tracing::warn!(upstream, package, broken, "entries of a list without a tag or a date were skipped");
}

/// Logs, once per fetch of all pages, that a list has more entries than are fetched.
pub(super) fn warn_of_cut(client: &ApiClient, call: &CallLog<'_>, entries: usize) {
    let upstream = client.name.as_str();
    let package = call.package.map(tracing::field::display);
    tracing::warn!(upstream, package, entries, "a list has more entries than are fetched: older ones are not listed");
}

fn next_page(paging: Paging, headers: &HeaderMap, url: &Url, number: usize, entries: usize) -> Option<Url> {
    match paging {
        Paging::Link => redirect::next_link(headers, url),
        Paging::Numbered => {
            let total = error_class::number(headers, "total_page").and_then(|total| usize::try_from(total).ok());
            let more = entries > 0 && total.map_or(entries >= RELEASES_PER_PAGE, |total| number < total);
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
