//! Converts a forge's JSON to the mirror's types: nulls replaced, times in UTC, the remaining fields kept in order.
//!
//! GitHub and Gitee use the same field names, so one file serves both.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::json_repair::{self, RepairedJson};
use crate::package::{Asset, Release, Repository};

/// One element of a release list.
#[derive(Debug, PartialEq)]
pub(super) enum ReleaseEntry {
    /// A published release.
    Release(Box<Release>),
    /// A published release whose JSON had to be repaired.
    Repaired(Box<Release>),
    /// A draft: only users with push access see it, so the mirror never lists it.
    Draft,
    /// No release: without a tag, or without a date.
    Broken,
}

/// Normalises one release.
pub(super) fn release(json: &[u8]) -> ReleaseEntry {
    let Some(RepairedJson { value: mut rest, is_repaired }) = json_repair::object(json) else {
        return ReleaseEntry::Broken;
    };
    if rest.get("draft") == Some(&Value::Bool(true)) {
        return ReleaseEntry::Draft;
    }
    let Some(tag_name) = take_text(&mut rest, "tag_name").filter(|tag| !tag.is_empty()) else {
        return ReleaseEntry::Broken;
    };
    let created_at = take_time(&mut rest, "created_at");
    let published_at = take_time(&mut rest, "published_at");
    let Some(created_at) = created_at.or(published_at) else { return ReleaseEntry::Broken };
    let assets = match rest.shift_remove("assets") {
        Some(Value::Array(assets)) => assets.into_iter().filter_map(asset).collect(),
        _ => Vec::new(),
    };
    let release = Box::new(Release {
        tag_name,
        name: take_text(&mut rest, "name"),
        created_at,
        published_at,
        prerelease: rest.shift_remove("prerelease") == Some(Value::Bool(true)),
        body: take_text(&mut rest, "body").unwrap_or_default(),
        assets,
        rest,
    });
    if is_repaired { ReleaseEntry::Repaired(release) } else { ReleaseEntry::Release(release) }
}

fn asset(json: Value) -> Option<Asset> {
    let Value::Object(mut rest) = json else { return None };
    Some(Asset {
        name: take_text(&mut rest, "name"),
        size: rest.shift_remove("size").and_then(|size| size.as_u64()),
        content_type: take_text(&mut rest, "content_type"),
        browser_download_url: take_text(&mut rest, "browser_download_url"),
        digest: take_text(&mut rest, "digest"),
        rest,
    })
}

/// Normalises a repository; `None` when its name or its visibility is missing.
///
/// `internal` (Gitee: visible to every signed-in user) counts as private, because it is not visible without a token.
pub(super) fn repository(json: &[u8], default_branch: Option<&str>) -> Option<Repository> {
    let mut rest = json_repair::object(json)?.value;
    let full_name = take_text(&mut rest, "full_name").filter(|name| name.contains('/'))?;
    let private = rest.shift_remove("private")?.as_bool()?;
    let internal = rest.get("internal").and_then(Value::as_bool).unwrap_or(false);
    let default_branch = take_text(&mut rest, "default_branch").or_else(|| default_branch.map(str::to_owned))?;
    Some(Repository { full_name, private: private || internal, default_branch, rest })
}

/// A full commit SHA in lower case; `None` for anything else.
pub(super) fn commit(text: &str) -> Option<String> {
    let text = text.trim();
    (text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())).then(|| text.to_ascii_lowercase())
}

/// Removes a text field; null and other types count as absent.
pub(super) fn take_text(from: &mut Map<String, Value>, field: &str) -> Option<String> {
    match from.shift_remove(field) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

/// Removes a time field; `None` for anything but a time with an offset.
fn take_time(from: &mut Map<String, Value>, field: &str) -> Option<Timestamp> {
    take_text(from, field)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn normalised(json: Value) -> Release {
        match release(json.to_string().as_bytes()) {
            ReleaseEntry::Release(release) => *release,
            other => panic!("{other:?} of {json}"),
        }
    }

    #[test]
    fn nulls_become_absent_and_other_fields_keep_their_order() {
        let got = normalised(json!({
            "url": "https://api.forge.test/1", "zeta": 1, "tag_name": "v1", "name": null, "draft": false, "alpha": [2],
            "prerelease": true, "created_at": "2021-01-04T07:41:23Z", "published_at": null, "body": null,
            "assets": [{"id": 5, "name": "a.zip", "size": 9, "digest": null, "label": ""}, {"browser_download_url": "u"}],
            "zipball_url": null
        }));
        assert_eq!((got.name, got.body.as_str(), got.published_at, got.prerelease), (None, "", None, true));
        assert_eq!(got.rest.keys().collect::<Vec<_>>(), ["url", "zeta", "draft", "alpha", "zipball_url"]);
        assert_eq!((got.assets[0].size, got.assets[0].digest.as_deref()), (Some(9), None));
        assert_eq!(got.assets[0].rest.keys().collect::<Vec<_>>(), ["id", "label"]);
        assert_eq!(got.assets[1].name, None, "an asset without a name stays without one");
    }

    #[test]
    fn a_number_of_another_field_is_passed_on_to_the_last_digit() {
        let got =
            release(br#"{"tag_name": "1", "created_at": "2022-12-31T23:59:59Z", "z": [1.5e93, 0.30000000000000004]}"#);
        let ReleaseEntry::Release(got) = got else { panic!("{got:?}") };
        let text = serde_json::to_string(&got.rest).expect("serialises");
        assert_eq!(text, r#"{"z":[1.5e+93,0.30000000000000004]}"#);
        assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), Value::Object(got.rest));
    }

    #[test]
    fn times_with_an_offset_become_utc() {
        let got = normalised(json!({"tag_name": "1", "created_at": "2022-12-31T23:59:59+08:00"}));
        assert_eq!(got.created_at.to_string(), "2022-12-31T15:59:59Z");
    }

    #[test]
    fn drafts_and_broken_entries_are_distinguished() {
        let draft = json!({"tag_name": "v1", "draft": true, "created_at": "2021-01-04T07:41:23Z"});
        assert_eq!(release(draft.to_string().as_bytes()), ReleaseEntry::Draft);
        for broken in [
            json!({"created_at": "2021-01-04T07:41:23Z"}),
            json!({"tag_name": "", "created_at": "2021-01-04T07:41:23Z"}),
            json!({"tag_name": "v1"}),
            json!({"tag_name": "v1", "created_at": "yesterday"}),
            json!([]),
            json!("v1"),
        ] {
            assert_eq!(release(broken.to_string().as_bytes()), ReleaseEntry::Broken, "{broken}");
        }
    }

    #[test]
    fn a_repository_visible_only_with_a_token_is_private() {
        let read = |json: Value| repository(json.to_string().as_bytes(), None);
        let got = read(json!({"full_name": "A/b", "private": false, "internal": true, "default_branch": "main"}));
        assert!(got.expect("a repository").private);
        assert_eq!(
            read(json!({"full_name": "A/b", "default_branch": "main"})),
            None,
            "a missing field does not mean public"
        );
        assert_eq!(read(json!({"full_name": "A/b", "private": false})), None);
    }

    #[test]
    fn only_forty_hexadecimal_digits_are_a_commit() {
        let sha = "12B27ABB78E04142ADFBDC4AA7FA9571FF05D67B";
        assert_eq!(commit(&format!("{sha}\n")), Some(sha.to_ascii_lowercase()));
        assert_eq!(commit("12b27ab"), None);
        assert_eq!(commit("<html>"), None);
    }
}
