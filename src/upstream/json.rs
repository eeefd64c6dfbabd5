//! Cuts a JSON array into its elements while it arrives, so that only one of them is ever held.

use super::failure::invalid;
use crate::origin::FetchError;

/// Finds the elements of one top-level JSON array in a sequence of chunks.
///
/// It only finds where an element begins and ends; whether the text between is JSON is for the element's parser to say.
/// The caller counts the bytes: nothing here limits the length of one element.
#[derive(Default)]
pub(super) struct ArrayElements {
    state: State,
    /// Open brackets and braces within the present element.
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The part of the present element that came with earlier chunks.
    element: Vec<u8>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// Nothing but white space so far.
    #[default]
    Before,
    /// After `[`: an element or the end.
    First,
    /// After a comma: an element must follow.
    Element,
    /// Within an element.
    Inside,
    /// After the closing bracket.
    After,
}

impl ArrayElements {
    /// Takes the next chunk and hands each element that is complete to `each`, in order.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] for what is not an array, and whatever `each` fails with.
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), FetchError>,
    ) -> Result<(), FetchError> {
        let mut start = 0;
        for (at, &byte) in chunk.iter().enumerate() {
            match self.state {
                _ if byte.is_ascii_whitespace() && self.state != State::Inside => {}
                State::Before if byte == b'[' => self.state = State::First,
                State::Before => return Err(invalid("not a JSON array")),
                State::First if byte == b']' => self.state = State::After,
                State::First | State::Element if matches!(byte, b',' | b']') => {
                    return Err(invalid("a JSON array with an empty place"));
                }
                State::First | State::Element => {
                    self.state = State::Inside;
                    start = at;
                    self.inside(byte);
                }
                State::Inside if self.depth == 0 && !self.in_string && matches!(byte, b',' | b']') => {
                    self.state = if byte == b',' { State::Element } else { State::After };
                    if self.element.is_empty() {
                        each(&chunk[start..at])?;
                    } else {
                        self.element.extend_from_slice(&chunk[start..at]);
                        each(&self.element)?;
                        self.element.clear();
                    }
                }
                State::Inside => self.inside(byte),
                State::After => return Err(invalid("something after a JSON array")),
            }
        }
        if self.state == State::Inside {
            self.element.extend_from_slice(&chunk[start..]);
        }
        Ok(())
    }

    /// Says that no chunk follows.
    ///
    /// # Errors
    /// [`FetchError::Invalid`] when the array has not been closed.
    pub(super) fn end(&self) -> Result<(), FetchError> {
        if self.state == State::After { Ok(()) } else { Err(invalid("a JSON array that ends too early")) }
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
        elements.end().map(|()| found)
    }

    #[test]
    fn elements_are_found_wherever_the_chunks_are_cut() {
        let want = json!([{"a": "]},[\"\\", "b": [1, [2]]}, "x,y", [], 7, null]);
        let text = format!(" {} \n", serde_json::to_string_pretty(&want).expect("JSON"));
        for size in 1..text.len() {
            let chunks: Vec<_> = text.as_bytes().chunks(size).collect();
            assert_eq!(split(&chunks).map(Value::from), Ok(want.clone()), "cut every {size} bytes");
        }
        assert_eq!(split(&[b"[", b"]"]), Ok(vec![]));
    }

    #[test]
    fn what_is_not_a_whole_array_is_refused() {
        for text in ["", "null", "{}", "<html>", "[", "[1", "[1,", "[1,]", "[,1]", "[1]]", "[1] x", "[\"]"] {
            assert!(matches!(split(&[text.as_bytes()]), Err(FetchError::Invalid(_))), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), size in 1usize..50) {
            let chunks: Vec<_> = bytes.chunks(size).collect();
            let whole = split(&[&bytes]);
            prop_assert_eq!(split(&chunks).is_ok(), whole.is_ok());
            if let Ok(Value::Array(values)) = serde_json::from_slice::<Value>(&bytes) {
                prop_assert_eq!(whole, Ok(values));
            }
        }
    }
}
