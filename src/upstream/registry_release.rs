//! Converts the JSON of registries to the mirror's types. Only the tag of a release is certain; every other field may be
//! absent or of another type.

use std::collections::HashMap;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Map, Value};

use super::normalise::take_text;
use crate::{
    entry::Document,
    package::{CatalogPackage, Release, Releases, semantic},
};

/// The least time that is read as milliseconds since 1970; smaller numbers are seconds.
const MIN_MILLISECONDS: i64 = 100_000_000_000;

/// When releases without a date were first seen: what the stored document says of them, else now.
pub(super) struct FirstSeenDates {
    known: HashMap<String, Timestamp>,
    now: Timestamp,
}

impl FirstSeenDates {
    /// Takes the date of the stored release.
    pub(super) fn of_release(stored: Option<&Document>) -> Self {
        let release = stored.and_then(|document| serde_json::from_slice::<Release>(&document.body).ok());
        Self::of(release)
    }

    /// Takes the dates of the stored release list.
    pub(super) fn of_list(stored: Option<&Document>) -> Self {
        let list = stored.and_then(|document| serde_json::from_slice::<Releases>(&document.body).ok());
        Self::of(list.unwrap_or_default().releases)
    }

    fn of(releases: impl IntoIterator<Item = Release>) -> Self {
        let known = releases.into_iter().map(|release| (release.tag_name, release.created_at)).collect();
        Self { known, now: Timestamp::now() }
    }

    fn get(&self, tag: &str) -> Timestamp {
        self.known.get(tag).copied().unwrap_or(self.now)
    }
}

/// Normalises one release; `None` without a tag. Everything else that the registry sends stays in `rest`, except the
/// address of the zip, which may be signed.
pub(super) fn release(mut rest: Map<String, Value>, first_seen: &FirstSeenDates) -> Option<Release> {
    let tag_name = take_text(&mut rest, "tag_name").filter(|tag| !tag.is_empty())?;
    rest.shift_remove("zipball_url");
    let created_at = take_time(&mut rest, "created_at");
    let published_at = take_time(&mut rest, "published_at");
    let prerelease = match rest.shift_remove("prerelease") {
        Some(Value::Bool(prerelease)) => prerelease,
        _ => semantic(&tag_name).is_none_or(|version| !version.pre.is_empty()),
    };
    let notes = take_text(&mut rest, "body");
    let notes = notes.or_else(|| take_text(&mut rest, "version_body"));
    Some(Release {
        name: take_text(&mut rest, "name"),
        created_at: created_at.or(published_at).unwrap_or_else(|| first_seen.get(&tag_name)),
        published_at,
        prerelease,
        body: notes.unwrap_or_default(),
        assets: Vec::new(),
        tag_name,
        rest,
    })
}

/// Normalises one row of the catalog; `None` without a name.
pub(super) fn catalog_package(row: &Map<String, Value>) -> Option<CatalogPackage> {
    let word = |field: &str| row.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    Some(CatalogPackage {
        name: word("name")?,
        kind: match row.get("type") {
            Some(Value::Number(number)) => match number.as_u64() {
                Some(1) => Some("Component".to_owned()),
                Some(2) => Some("Plugin".to_owned()),
                Some(3) => Some("Project".to_owned()),
                _ => None,
            },
            _ => word("type"),
        },
        description: word("description"),
        category: row.get("category").and_then(name_of),
        tags: row.get("tags").map(names_of).unwrap_or_default(),
        provider: row.get("provider").map(names_of).unwrap_or_default(),
        download: row.get("download").and_then(Value::as_u64),
        user: row.get("user").and_then(name_of),
        organization: row.get("organization").and_then(name_of),
    })
}

/// A name that is written as a text or as an object with a name.
fn name_of(value: &Value) -> Option<String> {
    let name = match value {
        Value::Object(object) => object.get("name").or_else(|| object.get("username"))?,
        value => value,
    };
    name.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

/// Names that are written as an array, or as one of its elements.
fn names_of(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().filter_map(name_of).collect(),
        value => name_of(value).into_iter().collect(),
    }
}

