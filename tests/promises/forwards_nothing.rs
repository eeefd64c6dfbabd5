//! The mirror's requests are its own: nothing of a client's request reaches a forge.

use crate::{forge::Forge, mirror::Mirror};

#[tokio::test]
async fn nothing_a_client_sends_reaches_the_forge() {
    let forge = Forge::start().await;
    forge.repo("devsapp/fc3").release("v1.0.0", |release| release.file("index.js", "1"));
    let mirror = Mirror::over(&forge).await;
    let sent = [
        ("authorization", "Bearer of-the-client"),
        ("cookie", "of-the-client=1"),
        ("token", "of-the-client"),
        ("sign_code", "of-the-client"),
        ("user-agent", "of-the-client/1"),
        ("x-forwarded-for", "192.0.2.99"),
        ("accept-language", "of-the-client"),
        ("if-none-match", "\"of-the-client\""),
        ("range", "bytes=0-1"),
        ("via", "1.1 of-the-client"),
    ];
    for path in ["/devsapp/fc3/releases?of-the-client=1", "/devsapp/fc3/zipball/1.0.0?of-the-client=1"] {
        let got = mirror.get_with(path, &sent).await;
        assert!(matches!(got.status, 200 | 206), "{path}: {}", got.status);
    }
    let requests = forge.requests();
    assert!(requests.len() >= 3, "the list, the zip and where it leads");
    for seen in requests {
        let all = format!("{} {:?}", seen.path_and_query, seen.headers);
        assert!(!all.contains("of-the-client") && !all.contains("192.0.2.99"), "{all}");
        assert!(!seen.headers.contains_key("range") && !seen.headers.contains_key("cookie"), "{all}");
    }
}
