//! The words that have a meaning of their own in paths.

/// First segments that select a dialect or a resource of the mirror. The upstreams' names are reserved as well.
pub(super) const RESERVED_SEGMENTS: [&str; 8] = ["repos", "api", "simple", "v3", "healthz", "readyz", "metrics", "-"];
/// The segments that follow the name of a package.
pub(super) const ROUTE_WORDS: [&str; 4] = ["releases", "zipball", "flat", "metadata"];

/// True for a word that has a meaning of its own in paths, so that no upstream and no alias may have it as its name.
/// Compares with case.
pub fn is_reserved_word(word: &str) -> bool {
    RESERVED_SEGMENTS.contains(&word) || ROUTE_WORDS.contains(&word)
}
