//! Several credentials per upstream.

use std::{fs, os::unix::fs::PermissionsExt as _};

use super::*;

fn labels<'a>(loaded: &'a Loaded, upstream: &str) -> Vec<&'a str> {
    loaded.credentials[upstream].iter().map(CredentialSource::label).collect()
}

/// An RSA key as GitHub generates it, or in the other form.
fn key_file(dir: &Path) -> PathBuf {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).expect("a key");
    let file = dir.join("app.pem");
    fs::write(&file, key.serialize_pem()).expect("a file");
    file
}

#[test]
fn several_credentials_are_read_in_their_order_and_unset_variables_are_left_out() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("second"), "from-file\n").expect("a file");
    let text = format!(
        "[upstreams.github]\ncredentials = [{{ token_env = \"NONE\" }}, {{ token_file = {:?} }}, {{ app_id = \"123\", \
         key_file = {:?} }}, {{ token_env = \"ONE\" }}]",
        dir.path().join("second"),
        key_file(dir.path()),
    );
    let loaded = loaded(&text, &[("ONE", "hush1"), ("GITHUB_TOKEN", "hush2")]).expect("valid");
    assert_eq!(labels(&loaded, "github"), ["second", "app 123", "ONE"]);
    let shown = loaded.show();
    assert!(shown.contains("3 of 4 hold a secret"), "{shown}");
    let all = format!("{shown}{loaded:?}");
    assert!(!all.contains("hush") && !all.contains("from-file") && !all.contains("PRIVATE KEY"), "{all}");
    assert_eq!(super::loaded(&shown, &[("ONE", "hush1")]).expect("loads").config.upstreams, loaded.config.upstreams);
}

#[test]
fn credentials_can_be_set_by_a_variable() {
    let list = ("SRM_MIRROR__UPSTREAMS__GITEE__CREDENTIALS", "[{ token_env = \"A\" }, { token_env = \"B\" }]");
    let loaded = loaded("", &[list, ("A", "x"), ("B", "y")]).expect("valid");
    assert_eq!(labels(&loaded, "gitee"), ["A", "B"]);
}

#[test]
fn an_invalid_credential_is_reported_with_its_entry_and_never_with_a_secret() {
    let dir = tempfile::tempdir().expect("a directory");
    let no_key = dir.path().join("no.pem");
    fs::write(&no_key, "-----BEGIN RSA PRIVATE KEY-----\nhush\n-----END RSA PRIVATE KEY-----\n").expect("a file");
    let no_key = format!("{{ app_id = \"1\", key_file = {no_key:?} }}");
    for (upstream, entries, parts) in [
        ("github", "\"ghp_hush\"", &["must be a table"][..]),
        ("github", "{ token = \"hush\" }", &["credentials[1]", "token is no key of a credential"]),
        ("github", "{ token_env = \"A\" }, { token_env = \"ghp_hush\" }", &["credentials[2].token_env", "\"***\""]),
        ("github", "{ token_env = 1 }", &["credentials[1].token_env", "string"]),
        ("github", "{ token_env = \"A\", token_file = \"b\" }", &["credentials[1]", "must be one of"]),
        ("github", "{}", &["credentials[1]", "must be one of"]),
        ("github", "{ app_id = \"1\" }", &["key_file is missing"]),
        ("github", "{ key_file = \"1\" }", &["app_id is missing"]),
        ("github", "{ app_id = \"a/b\", key_file = \"x\" }", &["credentials[1].app_id", "App ID"]),
        ("github", "{ app_id = \"1\", key_file = \"no.pem\" }", &["credentials[1].key_file", "No such file"]),
        ("github", &no_key, &["credentials[1].key_file", "RSA private key"]),
        ("github", "{ token_env = \"A\" }, { token_env = \"A\" }", &["credentials[2].token_env", "twice"]),
        ("gitee", "{ app_id = \"1\", key_file = \"x\" }", &["credentials[1].app_id", "kind \"github\""]),
    ] {
        let text = format!("upstreams.{upstream}.credentials = [{entries}]");
        let message = error_of(&text, &[("A", "x")]);
        assert!(message.starts_with(&format!("config: upstreams.{upstream}.credentials")), "{message}");
        for part in parts {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(message.contains("(mirror.toml:1)") && !message.contains("hush"), "{message}");
    }
    let both = "upstreams.github.token_env = \"A\"\nupstreams.github.credentials = [{ token_env = \"B\" }]";
    let message = error_of(both, &[]);
    assert!(
        message.starts_with("config: upstreams.github.token_env = \"A\" (mirror.toml:1): has no effect"),
        "{message}"
    );
    let many = (0..17).map(|n| format!("{{ token_env = \"A{n}\" }}")).collect::<Vec<_>>().join(", ");
    let message = error_of(&format!("upstreams.github.credentials = [{many}]"), &[]);
    assert!(message.contains("credentials[17]") && message.contains("at most 16"), "{message}");
}

#[test]
fn a_secret_that_group_or_others_can_read_is_a_warning_with_its_mode_and_the_cure() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = dir.path().join("token");
    fs::write(&token, "hush\n").expect("a file");
    let key = key_file(dir.path());
    let short = format!("upstreams.github.token_file = {token:?}");
    let list = format!(
        "upstreams.github.credentials = [{{ token_file = {token:?} }}, {{ app_id = \"1\", key_file = {key:?} }}]"
    );
    for (text, file, mode, shown) in [
        (&short, &token, 0o640, Some("0640")),
        (&short, &token, 0o604, Some("0604")),
        (&list, &token, 0o644, Some("0644")),
        (&list, &key, 0o440, Some("0440")),
        (&short, &token, 0o600, None),
        (&list, &key, 0o400, None),
    ] {
        for other in [&token, &key] {
            fs::set_permissions(other, fs::Permissions::from_mode(0o600)).expect("changed");
        }
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("changed");
        let path = file.display();
        let expected = shown.map(|shown| {
            format!(
                "upstreams.github: users of this machine other than the owner can read the secret in {path} (mode \
                 {shown}); chmod 600 {path}"
            )
        });
        assert_eq!(loaded(text, &[]).expect("valid").warnings(), Vec::from_iter(expected), "{mode:o}");
    }
}
