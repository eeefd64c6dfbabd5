//! One JSON object whose first member is an array of zips, printed as these come: none of them is held.

use serde_json::Value;

use super::ls::PrintBuffer;
use crate::admin_api::ArchiveRow;

/// The object. Nothing may be printed beside it before its end.
pub(super) struct ZipArray {
    out: PrintBuffer,
    /// What stands before the next zip.
    separator: &'static str,
}

impl ZipArray {
    pub(super) fn new() -> Self {
        Self { out: PrintBuffer::default(), separator: "{\"zips\":[" }
    }

    /// Adds a zip.
    pub(super) fn add(&mut self, zip: &ArchiveRow) -> anyhow::Result<()> {
        self.out.add(self.separator);
        self.out.add(&serde_json::to_string(zip)?);
        self.separator = ",";
        Ok(())
    }

    /// Prints the other members, of which there is at least one, and the end of the line.
    pub(super) fn finish(mut self, rest: &Value) {
        if self.separator != "," {
            self.out.add(self.separator);
        }
        self.out.add(&format!("],{}\n", rest.to_string().trim_start_matches('{')));
        self.out.flush();
    }
}
