//! Lists the names of objects, a page at a time.

use http::StatusCode;
use jiff::Timestamp;
use rusty_s3::actions::{ListObjectsV2, list_objects_v2::ListObjectsContent};

use super::{
    Bucket, BucketError, BucketOperation,
    bucket::{sign, with_retry},
    object_name::ObjectName,
    patience::with_patience,
};
use crate::entry::Key;

/// Most objects of a page: more are never sent by a service.
const MAX_PAGE_OBJECTS: usize = 1000;
/// Largest page, bytes: names of 1,024 bytes, each of which is encoded as three.
const MAX_PAGE_BYTES: usize = MAX_PAGE_OBJECTS * (3 * 1024 + 1024);

/// Some of the objects below a folder, in the order of their names.
#[derive(Debug)]
pub struct ObjectPage {
    /// The objects.
    pub objects: Vec<ListedObject>,
    /// False where there are more objects after the last one.
    pub is_last: bool,
    /// When the service answered, by its clock; `None` where it does not say.
    pub answered_at: Option<Timestamp>,
}

/// An object, as a list shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedObject {
    /// Without the configured prefix.
    pub name: String,
    /// As a read of the object has it.
    pub etag: Option<String>,
    /// Bytes.
    pub len: u64,
    /// When the object was written, by the service's clock.
    pub modified_at: Timestamp,
}

impl Bucket {
    /// Lists at most 1,000 of the objects whose names begin with `folder`: those after the name `after`. One request. A
    /// service may leave out what was just written, and name what was just deleted.
    ///
    /// # Errors
    /// When the bucket cannot be asked; `Damaged` where its answer is no list, or one in another order.
    pub async fn list(&self, folder: &str, after: Option<&str>) -> Result<ObjectPage, BucketError> {
        let beginning = format!("{}{folder}", self.prefix);
        let after = after.map(|name| format!("{}{name}", self.prefix));
        let answer = with_retry(|| {
            let mut action = self.bucket.list_objects_v2(Some(&self.credentials));
            action.with_prefix(beginning.as_str());
            if let Some(after) = &after {
                action.with_start_after(after.as_str());
            }
            self.read(BucketOperation::List, sign(&mut action), MAX_PAGE_BYTES)
        });
        // There may be no bucket of this name.
        let answer = answer.await?.ok_or(BucketError::Status(StatusCode::NOT_FOUND.as_u16()))?;
        let page = parse_page(&answer.bytes, &self.prefix, &beginning, after.as_deref());
        Ok(ObjectPage { answered_at: answer.answered_at, ..page.ok_or(BucketError::Damaged)? })
    }
}

/// A folder whose objects are named by keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyFolder {
    /// Claims of zips.
    Claims,
    /// Documents: lists, releases, branches.
    Documents,
    /// Recorded sources: dialect and name.
    Sources,
}

/// Some of the keys that a folder has objects of, in the order of the objects' names.
#[derive(Debug)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<ListedKey>,
    /// The object after which the next page begins; `None` where there is no further page.
    pub next: Option<String>,
}

/// An object that is named by a key.
#[derive(Clone, Debug)]
pub struct ListedKey {
    /// The object's name, without the configured prefix.
    pub name: String,
    /// The key; `None` where the object must be read to know it.
    pub key: Option<Key>,
}

impl KeyFolder {
    fn name(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::Documents => "documents",
            Self::Sources => "sources",
        }
    }
}

impl Bucket {
    /// Lists at most 1,000 of the keys of a folder: those after the object `after`. One request.
    ///
    /// # Errors
    /// As [`Bucket::list`].
    pub async fn keys_after(&self, folder: KeyFolder, after: Option<&str>) -> Result<KeyPage, BucketError> {
        let page = self.list(&format!("{}/", folder.name()), after).await?;
        let next = page.objects.last().filter(|_| !page.is_last).map(|last| last.name.clone());
        let keys = page
            .objects
            .into_iter()
            .map(|ListedObject { name, .. }| ListedKey { key: ObjectName::key_in(folder.name(), &name), name });
        Ok(KeyPage { keys: keys.collect(), next })
    }
}

/// All objects of a folder, page by page.
pub(super) struct ObjectPages<'a> {
    bucket: &'a Bucket,
    folder: &'static str,
    /// The last name of the page before.
    after: Option<String>,
    is_over: bool,
}

