//! Tests of the scripted object storage, and of faults on its host and on the registries'.

use std::time::Duration;

use reqwest::Response;

use crate::{
    forge::{Fault, Forge, Host, Links, Match, RegistryZips, Route, Validators},
    registry_tests::with_fc3,
    tests::{client, get, value},
};

fn zip_url(forge: &Forge) -> String {
    format!("{}/packages/fc3/zipball/0.1.22", forge.v3_api())
}

/// A new signed address.
async fn link(forge: &Forge) -> String {
    let answer = get(&zip_url(forge)).await;
    assert_eq!(answer.status(), 302);
    value(&answer, "location").to_owned()
}

async fn with(url: &str, headers: &[(&str, &str)]) -> Response {
    let request = headers.iter().fold(client().get(url), |request, (name, value)| request.header(*name, *value));
    request.send().await.unwrap()
}

async fn refusal(response: Response) -> (u16, String) {
    let status = response.status().as_u16();
    assert_eq!(value(&response, "content-type"), "application/xml");
    let text = response.text().await.unwrap();
    (status, text.split("<Code>").nth(1).unwrap().split("</Code>").next().unwrap().to_owned())
}

#[tokio::test]
async fn signed_addresses_expire_by_time_and_by_use() {
    let forge = with_fc3().await;
    let registry = forge.registry();
    let zip = registry.component("fc3").zip_bytes("0.1.22");
    let first = link(&forge).await;
    assert!(first.starts_with(&format!("http://{}/", forge.storage_host())), "{first}");
    assert_eq!(get(&first).await.bytes().await.unwrap(), zip);
    registry.advance(300);
    assert_eq!(get(&first).await.status(), 200);
    registry.advance(300);
    let expired = get(&first).await;
    assert_eq!(expired.status(), 403);
    let text = expired.text().await.unwrap();
    assert!(text.contains("<Code>AccessDenied</Code>") && text.contains("<Message>Request has expired.</Message>"));
    let second = link(&forge).await;
    assert_ne!(second, first);
    assert_eq!(get(&second).await.status(), 200);

    registry.options(|options| options.links = Links::Uses(2));
    let used = link(&forge).await;
    for status in [200, 200, 403, 403] {
        assert_eq!(get(&used).await.status(), status);
    }
    registry.options(|options| options.links = Links::Seconds(0));
    assert_eq!(refusal(get(&link(&forge).await).await).await, (403, "AccessDenied".to_owned()));
    assert_eq!(registry.links_granted(), 4);
}

#[tokio::test]
async fn an_address_is_valid_for_its_object_and_method_only() {
    let forge = with_fc3().await;
    let link = link(&forge).await;
    let bare = link.split('?').next().unwrap();
    assert_eq!(refusal(get(bare).await).await, (403, "AccessDenied".to_owned()));
    let mismatch = (403, "SignatureDoesNotMatch".to_owned());
    assert_eq!(refusal(get(&link.replace("0.1.22", "0.1.21")).await).await, mismatch);
    assert_eq!(refusal(get(&link.replace("Signature=", "Signature=x")).await).await, mismatch);
    assert_eq!(refusal(get(&link.replace("Expires=", "Expires=1")).await).await, mismatch);
    assert_eq!(client().head(&link).send().await.unwrap().status(), 403);
    assert_eq!(refusal(get(&link.replace("packages-v3", "none")).await).await.0, 404);
    assert_eq!(with(&link, &[("authorization", "Bearer x")]).await.status(), 400);
    assert_eq!(with(&link, &[("sign_code", "x")]).await.status(), 200);
    assert_eq!(forge.leaks().len(), 2);
    forge.registry().component("fc3").remove_version("0.1.22");
    assert_eq!(refusal(get(&link).await).await, (404, "NoSuchKey".to_owned()));
}

#[tokio::test]
async fn a_redirect_can_name_another_host() {
    let forge = with_fc3().await;
    let port = forge.storage_host().rsplit(':').next().unwrap().to_owned();
    forge.registry().options(|options| options.redirect_to = Some(format!("localhost:{port}")));
    let link = link(&forge).await;
    assert!(link.starts_with(&format!("http://localhost:{port}/packages-v3/fc3/0.1.22.zip?Expires=")), "{link}");
    assert_eq!(get(&link.replace("localhost", "127.0.0.1")).await.status(), 200);
}

