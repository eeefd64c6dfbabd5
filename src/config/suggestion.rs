//! Suggests the name that was probably meant.

use super::schema::nearest;

/// The clause that suggests the most similar name, or nothing.
pub(super) fn did_you_mean<'a>(
    word: &str,
    names: impl Iterator<Item = &'a str>,
    show: impl FnOnce(&str) -> String,
) -> String {
    nearest(word, names).map(|near| format!("; did you mean {}?", show(near))).unwrap_or_default()
}
