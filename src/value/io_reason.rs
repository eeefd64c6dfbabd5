//! The texts of I/O errors in messages for operators.

use std::io;

/// The text of an I/O error without the system's error number, which adds nothing to it.
pub(crate) fn io_reason(error: &io::Error) -> String {
    without_error_number(&error.to_string()).to_owned()
}

/// The text of an error without the system's error number: `std` has no other form of it.
pub(crate) fn without_error_number(text: &str) -> &str {
    text.split(" (os error ").next().unwrap_or(text)
}
