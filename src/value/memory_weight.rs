//! Bytes of memory that values take: what a cache of them counts, so that its limit holds.
//!
//! Every allocation is counted as the C library rounds it: a list of a million empty texts takes far more memory than its
//! JSON.

use serde_json::{Map, Value};

/// Bytes that a cache needs for an entry of its own: its key's allocation, its nodes, its counters.
pub const CACHE_ENTRY_BYTES: usize = 256;

/// Room at the end of a list that may be resident, bytes: pages that were never written take no memory.
const UNTOUCHED_BYTES: usize = 4096;

/// Adds up what is allocated for values, beside the values themselves, until a limit is reached.
#[derive(Debug)]
pub struct MemoryWeight {
    bytes: usize,
    limit: usize,
}

impl MemoryWeight {
    /// Counts everything.
    pub fn unlimited() -> Self {
        Self::up_to(usize::MAX)
    }

    /// Counts until `limit` is exceeded; after that, values need not be counted to their end.
    pub fn up_to(limit: usize) -> Self {
        Self { bytes: 0, limit }
    }

    /// The sum so far.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True when the sum exceeds the limit.
    pub fn is_over(&self) -> bool {
        self.bytes > self.limit
    }

    /// Adds one allocation of `bytes`; none for an empty one.
    pub fn add_allocation(&mut self, bytes: usize) {
        // A header of 8 bytes, rounded up to 16, at least 32.
        let rounded = if bytes == 0 { 0 } else { bytes.saturating_add(8).next_multiple_of(16).max(32) };
        self.bytes = self.bytes.saturating_add(rounded);
    }

    /// Adds what is allocated for a text.
    pub fn add_text(&mut self, text: &str) {
        self.add_allocation(text.len());
    }

    /// Adds what is allocated for a text that may be absent.
    pub fn add_optional_text(&mut self, text: &Option<String>) {
        self.add_text(text.as_deref().unwrap_or_default());
    }

    /// Adds what is allocated for a list, without what its items allocate themselves.
    pub fn add_list<T>(&mut self, items: &Vec<T>) {
        let used = items.len().saturating_mul(size_of::<T>());
        let room = items.capacity().saturating_mul(size_of::<T>());
        self.add_allocation(room.min(used.saturating_add(UNTOUCHED_BYTES)));
    }

    /// Adds what is allocated for a JSON value.
    pub fn add_json(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.add_text(text),
            Value::Array(items) => {
                self.add_list(items);
                for item in items {
                    if self.is_over() {
                        return;
                    }
                    self.add_json(item);
                }
            }
            Value::Object(fields) => self.add_fields(fields),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// Adds what is allocated for the fields of a JSON object: a list of entries and a hash table of their places.
    pub fn add_fields(&mut self, fields: &Map<String, Value>) {
        if fields.is_empty() {
            return;
        }
        // A table is filled to seven eighths; the list has room for as many entries as the table.
        let buckets = match fields.len() {
            ..=3 => 4,
            4..=7 => 8,
            len => (len.saturating_mul(8) / 7).next_power_of_two(),
        };
        let room = if buckets <= 8 { buckets - 1 } else { buckets / 8 * 7 };
        self.add_allocation(buckets.saturating_mul(size_of::<usize>() + 1).saturating_add(16));
        let entry = size_of::<(usize, String, Value)>();
        let used = fields.len().saturating_mul(entry).saturating_add(UNTOUCHED_BYTES);
        self.add_allocation(room.saturating_mul(entry).min(used));
        for (name, value) in fields {
            if self.is_over() {
                return;
            }
            self.add_text(name);
            self.add_json(value);
        }
    }
}

/// A value that is counted by what is allocated for it.
pub trait Weigh {
    /// Adds what is allocated for the value, without the value itself.
    fn weigh(&self, weight: &mut MemoryWeight);
}

/// Bytes that JSON takes while it is parsed and once it is, the text included: an upper estimate, without parsing. A list
/// of empty objects takes far more than its text.
pub fn json_estimate(text: &[u8]) -> u64 {
    /// A field's name, its entry and its place in the hash table; the first one of an object needs the most.
    const VALUE_BYTES: usize = 320;
    let values = text.iter().filter(|byte| matches!(byte, b',' | b'{' | b'[')).count();
    (2 * text.len() + VALUE_BYTES * values) as u64
}

/// A weight as caches take it.
pub fn clamped(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
