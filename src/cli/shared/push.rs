//! `srm-mirror shared push`.

use crate::{
    admin_api::{PushArchives, PushEvent, PushState, PushSums},
    cli::{
        FAILED,
        admin_args::AdminArgs,
        admin_client::{self, Unavailable},
        byte_bar::ByteBar,
        escape_terminal, print,
    },
    entry::Key,
    value::text::size,
};

/// Uploads what a mirror has stored. Exit code 1 when the bucket has other content for a version or does not take
/// a recorded source, or something cannot be read, here or there.
pub(super) fn run(mirror: &AdminArgs, json: bool) -> anyhow::Result<u8> {
    let bar = ByteBar::new("push");
    let mut stopped = None;
    let mut end = None;
    admin_client::run_at(mirror, async |client| {
        let each = |event: PushEvent| {
            if json {
                print(&format!("{}\n", serde_json::to_string(&event)?));
            }
            if let Some(line) = show(&event, &bar).filter(|_| !json) {
                bar.print(&line);
            }
            match event {
                PushEvent::Stopped { message } => stopped = Some(message),
                PushEvent::End(sums) => end = Some(sums),
                _ => {}
            }
            Ok(())
        };
        client.subscribe(&PushArchives {}, each).await
    })?;
    drop(bar);
    let Some(sums) = end else {
        return Err(
            Unavailable("the mirror ended before everything was uploaded; it can be repeated".to_owned()).into()
        );
    };
    if !json {
        print(&text(&sums));
    }
    if let Some(why) = stopped {
        return Err(Unavailable(format!("the uploads have stopped, and can be repeated: {why}")).into());
    }
    let failed = sums.mismatches + sums.unpinned + sums.unreadable + sums.damaged + sums.sources;
    Ok(if failed == 0 { 0 } else { FAILED })
}

/// Shows the progress; the line of an event, where an operator should see one.
fn show(event: &PushEvent, bar: &ByteBar) -> Option<String> {
    let line_of = |what: &str, name: &str| Some(format!("{what}  {}\n", escape_terminal(name)));
    let line = |what: &str, key: &Key| line_of(what, key.as_str());
    match event {
        PushEvent::Begin { bytes, .. } => bar.set_length(*bytes),
        PushEvent::Source { name, dialect } => {
            return line_of("source not taken by the bucket", &format!("{name} ({})", dialect.as_str()));
        }
        PushEvent::Mismatch { key } => return line("other content in the bucket", key),
        PushEvent::Zip { key, size, state } => {
            bar.advance(*size);
            match state {
                PushState::Unpinned => return line("not what is pinned", key),
                PushState::Unreadable => return line("cannot be read", key),
                PushState::Damaged => return line("damaged in the bucket", key),
                PushState::Uploaded | PushState::Present | PushState::Gone => {}
            }
        }
        PushEvent::Pins { .. } | PushEvent::Stopped { .. } | PushEvent::End(_) => {}
    }
    None
}

fn text(sums: &PushSums) -> String {
    let PushSums { pins, uploaded, bytes, present, gone, mismatches, unpinned, unreadable, damaged, sources } = sums;
    let mut text = format!("{pins} pins, {uploaded} zips ({}) uploaded, {present} were there", size(*bytes));
    for (count, what) in [
        (gone, "evicted or removed before"),
        (mismatches, "versions have other content in the bucket, which counts"),
        (unpinned, "are not what is pinned, and were not uploaded"),
        (unreadable, "cannot be read"),
        (damaged, "are damaged in the bucket"),
        (sources, "recorded sources were not taken by the bucket"),
    ] {
        if *count > 0 {
            text += &format!("; {count} {what}");
        }
    }
    text + "\n"
}
