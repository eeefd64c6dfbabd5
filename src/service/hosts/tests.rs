use http::{StatusCode, Version};

use super::*;
use crate::peer::ListenerKind;

/// The base address of a request from 10.1.2.3 with these header fields.
fn base(hosts: &Hosts, tls: bool, fields: &[(&str, &str)]) -> Result<String, StatusCode> {
    base_of(hosts, tls, http::Request::builder().uri("/a/b/releases"), fields)
}

/// As [`base`], for a request line of any form.
fn base_of(
    hosts: &Hosts,
    tls: bool,
    mut request: http::request::Builder,
    fields: &[(&str, &str)],
) -> Result<String, StatusCode> {
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let parts = request.body(()).expect("valid").into_parts().0;
    let addr = ([10, 1, 2, 3], 5000).into();
    let listener = if tls { ListenerKind::Tls } else { ListenerKind::Plain };
    let client = Peer { addr, local: ([127, 0, 0, 1], 80).into(), listener, certificate: None };
    hosts.request_host(&parts, &client).map(|request_host| request_host.base()).map_err(HostError::status)
}

fn behind_proxy(proxy: &str) -> Hosts {
    Hosts::build(None, &[], vec![proxy.parse().expect("a network")])
}

fn with_known_hosts(names: &[&str]) -> Hosts {
    Hosts::build(None, &names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>(), Vec::new())
}

#[test]
fn base_address_is_the_host_the_client_used() {
    let any = Hosts::default();
    assert_eq!(base(&any, false, &[("host", "mirror:8080")]).as_deref(), Ok("http://mirror:8080"));
    assert_eq!(base(&any, true, &[("host", "mirror")]).as_deref(), Ok("https://mirror"));
    assert_eq!(base(&any, false, &[("host", "[::1]:8080")]).as_deref(), Ok("http://[::1]:8080"));
}

#[test]
fn only_http_1_0_may_leave_out_the_host() {
    let any = Hosts::default();
    let line = |version, uri| http::Request::builder().version(version).uri(uri);
    let relative = "/a/b/releases";
    let absolute = "http://target:81/a/b/releases";
    let refused = Err(StatusCode::BAD_REQUEST);
    for (version, uri, fields, expected) in [
        (Version::HTTP_11, relative, &[][..], refused),
        (Version::HTTP_11, relative, &[("host", "")], refused),
        (Version::HTTP_11, absolute, &[], refused),
        (Version::HTTP_11, absolute, &[("host", "")], refused),
        (Version::HTTP_11, absolute, &[("host", "a"), ("host", "a")], refused),
        (Version::HTTP_11, absolute, &[("host", "other")], Ok("http://target:81")),
        (Version::HTTP_10, relative, &[], Ok("http://127.0.0.1:80")),
        (Version::HTTP_10, relative, &[("host", "")], refused),
        (Version::HTTP_10, absolute, &[], Ok("http://target:81")),
        (Version::HTTP_2, relative, &[], refused),
        (Version::HTTP_2, relative, &[("host", "a")], Ok("http://a")),
        (Version::HTTP_2, absolute, &[], Ok("http://target:81")),
    ] {
        let got = base_of(&any, false, line(version, uri), fields);
        assert_eq!(got.as_deref().map_err(|status| *status), expected, "{version:?} {uri} {fields:?}");
    }
    // A proxy's X-Forwarded-Host does not make up for its own missing Host.
    let forwarded = [("x-forwarded-host", "mirror.example")];
    assert_eq!(base(&behind_proxy("10.0.0.0/8"), false, &forwarded), Err(StatusCode::BAD_REQUEST));
}

#[test]
fn host_that_could_change_the_meaning_of_a_link_is_refused() {
    let long = "a".repeat(260);
    for host in ["a/b", "user@host", "a b", "a?b", "a#b", "a\\b", "\"", "a,b", ":80", "a:65536", long.as_str()] {
        assert_eq!(base(&Hosts::default(), false, &[("host", host)]), Err(StatusCode::BAD_REQUEST), "{host}");
        let forwarded = [("host", "a"), ("x-forwarded-host", host)];
        let expected = if host == "a,b" { Ok("http://b".into()) } else { Err(StatusCode::BAD_REQUEST) };
        assert_eq!(base(&behind_proxy("10.0.0.0/8"), false, &forwarded), expected, "{host}");
    }
}

#[test]
fn two_host_fields_are_refused() {
    for second in ["b", "a"] {
        let twice = base(&Hosts::default(), false, &[("host", "a"), ("host", second)]);
        assert_eq!(twice, Err(StatusCode::BAD_REQUEST), "{second}");
    }
}

#[test]
fn public_url_overrides_the_request_host() {
    let public = Hosts::build(Some("https://mirror.example/srm/".parse().expect("valid")), &[], Vec::new());
    assert_eq!(base(&public, false, &[("host", "x")]).as_deref(), Ok("https://mirror.example/srm"));
}

#[test]
fn forwarded_fields_count_from_trusted_proxies_only() {
    let fields = [("host", "inner:80"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "mirror.example")];
    for (proxy, expected) in [
        ("10.1.2.3", "https://mirror.example"),
        ("10.0.0.0/8", "https://mirror.example"),
        ("10.1.2.4", "http://inner:80"),
        ("192.168.0.0/16", "http://inner:80"),
    ] {
        assert_eq!(base(&behind_proxy(proxy), false, &fields).as_deref(), Ok(expected), "{proxy}");
    }
    let proxied = |fields: &[(&str, &str)]| base(&behind_proxy("10.0.0.0/8"), true, fields);
    assert_eq!(proxied(&[("host", "a"), ("x-forwarded-proto", "http")]).as_deref(), Ok("http://a"));
    assert_eq!(proxied(&[("host", "a"), ("x-forwarded-proto", "ftp")]), Err(StatusCode::BAD_REQUEST));
    // The proxy appends its value to what the client sent.
    let forged = [("host", "a"), ("x-forwarded-host", "evil.example, good.example")];
    assert_eq!(proxied(&forged).as_deref(), Ok("https://good.example"));
    let forged = [("host", "a"), ("x-forwarded-host", "evil.example"), ("x-forwarded-host", "good.example")];
    assert_eq!(proxied(&forged).as_deref(), Ok("https://good.example"));
}

#[test]
fn host_that_is_not_configured_is_misdirected() {
    let hosts = with_known_hosts(&["Mirror.Example", "*.apps.example", "only:8080", "::1"]);
    for (host, good) in [
        ("mirror.example", true),
        ("MIRROR.example.:9999", true),
        ("a.apps.example", true),
        ("apps.example", false),
        ("xapps.example", false),
        ("only:8080", true),
        ("only", false),
        ("only:80", false),
        ("[::1]:8080", true),
        ("mirror.example.evil", false),
        ("evil-mirror.example", false),
        ("127.0.0.1", false),
    ] {
        let expected = if good { Ok(format!("http://{host}")) } else { Err(StatusCode::MISDIRECTED_REQUEST) };
        assert_eq!(base(&hosts, false, &[("host", host)]), expected, "{host}");
    }
    assert_eq!(base(&hosts, false, &[("host", "other")]), Err(StatusCode::MISDIRECTED_REQUEST));
    let public = Some("https://mirror.example".parse().expect("valid"));
    let public = Hosts::build(public, &["other".to_owned()], Vec::new());
    assert!(base(&public, false, &[("host", "mirror.example")]).is_ok(), "the host of public_url is a known host");
}
