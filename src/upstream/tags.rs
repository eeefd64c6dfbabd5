//! The tags of a repository, as forges list them.

use std::collections::HashMap;

use jiff::Timestamp;
use serde_json::Value;
use url::Url;

use super::{
    call_log::CallLog,
    client::ApiClient,
    documents, json_repair, normalise,
    pages::{self, ListItem, PagedList, Paging},
};
use crate::{
    entry::Document,
    origin::{FetchError, FetchedDocument},
    package::{RepositoryTag, RepositoryTags},
};

/// Most pages of tags, of 100 tags each.
const MAX_TAG_LIST_PAGES: usize = 20;

impl PagedList for RepositoryTags {
    type Item = RepositoryTag;

    const MAX_PAGES: usize = MAX_TAG_LIST_PAGES;

    /// Forges order tags by name.
    const NEWEST_FIRST: bool = false;

    fn read_item(json: &[u8]) -> ListItem<RepositoryTag> {
        named_commit(json, |name, commit| RepositoryTag { name, commit, first_seen: Timestamp::now() })
    }

    fn items(&mut self) -> &mut Vec<RepositoryTag> {
        &mut self.tags
    }

    fn truncated(&mut self) -> &mut bool {
        &mut self.truncated
    }
}

/// Reads an entry with a name and a commit, as forges list tags and branches.
pub(super) fn named_commit<T>(json: &[u8], make: impl FnOnce(String, Option<String>) -> T) -> ListItem<T> {
    let Some(entry) = json_repair::object(json) else { return ListItem::Broken };
    let Some(name) = entry.value.get("name").and_then(Value::as_str).filter(|name| !name.is_empty()) else {
        return ListItem::Broken;
    };
    let commit = entry.value.get("commit").and_then(|commit| commit.get("sha")).and_then(Value::as_str);
    let item = make(name.to_owned(), commit.and_then(normalise::commit));
    if entry.is_repaired { ListItem::Repaired(item) } else { ListItem::Item(item) }
}

/// Fetches the list of tags. A tag that the stored list has keeps the time at which it was first seen.
pub(super) async fn fetch_list(
    client: &ApiClient,
    call: &CallLog<'_>,
    first: &Url,
    paging: Paging,
    stored: Option<&Document>,
) -> Result<FetchedDocument, FetchError> {
    match pages::fetch_list::<RepositoryTags>(client, call, first, paging, stored).await? {
        FetchedDocument::Changed { body, validators } => {
            let parse = |body: &[u8]| serde_json::from_slice::<RepositoryTags>(body).unwrap_or_default();
            let mut list = parse(&body);
            let known = stored.map(|stored| parse(&stored.body)).unwrap_or_default();
            let first_seen: HashMap<String, Timestamp> =
                known.tags.into_iter().map(|tag| (tag.name, tag.first_seen)).collect();
            for tag in &mut list.tags {
                tag.first_seen = first_seen.get(&tag.name).copied().unwrap_or(tag.first_seen);
            }
            documents::changed_document(&list, validators)
        }
        unchanged => Ok(unchanged),
    }
}
