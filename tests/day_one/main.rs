//! What a newcomer does and gets wrong on the first day: README copied in order, and the mistakes at the command line.
#![allow(clippy::unwrap_used)]

mod command_line;
mod readme;
mod run;
mod terminal;
