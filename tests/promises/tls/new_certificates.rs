//! Certificates that are replaced while the mirror runs.

use super::*;

#[tokio::test]
async fn a_new_certificate_is_used_for_new_connections_and_breaks_no_old_one() {
    let forge = forge().await;
    let dir = made(&["mirror.test"]).await;
    let pair = files(dir.path(), "mirror.test");
    let mirror = with_tls(setup(&forge), vec![pair.clone()]).start().await;
    let mut old = connect(tls(&mirror), "mirror.test").await;
    ready(&mut old).await;
    let before = der(pair.cert_file.clone());
    assert!(init(dir.path(), &["mirror.test"], &["--force"]).await.status.success());
    assert_eq!(shown(tls(&mirror), "mirror.test").await, before, "the files have not been checked yet");

    mirror.reload.request();
    let after = der(pair.cert_file);
    assert_ne!(before, after);
    until_shown(tls(&mirror), "mirror.test", &after).await;
    ready(&mut old).await;
}

#[tokio::test]
async fn changed_certificate_files_are_found_without_a_signal() {
    let forge = forge().await;
    let dir = made(&["mirror.test"]).await;
    let pair = files(dir.path(), "mirror.test");
    let mirror = with_tls(setup(&forge), vec![pair.clone()]);
    let mirror = mirror.with(|config| config.server.tls.reload = "10ms".parse().expect("a period")).start().await;
    assert!(init(dir.path(), &["mirror.test"], &["--force"]).await.status.success());
    until_shown(tls(&mirror), "mirror.test", &der(pair.cert_file)).await;
}

#[tokio::test]
async fn a_broken_new_certificate_is_logged_and_the_old_one_stays() {
    let forge = forge().await;
    let dir = made(&["mirror.test"]).await;
    let log = CapturedOutput::default();
    let writer = log.clone();
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || writer.clone());
    // The runtime has one thread, so this subscriber receives all events of the mirror.
    let _logging = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let pair = files(dir.path(), "mirror.test");
    let mirror = with_tls(setup(&forge), vec![pair.clone()]).start().await;
    let cert = pair.cert_file.clone();
    let good = fs::read(&pair.cert_file).expect("read");
    let before = der(cert.clone());
    fs::write(&cert, b"-----BEGIN CERTIFICATE-----\nnot base64!\n").expect("written");
    mirror.reload.request();
    let said = async {
        loop {
            let text = log.text();
            match text.lines().find(|line| line.contains("the previous ones stay in use")) {
                Some(line) => break line.to_owned(),
                None => tokio::task::yield_now().await,
            }
        }
    };
    let said = timeout(PATIENCE, said).await.expect("an event");
    assert!(said.contains("ERROR") && said.contains("mirror.test.pem is not valid PEM"), "{said}");
    assert_eq!(shown(tls(&mirror), "mirror.test").await, before);

    fs::write(&cert, good).expect("written");
    assert!(init(dir.path(), &["mirror.test"], &["--force"]).await.status.success());
    mirror.reload.request();
    until_shown(tls(&mirror), "mirror.test", &der(cert)).await;
}