impl<'a> ObjectPages<'a> {
    pub(super) fn new(bucket: &'a Bucket, folder: &'static str) -> Self {
        Self { bucket, folder, after: None, is_over: false }
    }

    /// The next page, asked for again while the bucket fails, for some seconds; `None` after the last one.
    ///
    /// # Errors
    /// As [`Bucket::list`].
    pub(super) async fn next(&mut self) -> Result<Option<ObjectPage>, BucketError> {
        if self.is_over {
            return Ok(None);
        }
        let page = with_patience(|| self.bucket.list(self.folder, self.after.as_deref())).await?;
        self.is_over = page.is_last;
        self.after = page.objects.last().map(|object| object.name.clone());
        Ok(Some(page))
    }
}

/// `None` where the text is no such page.
fn parse_page(text: &[u8], prefix: &str, beginning: &str, after: Option<&str>) -> Option<ObjectPage> {
    let parsed = ListObjectsV2::parse_response(std::str::from_utf8(text).ok()?).ok()?;
    let is_last = parsed.next_continuation_token.is_none();
    // A page without objects would be asked for again and again.
    if parsed.contents.len() > MAX_PAGE_OBJECTS || (parsed.contents.is_empty() && !is_last) {
        return None;
    }
    // Each name is greater than the one before, so that pages end.
    let mut before = after.unwrap_or_default().to_owned();
    let mut objects = Vec::with_capacity(parsed.contents.len());
    for ListObjectsContent { key, etag, size, last_modified, .. } in parsed.contents {
        if key <= before || !key.starts_with(beginning) {
            return None;
        }
        let name = key.strip_prefix(prefix)?.to_owned();
        objects.push(ListedObject { name, etag, len: size?, modified_at: last_modified?.parse().ok()? });
        before = key;
    }
    Some(ObjectPage { objects, is_last, answered_at: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(is_truncated: bool, names: &[&str]) -> String {
        let objects = names.iter().map(|name| {
            format!(
                "<Contents><Key>{name}</Key><LastModified>2026-11-30T05:00:00.250Z</LastModified>\
                 <ETag>&quot;1&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
            )
        });
        let token = if is_truncated { "<NextContinuationToken>t</NextContinuationToken>" } else { "" };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>srm</Name>\
             <IsTruncated>{is_truncated}</IsTruncated>{token}<EncodingType>url</EncodingType>{}</ListBucketResult>",
            objects.collect::<String>()
        )
    }

    fn names(text: &str, after: Option<&str>) -> Option<Vec<String>> {
        let page = parse_page(text.as_bytes(), "p/", "p/claims/", after)?;
        Some(page.objects.into_iter().map(|object| object.name).collect())
    }

    #[test]
    fn names_of_a_page_are_decoded_and_without_the_prefix() {
        let text = page(true, &["p%2Fclaims%2Fa%3D20b.json", "p/claims/%C3%A4+b.json"]);
        let page = parse_page(text.as_bytes(), "p/", "p/claims/", Some("p/claims/a")).expect("a page");
        assert_eq!(page.objects[0].name, "claims/a=20b.json");
        assert_eq!(page.objects[1].name, "claims/ä b.json");
        assert_eq!((page.objects[0].etag.as_deref(), page.objects[0].len, page.is_last), (Some("\"1\""), 7, false));
        assert_eq!(page.objects[0].modified_at, "2026-11-30T05:00:00.250Z".parse().expect("a time"));
    }

    #[test]
    fn a_page_that_leads_nowhere_is_damaged() {
        assert_eq!(names(&page(false, &[]), None), Some(Vec::new()));
        assert_eq!(names(&page(true, &[]), None), None, "more objects, and none of them");
        assert_eq!(names(&page(true, &["p/claims/a"]), Some("p/claims/a")), None, "the same object again");
        assert_eq!(names(&page(false, &["p/claims/b", "p/claims/a"]), None), None, "another order");
        assert_eq!(names(&page(false, &["p/pins/a"]), Some("p/claims/a")), None, "another folder");
        assert_eq!(names("<ListBucketResult/>", None), None);
        assert_eq!(names("", None), None);
    }
}