/// Removes a time. One without an offset counts as UTC; a number counts the seconds or milliseconds since 1970.
fn take_time(from: &mut Map<String, Value>, field: &str) -> Option<Timestamp> {
    match from.shift_remove(field)? {
        Value::String(text) => {
            let without_offset = || text.parse::<DateTime>().ok()?.to_zoned(TimeZone::UTC).ok();
            text.parse().ok().or_else(|| without_offset().map(|time| time.timestamp()))
        }
        Value::Number(number) => {
            let number = number.as_i64()?;
            let is_milliseconds = number >= MIN_MILLISECONDS;
            if is_milliseconds { Timestamp::from_millisecond(number).ok() } else { Timestamp::from_second(number).ok() }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(json: Value) -> Map<String, Value> {
        match json {
            Value::Object(object) => object,
            other => panic!("{other}"),
        }
    }

    fn normalised(json: Value) -> Release {
        release(object(json), &FirstSeenDates::of_release(None)).expect("a release")
    }

    #[test]
    fn every_form_of_a_time_is_read_and_an_unknown_one_is_the_time_first_seen() {
        for (time, expected) in [
            (json!("2024-01-01T09:00:00+08:00"), "2024-01-01T01:00:00Z"),
            (json!("2024-01-01T01:00:00Z"), "2024-01-01T01:00:00Z"),
            (json!("2024-01-01 01:00:00"), "2024-01-01T01:00:00Z"),
            (json!(1_704_070_800), "2024-01-01T01:00:00Z"),
            (json!(1_704_070_800_000_i64), "2024-01-01T01:00:00Z"),
        ] {
            assert_eq!(normalised(json!({"tag_name": "1.0.0", "created_at": time})).created_at.to_string(), expected);
        }
        let before = Timestamp::now();
        for time in [json!("yesterday"), json!(null), json!({})] {
            assert!(normalised(json!({"tag_name": "1.0.0", "created_at": time})).created_at >= before, "{time}");
        }
    }

    #[test]
    fn the_tag_alone_makes_a_release_and_the_address_of_the_zip_is_dropped() {
        let got = normalised(json!({"tag_name": "0.1.22", "zipball_url": "https://x.test/?Signature=s", "syaml": "x"}));
        assert_eq!((got.tag_name.as_str(), got.body.as_str(), got.prerelease), ("0.1.22", "", false));
        assert_eq!(got.rest.keys().collect::<Vec<_>>(), ["syaml"]);
        for tag in ["dev", "dev.2", "1.0.0-rc.1"] {
            assert!(normalised(json!({"tag_name": tag})).prerelease, "{tag}");
        }
        for broken in [json!({}), json!({"tag_name": ""}), json!({"tag_name": 1})] {
            assert_eq!(release(object(broken), &FirstSeenDates::of_release(None)), None);
        }
    }

    #[test]
    fn the_rows_of_the_catalog_are_read_in_either_form() {
        let long = json!({
            "id": 7, "type": 2, "name": "p", "description": "d", "show": 1, "organization": {"id": 1, "name": "o"},
            "user": {"id": 1, "username": "u"}, "download": 9, "provider": ["a", "b"], "platform": 3,
            "category": {"id": 1, "name": "c"}, "tags": [{"name": "t"}, "s"]
        });
        let got = catalog_package(&object(long)).expect("a package");
        assert_eq!((got.name.as_str(), got.kind.as_deref(), got.category.as_deref()), ("p", Some("Plugin"), Some("c")));
        assert_eq!(
            (got.tags, got.provider, got.download),
            (vec!["t".into(), "s".into()], vec!["a".into(), "b".into()], Some(9))
        );
        assert_eq!((got.user.as_deref(), got.organization.as_deref()), (Some("u"), Some("o")));
        let short = json!({"name": "p", "type": "Component", "category": "c", "provider": "a", "tags": null});
        let got = catalog_package(&object(short)).expect("a package");
        assert_eq!((got.kind.as_deref(), got.category.as_deref()), (Some("Component"), Some("c")));
        assert_eq!((got.provider, got.tags), (vec!["a".to_owned()], Vec::<String>::new()));
        assert_eq!(catalog_package(&object(json!({"type": 1}))), None);
    }
}
