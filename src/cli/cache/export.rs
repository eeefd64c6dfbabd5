//! `srm-mirror cache export`: writes a bundle for a network without internet.

use std::{io, path::Path};

use serde_json::json;

use crate::{
    admin_api::{CountHosted, ExportArchives, LeftOut},
    atomic_file::{AtomicFile, SHARED_FILE_MODE},
    cli::{
        FAILED,
        admin_args::AdminArgs,
        admin_client::{self, AdminClient},
        byte_bar::ByteBar,
        escape_terminal, print,
    },
    value::text::size,
};

mod writer;

use writer::{BundleSize, BundleWriter, LeftOutZip};

/// Writes the selected zips and their documents to `file`, which appears only when it is complete. Exit code 1 when the
/// pattern selects nothing, or when the bucket does not have what it should.
pub(super) fn run(cache: &AdminArgs, file: &Path, request: ExportArchives, json: bool) -> anyhow::Result<u8> {
    let archive = AtomicFile::create(file, SHARED_FILE_MODE).map_err(cannot_write(file))?;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let documents = tempfile::tempfile_in(folder).map_err(cannot_write(file))?;
    let mut published = 0;
    let written = admin_client::run_at(cache, async |client| {
        published = published_count(client, request.pattern.clone()).await;
        BundleWriter::new(client, archive.file(), documents, file, ByteBar::new("export")).write(&request).await
    });
    let BundleSize { zips, from_bucket, bytes, left_out } = written?;
    if !json {
        left_out.iter().for_each(|zip| print(&left_out_line(zip)));
    }
    let is_empty = zips == 0;
    if !is_empty {
        archive.publish().map_err(cannot_write(file))?;
    }
    let mut report = json!({"zips": zips, "published_left_out": published});
    if !is_empty {
        report["bytes"] = json!(bytes);
        report["file"] = json!(file);
    }
    if request.shared {
        report["from_bucket"] = json!(from_bucket);
        let rows = left_out.iter().map(|LeftOutZip { key, why }| json!({"key": key, "why": why}));
        report["left_out"] = rows.collect();
    }
    print(&if json {
        format!("{report}\n")
    } else if is_empty && !left_out.is_empty() {
        format!("all selected zips are left out; there is no bundle\n{}", published_left_out(published))
    } else if is_empty {
        format!("no stored zip matches\n{}", published_left_out(published))
    } else {
        let of_bucket = if request.shared { format!(" ({from_bucket} from the bucket)") } else { String::new() };
        let size = size(bytes);
        format!("{zips} zips{of_bucket}, {size} in {}\n{}", file.display(), published_left_out(published))
    });
    Ok(if is_empty || !left_out.is_empty() { FAILED } else { 0 })
}

/// The line about a version that is left out.
fn left_out_line(LeftOutZip { key, why }: &LeftOutZip) -> String {
    let key = escape_terminal(key.as_str());
    match why {
        LeftOut::Unreadable => format!("unreadable  {key}: its claim in the bucket is damaged; left out\n"),
        LeftOut::Mismatch => format!("mismatch  {key}: other content is pinned here than in the bucket; left out\n"),
        LeftOut::Missing => format!("missing  {key}: the bucket has a claim of it and not its bytes; left out\n"),
        LeftOut::Damaged => format!("damaged  {key}: its bytes do not have their digest; left out\n"),
    }
}

/// The number of published versions that a pattern selects; 0 where the mirror cannot say it.
async fn published_count(client: &AdminClient, pattern: Option<String>) -> usize {
    client.call(&CountHosted { pattern }).await.map(|count| count.versions).unwrap_or_default()
}

/// The line about published versions that are selected, and that no bundle has.
fn published_left_out(published: usize) -> String {
    if published == 0 {
        return String::new();
    }
    format!("{published} published versions match and are in no bundle; srm-mirror host export backs them up\n")
}

/// Adds the name of the file to an error of the file system.
fn cannot_write(file: &Path) -> impl FnOnce(io::Error) -> anyhow::Error {
    move |error| anyhow::Error::from(error).context(format!("cannot write {}", file.display()))
}
