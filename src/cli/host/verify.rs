//! `srm-mirror host verify`.

use crate::{
    admin_api::{HostedCheck, HostedDamage, VerifyHosted},
    cli::{
        FAILED,
        admin_args::AdminArgs,
        admin_client::{self, Unavailable},
        byte_bar::ByteBar,
        escape_terminal, print,
    },
    value::text::size,
};

/// Verifies everything that is published. Exit code 1 when something is damaged, 69 when not everything could be verified.
pub(super) fn run(mirror: &AdminArgs, json: bool) -> anyhow::Result<u8> {
    let bar = ByteBar::new("verify");
    let mut end = None;
    admin_client::run_at(mirror, async |client| {
        let each = |step: HostedCheck| {
            if json {
                print(&format!("{}\n", serde_json::to_string(&step)?));
            }
            match &step {
                HostedCheck::Begin { bytes, .. } => bar.set_length(*bytes),
                HostedCheck::Zip { bytes } => bar.advance(*bytes),
                HostedCheck::Damaged(damage) if !json => bar.print(&line(damage)),
                HostedCheck::Damaged(_) => {}
                HostedCheck::End { .. } => end = Some(step),
            }
            Ok(())
        };
        client.subscribe(&VerifyHosted {}, each).await
    })?;
    drop(bar);
    let Some(HostedCheck::End { versions, zips, bytes, damaged, unchecked }) = end else {
        return Err(Unavailable("the mirror ended before everything was verified".to_owned()).into());
    };
    if !json {
        print(&format!("{versions} versions and {zips} zips ({}) verified: {damaged} damaged\n", size(bytes)));
    }
    match (damaged, unchecked) {
        (0, 0) => Ok(0),
        (0, _) => {
            let why = "the shared bucket has them, and cannot be used or finds no room here; try again";
            Err(Unavailable(format!("{unchecked} zips could not be verified: {why}")).into())
        }
        _ => Ok(FAILED),
    }
}

/// The line of something damaged.
fn line(damage: &HostedDamage) -> String {
    let HostedDamage { kind, names, sha256 } = damage;
    let clause = kind.clause();
    let zip = sha256.map(|digest| format!("blobs/{:02x}/{digest}", digest.0[0]));
    let what = if names.is_empty() { zip.clone().unwrap_or_default() } else { names.join(", ") };
    let zip = zip.filter(|_| !names.is_empty()).map(|zip| format!(" ({zip})")).unwrap_or_default();
    format!("damaged  {}: {clause}{zip}\n", escape_terminal(&what))
}