#[tokio::test]
async fn zips_have_validators_and_ranges_by_either_way() {
    let forge = with_fc3().await;
    let registry = forge.registry();
    let fc3 = registry.component("fc3").version_with("0.1.23", |spec| spec.noise("data.bin", 3, 300_000));
    let zip = fc3.zip_bytes("0.1.23");
    let len = zip.len();
    let address = async || {
        let url = zip_url(&forge).replace("0.1.22", "0.1.23");
        let answer = get(&url).await;
        if answer.status() == 302 { value(&answer, "location").to_owned() } else { url }
    };
    for zips in [RegistryZips::Redirect, RegistryZips::Direct] {
        registry.options(|options| options.zips = zips);
        let url = address().await;
        let whole = get(&url).await;
        let etag = value(&whole, "etag").to_owned();
        let date = value(&whole, "last-modified").to_owned();
        assert_eq!(value(&whole, "content-length"), len.to_string());
        for (headers, status) in [
            (vec![("if-none-match", etag.as_str())], 304),
            (vec![("if-none-match", "\"other\"")], 200),
            (vec![("if-none-match", "\"other\""), ("if-modified-since", &date)], 200),
            (vec![("if-modified-since", &date)], 304),
            (vec![("range", "bytes=5-9"), ("if-range", &etag)], 206),
            (vec![("range", "bytes=5-9"), ("if-range", "\"other\"")], 200),
            (vec![("range", "bytes=5-9,11-12")], 200),
            (vec![("range", "bytes=9999999-")], 416),
        ] {
            assert_eq!(with(&url, &headers).await.status(), status, "{zips:?} {headers:?}");
        }
        for (range, first, last) in [
            ("bytes=5-9".to_owned(), 5, 9),
            ("bytes=200000-".to_owned(), 200_000, len - 1),
            ("bytes=-70000".to_owned(), len - 70_000, len - 1),
            (format!("bytes=0-{len}"), 0, len - 1),
        ] {
            let part = with(&url, &[("range", &range)]).await;
            assert_eq!(value(&part, "content-range"), format!("bytes {first}-{last}/{len}"));
            assert!(part.bytes().await.unwrap() == zip[first..=last], "{zips:?} {range}");
        }
    }
    for (validators, names) in [
        (Validators::Etag, [true, false]),
        (Validators::LastModified, [false, true]),
        (Validators::None, [false, false]),
    ] {
        registry.options(|options| options.validators = validators);
        let answer = get(&address().await).await;
        assert_eq!(["etag", "last-modified"].map(|name| answer.headers().contains_key(name)), names);
    }
    registry.options(|options| (options.ranges, options.with_length) = (false, false));
    let answer = with(&address().await, &[("range", "bytes=5-9")]).await;
    assert_eq!((answer.status().as_u16(), value(&answer, "content-length")), (200, ""));
}

#[tokio::test]
async fn a_validator_follows_the_value_of_json_not_its_request_id() {
    let forge = with_fc3().await;
    forge.registry().options(|options| options.json_etags = true);
    let url = format!("{}/packages/fc3/release/latest", forge.v3_api());
    let etag = value(&get(&url).await, "etag").to_owned();
    assert_eq!(with(&url, &[("if-none-match", &etag)]).await.status(), 304);
    forge.registry().component("fc3").version("0.1.23");
    assert_eq!(with(&url, &[("if-none-match", &etag)]).await.status(), 200);
    let bodies = [get(&url).await.bytes().await.unwrap(), get(&url).await.bytes().await.unwrap()];
    assert_ne!(bodies[0], bodies[1], "each answer has its own request_id");
}

#[tokio::test]
async fn faults_gates_counts_and_outages_reach_the_registries_and_the_storage() {
    let forge = with_fc3().await;
    let url = link(&forge).await;
    let zip = forge.registry().component("fc3").zip_bytes("0.1.22");
    forge.fault(Match::route(Route::Storage), Fault::CutAfter(100));
    assert!(get(&url).await.bytes().await.is_err());
    // Offsets count bytes of the body, which a range shortens.
    forge.fault(Match::route(Route::Storage), Fault::WrongBytesAt(1));
    let part = with(&url, &[("range", "bytes=100-102")]).await.bytes().await.unwrap();
    assert_eq!(part[..], [zip[100], !zip[101], zip[102]]);
    forge.fault(Match::on(Host::Storage), Fault::Html200);
    assert_eq!(value(&get(&url).await, "content-type"), "text/html; charset=utf-8");
    forge.fault(Match::on(Host::Storage), Fault::Slow { bytes: 100, pause: Duration::from_millis(1) });
    assert_eq!(get(&url).await.bytes().await.unwrap(), zip);
    forge.fault(Match::on(Host::V3), Fault::status(503, &[("retry-after", "7")], ""));
    assert_eq!(value(&get(&zip_url(&forge)).await, "retry-after"), "7");
    let stall = forge.fault(Match::route(Route::Storage), Fault::Stall { after: 10 });
    let held = tokio::spawn({
        let url = url.clone();
        async move { get(&url).await.bytes().await.unwrap() }
    });
    stall.reached().await;
    stall.release();
    assert_eq!(held.await.unwrap(), zip);
    assert_eq!(forge.counts(), [(Route::V3Zip, 2), (Route::Storage, 5)].into());
    let seen = forge.requests().into_iter().find(|seen| seen.route() == Route::V3Zip).unwrap();
    assert_eq!((seen.header("user-agent"), seen.status), ("forge-test", Some(302)));

    forge.down_host(Host::Storage).await;
    assert!(client().get(&url).send().await.unwrap_err().is_connect());
    assert_eq!(get(&zip_url(&forge)).await.status(), 302);
    forge.up_host(Host::Storage).await;
    assert_eq!(get(&url).await.status(), 200);
    forge.down().await;
    assert!(client().get(zip_url(&forge)).send().await.is_err());
}
