//! `srm-mirror shared push`.

use crate::{
    admin_api::{PushArchives, PushEvent, PushState},
    cli::{
        FAILED,
        admin_args::AdminArgs,
        admin_client::{self, Unavailable},
        byte_bar::ByteBar,
        escape_terminal, print,
    },
    value::text::size,
};

/// Uploads what a mirror has stored. Exit code 1 when the bucket has other content for a version, or something cannot be
/// read.
pub(super) fn run(mirror: &AdminArgs, json: bool) -> anyhow::Result<u8> {
    let mut totals = PushTotals::default();
    let bar = ByteBar::new("push");
    admin_client::run_at(mirror, async |client| {
        let each = |event: PushEvent| {
            if json {
                print_json(&event)?;
            }
            if let Some(line) = totals.add(&event, &bar).filter(|_| !json) {
                bar.print(&line);
            }
            Ok(())
        };
        client.subscribe(&PushArchives {}, each).await
    })?;
    drop(bar);
    if json {
        print_json(&totals.event())?;
    } else {
        print(&totals.text());
    }
    if let Some(why) = totals.stopped {
        return Err(Unavailable(format!("the uploads have stopped, and can be repeated: {why}")).into());
    }
    Ok(if totals.mismatches + totals.unreadable == 0 { 0 } else { FAILED })
}

fn print_json(event: &PushEvent) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string(event)?));
    Ok(())
}

/// The sums over all events.
#[derive(Default)]
struct PushTotals {
    pins: u64,
    uploaded: u64,
    bytes: u64,
    present: u64,
    gone: u64,
    mismatches: u64,
    unreadable: u64,
    stopped: Option<String>,
}

impl PushTotals {
    /// Counts an event; its line, where an operator should see one.
    fn add(&mut self, event: &PushEvent, bar: &ByteBar) -> Option<String> {
        match event {
            PushEvent::Begin { bytes, .. } => bar.set_length(*bytes),
            PushEvent::Pins { pins } => self.pins = *pins,
            PushEvent::Mismatch { key } => {
                self.mismatches += 1;
                return Some(format!("other content in the bucket  {}\n", escape_terminal(key.as_str())));
            }
            PushEvent::Zip { key, size, state } => {
                bar.advance(*size);
                match state {
                    PushState::Uploaded => {
                        self.uploaded += 1;
                        self.bytes += size;
                    }
                    PushState::Present => self.present += 1,
                    PushState::Gone => self.gone += 1,
                    PushState::Unreadable => {
                        self.unreadable += 1;
                        return Some(format!("cannot be read  {}\n", escape_terminal(key.as_str())));
                    }
                }
            }
            PushEvent::Stopped { message } => self.stopped = Some(message.clone()),
            PushEvent::End { .. } => {}
        }
        None
    }

    fn event(&self) -> PushEvent {
        let &Self { pins, uploaded, bytes, present, gone, mismatches, unreadable, .. } = self;
        PushEvent::End { pins, uploaded, bytes, present, gone, mismatches, unreadable }
    }

    fn text(&self) -> String {
        let Self { pins, uploaded, bytes, present, gone, mismatches, unreadable, .. } = self;
        let mut text = format!("{pins} pins, {uploaded} zips ({}) uploaded, {present} were there", size(*bytes));
        for (count, what) in [
            (gone, "evicted or removed before"),
            (mismatches, "versions have other content in the bucket, which counts"),
            (unreadable, "cannot be read"),
        ] {
            if *count > 0 {
                text += &format!("; {count} {what}");
            }
        }
        text + "\n"
    }
}
