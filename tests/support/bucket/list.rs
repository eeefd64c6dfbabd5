//! The lists of a scripted bucket: `ListObjectsV2`, with encoded names.

use std::{fmt::Write as _, ops::Bound, sync::atomic::Ordering};

use http::{Method, request::Parts};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::BucketState;

/// Most objects of a page, as with real services.
const MAX_OBJECTS: usize = 1000;

/// A request for a list.
pub struct ListQuery {
    beginning: String,
    after: Option<String>,
    max_objects: usize,
}

impl ListQuery {
    pub fn parse(head: &Parts) -> Option<Self> {
        if head.method != Method::GET {
            return None;
        }
        let address = url::Url::parse(&format!("http://bucket{}", head.uri)).expect("an address");
        let parameter = |name: &str| address.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into());
        parameter("list-type").filter(|kind: &String| kind == "2")?;
        assert_eq!(parameter("encoding-type").as_deref(), Some("url"));
        let max_objects = parameter("max-keys").map_or(MAX_OBJECTS, |max| max.parse().expect("a number"));
        let beginning = parameter("prefix").unwrap_or_default();
        Some(Self { beginning, after: parameter("start-after"), max_objects: max_objects.min(MAX_OBJECTS) })
    }

    pub fn beginning(&self) -> &str {
        &self.beginning
    }

    pub fn answer(&self, state: &BucketState) -> String {
        let stale = state.stale_list.lock().expect("no panic");
        let present = state.objects.lock().expect("no panic");
        let objects = stale.as_ref().unwrap_or(&present);
        let of_page = match state.page_objects.load(Ordering::SeqCst) {
            0 => self.max_objects,
            objects => objects,
        };
        let from = self.after.as_deref().filter(|after| *after >= self.beginning.as_str());
        let from = from.map_or(Bound::Included(self.beginning.as_str()), Bound::Excluded);
        let found = objects.range::<str, _>((from, Bound::Unbounded));
        let mut found = found.take_while(|(name, _)| name.starts_with(&self.beginning)).peekable();
        let mut contents = String::new();
        for (name, object) in found.by_ref().take(of_page) {
            let name = percent_encode(name.as_bytes(), NON_ALPHANUMERIC);
            let etag = object.etag.trim_matches('"');
            let at = object.modified_at;
            let len = object.bytes.len();
            let _ = write!(
                contents,
                "<Contents><Key>{name}</Key><LastModified>{at:.3}</LastModified><ETag>&quot;{etag}&quot;</ETag>\
                 <Size>{len}</Size><StorageClass>STANDARD</StorageClass></Contents>"
            );
        }
        let is_truncated = found.peek().is_some();
        let token = if is_truncated { "<NextContinuationToken>next</NextContinuationToken>" } else { "" };
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
             <ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><IsTruncated>{is_truncated}</IsTruncated>\
             {token}<EncodingType>url</EncodingType>{contents}</ListBucketResult>"
        )
    }
}
