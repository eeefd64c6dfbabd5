//! Splits a JSON array into its elements while it arrives, so that only one element is in memory.
//!
//! By hand, because serde_json cannot parse a document from chunks that arrive asynchronously.

use super::failure::invalid;
use crate::origin::FetchError;

/// Finds the elements of one top-level JSON array in a sequence of chunks.
///
/// Finds only where an element begins and ends; the element's parser decides whether it is JSON. The caller limits the
/// size: an element may be of any length.
#[derive(Default)]
pub(super) struct ArrayElements {
    position: ArrayPosition,
    /// Open brackets and braces within the current element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The part of the current element that arrived with earlier chunks.
    element: Vec<u8>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum ArrayPosition {
    /// Before `[`.
    #[default]
    Before,
    /// After `[`: an element or the end follows.
    First,
    /// After a comma: an element must follow.
    Element,
    /// Within an element.
    Inside,
    /// After the closing bracket.
    After,
}

impl ArrayElements {
    /// Takes the next chunk and calls `each` with every complete element, in order.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when the text is not an array, and the errors of `each`.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let mut start = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            match self.position {
                _ if byte.is_ascii_whitespace() && self.position != ArrayPosition::Inside => {}
                ArrayPosition::Before if byte == b'[' => self.position = ArrayPosition::First,
                ArrayPosition::Before => return Err(invalid("not a JSON array")),
                ArrayPosition::First if byte == b']' => self.position = ArrayPosition::After,
                ArrayPosition::First | ArrayPosition::Element if matches!(byte, b',' | b']') => {
                    return Err(invalid("a JSON array with an empty element"));
                }
                ArrayPosition::First | ArrayPosition::Element => {
                    self.position = ArrayPosition::Inside;
                    start = at;
                    self.inside(byte);
                }
                ArrayPosition::Inside if self.depth == 0 && !self.in_string && matches!(byte, b',' | b']') => {
                    self.position = if byte == b',' { ArrayPosition::Element } else { ArrayPosition::After };
                    if self.element.is_empty() {
                        each(&chunk[start..at])?;
                    } else {
                        self.element.extend_from_slice(&chunk[start..at]);
                        each(&self.element)?;
                        self.element.clear();
                    }
                }
                ArrayPosition::Inside => self.inside(byte),
                ArrayPosition::After => return Err(invalid("data after a JSON array")),
            }
        }
        if self.position == ArrayPosition::Inside {
            self.element.extend_from_slice(&chunk[start..]);
        }
        Ok(())
    }

    /// Checks that the array is complete, after the last chunk.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when the array has not been closed.
    pub(super) fn finish(&self) -> Result<(), FetchError> {
        if self.position == ArrayPosition::After { Ok(()) } else { Err(invalid("a truncated JSON array")) }
    }

    fn inside(&mut self, byte: u8) {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.in_string = true,
            b'[' | b'{' => self.depth += 1,
            b']' | b'}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn split(chunks: &[&[u8]]) -> Result<Vec<Value>, FetchError> {
        let mut elements = ArrayElements::default();
        let mut found = Vec::new();
        for chunk in chunks {
            elements.push(chunk, |bytes| {
                found.push(serde_json::from_slice(bytes).map_err(|_| invalid("element"))?);
                Ok(())
            })?;
        }
        elements.finish().map(|()| found)
    }

    #[test]
    fn elements_are_found_however_the_chunks_are_split() {
        let expected = json!([{"a": "]},[\"\\", "b": [1, [2]]}, "x,y", [], 7, null]);
        let text = format!(" {} \n", serde_json::to_string_pretty(&expected).expect("JSON"));
        for size in 1..text.len() {
            let chunks: Vec<_> = text.as_bytes().chunks(size).collect();
            assert_eq!(split(&chunks).map(Value::from), Ok(expected.clone()), "split every {size} bytes");
        }
        assert_eq!(split(&[b"[", b"]"]), Ok(vec![]));
    }

    #[test]
    fn text_that_is_not_a_complete_array_is_rejected() {
        for text in ["", "null", "{}", "<html>", "[", "[1", "[1,", "[1,]", "[,1]", "[1]]", "[1] x", "[\"]"] {
            assert!(matches!(split(&[text.as_bytes()]), Err(FetchError::Invalid(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_or_rejected(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
            let chunks: Vec<_> = bytes.chunks(size).collect();
            let whole = split(&[&bytes]);
            prop_assert_eq!(split(&chunks).is_ok(), whole.is_ok());
            if let Ok(Value::Array(values)) = serde_json::from_slice::<Value>(&bytes) {
                prop_assert_eq!(whole, Ok(values));
            }
        }
    }
}
