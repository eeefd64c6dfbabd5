//! The last warnings and errors of the process log, for `srm-mirror status`.

use std::{collections::VecDeque, fmt::Write as _};

use jiff::Timestamp;
use parking_lot::Mutex;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Most events that are kept.
const MAX_RECENT_EVENTS: usize = 50;
/// Longest text of an event, bytes.
const MAX_EVENT_TEXT_BYTES: usize = 400;

static RECENT: Mutex<VecDeque<RecentEvent>> = Mutex::new(VecDeque::new());

/// A warning or an error of the process log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentEvent {
    /// When.
    pub at: Timestamp,
    /// True for an error, false for a warning.
    pub is_error: bool,
    /// The message and its fields, cut at 400 bytes.
    pub text: String,
}

/// The last 50 warnings and errors, the oldest first.
pub fn recent_events() -> Vec<RecentEvent> {
    RECENT.lock().iter().cloned().collect()
}

/// Keeps the last warnings and errors.
pub(super) struct RecentLayer;

impl<S: Subscriber> Layer<S> for RecentLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        if level > Level::WARN {
            return;
        }
        let mut text = EventText::default();
        event.record(&mut text);
        let recent = RecentEvent { at: Timestamp::now(), is_error: level == Level::ERROR, text: text.finish() };
        let mut events = RECENT.lock();
        if events.len() >= MAX_RECENT_EVENTS {
            events.pop_front();
        }
        events.push_back(recent);
    }
}

/// The text of an event: its message, then `key=value` for each field.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl EventText {
    fn finish(mut self) -> String {
        self.message.push_str(&self.fields);
        self.message.truncate(self.message.floor_char_boundary(MAX_EVENT_TEXT_BYTES));
        self.message
    }
}

impl Visit for EventText {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a text does not fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.fields, " {field}={value:?}")
        };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = if field.name() == "message" {
            self.message.write_str(value)
        } else {
            write!(self.fields, " {field}={value}")
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn the_last_warnings_are_kept_with_their_fields_and_within_a_limit() {
        let subscriber = tracing_subscriber::registry().with(RecentLayer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("nothing to see");
            for number in 0..2 * MAX_RECENT_EVENTS {
                tracing::warn!(number, upstream = "github", "the upstream is short of places");
            }
            tracing::error!(text = "x".repeat(1000), "a long one");
        });
        let events = recent_events();
        assert_eq!(events.len(), MAX_RECENT_EVENTS);
        assert_eq!(events[48].text, "the upstream is short of places number=99 upstream=github");
        let last = events.last().expect("an event");
        assert!(last.is_error && last.text.len() == MAX_EVENT_TEXT_BYTES, "{last:?}");
    }
}
