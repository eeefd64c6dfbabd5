//! `[shared]` and `[fleet]`: what is missing or wrong is named with an example.

use super::*;

const SECRET: (&str, &str) = ("AWS_SECRET_ACCESS_KEY", "secret");
const SHARED: &str = "[shared]\nendpoint = \"https://s3.example.com\"\nbucket = \"b\"\naccess_key = \"k\"\n";

#[test]
fn a_bucket_needs_an_address_a_name_and_a_key() {
    for (text, variables, expected) in [
        ("[shared]\nbucket = \"b\"", &[SECRET][..], "shared.endpoint"),
        ("[shared]\nendpoint = \"https://s3.example.com\"\naccess_key = \"k\"", &[SECRET], "shared.bucket"),
        ("[shared]\nendpoint = \"https://s3.example.com\"\nbucket = \"b\"", &[SECRET], "shared.access_key"),
        (SHARED, &[], "there is no secret key"),
        (&format!("{SHARED}prefix = \"no-slash\""), &[SECRET], "shared.prefix"),
        (&format!("{SHARED}prefix = \"a/../\""), &[SECRET], "shared.prefix"),
        (&format!("{SHARED}uploads = 0"), &[SECRET], "shared.uploads"),
        (&format!("{SHARED}upload_queue = \"40GiB\""), &[SECRET], "half of disk.limit"),
        (&format!("{SHARED}arbiter = \"me\""), &[SECRET], "shared.arbiter"),
        (&format!("{SHARED}secret_key = \"s\""), &[SECRET], "no such key"),
    ] {
        let error = error_of(text, variables);
        assert!(error.contains(expected), "{text}: {error}");
    }
    let loaded = loaded(SHARED, &[SECRET]).expect("complete");
    let section = loaded.config.shared.as_ref().expect("a section");
    assert_eq!(section.secret_key.as_ref().expect("a key").reveal(), "secret");
    assert!(!format!("{section:?}{}", loaded.show()).contains("\"secret\""));
}

#[test]
fn the_secret_key_is_read_from_its_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("key");
    fs::write(&path, "from-file\n").expect("written");
    let text = format!("{SHARED}secret_key_file = {path:?}");
    let section = loaded(&text, &[SECRET]).expect("complete").config.shared.expect("a section");
    assert_eq!(section.secret_key.expect("a key").reveal(), "from-file");
    fs::remove_file(&path).expect("removed");
    assert!(error_of(&text, &[SECRET]).contains("shared.secret_key_file"));
}

#[test]
fn tokens_in_a_bucket_need_a_secret_of_32_bytes_that_seals_them() {
    let rules = "[access]\nenabled = true\n[[access.rules]]\npackages = [\"*\"]\nread = [\"*\"]\n";
    assert!(error_of(&format!("{SHARED}{rules}"), &[SECRET]).contains("openssl rand -hex 32"));
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("secret");
    let text = format!("{SHARED}secret_file = \"{}\"\n{rules}", path.display());
    assert!(error_of(&text, &[SECRET]).contains("shared.secret_file"));
    fs::write(&path, "x".repeat(31)).expect("written");
    assert!(error_of(&text, &[SECRET]).contains("less than 32 bytes"));
    fs::write(&path, format!("{}\n", "x".repeat(32))).expect("written");
    let section = loaded(&text, &[SECRET]).expect("complete").config.shared.expect("a section");
    assert_eq!(section.sealing_secret.expect("a secret").reveal().len(), 32);
}

#[test]
fn the_queue_of_uploads_fits_a_small_disk_by_default() {
    let text = format!("{SHARED}[disk]\nlimit = \"1GiB\"");
    let section = loaded(&text, &[SECRET]).expect("complete").config.shared.expect("a section");
    assert_eq!(section.upload_queue, ByteSize::mib(512));
}

#[test]
fn a_fleet_needs_a_bucket_and_every_node_once() {
    let nodes = "nodes = [\"a=https://10.0.0.1:8470\", \"b=https://10.0.0.2:8470\"]";
    let fleet = |lines: &str| format!("{SHARED}[fleet]\n{lines}");
    for (text, expected) in [
        (format!("[fleet]\nnode = \"a\"\n{nodes}"), "[shared]"),
        (fleet("node = \"a\""), "fleet.nodes"),
        (fleet(&format!("node = \"c\"\n{nodes}")), "fleet.node"),
        (fleet("node = \"a\"\nnodes = [\"a=https://10.0.0.1:1\", \"a=https://10.0.0.2:1\"]"), "twice"),
        (fleet("node = \"a\"\nnodes = [\"a=http://10.0.0.1:1\"]"), "https"),
        (fleet("node = \"a\"\nnodes = [\"https://10.0.0.1:1\"]"), "not a node"),
        (fleet(&format!("node = \"a\"\n{nodes}")), "fleet.listen"),
        (fleet(&format!("node = \"a\"\n{nodes}\nlisten = [\"127.0.0.1:0\"]")), "fleet.cert_file"),
    ] {
        let error = error_of(&text, &[SECRET]);
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn nodes_are_listed_or_found_by_a_name_in_dns_and_what_others_change_is_read_often_enough() {
    let name = "discover = \"https://nodes.example:8470\"\n";
    let listed = "nodes = [\"a=https://10.0.0.1:8470\"]";
    let fleet = |lines: &str| format!("{SHARED}[fleet]\n{lines}");
    for (text, expected) in [
        (fleet(&format!("node = \"a\"\n{listed}\n{name}")), "fleet.discover"),
        (fleet("node = \"10.0.0.1\"\ndiscover = \"http://nodes.example:8470\""), "fleet.discover"),
        (fleet("node = \"10.0.0.1\"\ndiscover = \"https://10.0.0.1:8470\""), "fleet.discover"),
        (fleet(&format!("node = \"a\"\n{name}")), "fleet.node"),
        // The next thing that is missing.
        (fleet(&format!("node = \"10.0.0.1\"\n{name}")), "fleet.listen"),
        (format!("{SHARED}max_age = \"99ms\""), "shared.max_age"),
        (format!("{SHARED}max_age = \"6s\""), "shared.max_age"),
    ] {
        let error = error_of(&text, &[SECRET]);
        assert!(error.contains(expected), "{text}: {error}");
    }
}
