//! The address that answers are built on: `public_url`, else what the client used.

use http::{StatusCode, header, request::Parts};

use super::Client;
use super::error::Problem;
use crate::value::BaseUrl;

/// The scheme and authority of every address in an answer, without a slash at the end.
///
/// # Errors
/// 400 when the request's `Host` is not one host.
pub(super) fn of(public: Option<&BaseUrl>, parts: &Parts, client: Client) -> Result<String, Problem> {
    if let Some(url) = public {
        return Ok(url.as_str().to_owned());
    }
    // RFC 9112 §3.2.2: the authority of an absolute target wins over Host; HTTP/2 has only the former.
    let authority = match parts.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => {
            let mut hosts = parts.headers.get_all(header::HOST).iter();
            match (hosts.next(), hosts.next()) {
                (None, _) => None,
                (Some(host), None) => Some(host.to_str().map_err(|_| wrong())?),
                // RFC 9112 §3.2: a server answers 400 to more than one.
                (Some(_), Some(_)) => return Err(wrong()),
            }
        }
    };
    // A client may write any scheme into an absolute target; whether it speaks TLS with us is seen here.
    let scheme = if client.tls { "https" } else { "http" };
    match authority {
        None | Some("") => Ok(format!("{scheme}://{}", client.local)),
        Some(authority) if is_authority(authority) => Ok(format!("{scheme}://{authority}")),
        Some(_) => Err(wrong()),
    }
}

fn wrong() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "host may only be a name or an address with an optional port")
}

/// A host with an optional port, and nothing that could change the meaning of an address built on it.
fn is_authority(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    text.chars().all(allowed) && text.parse::<http::uri::Authority>().is_ok_and(|parsed| !parsed.host().is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(tls: bool) -> Client {
        let local = SocketAddr::from(([127, 0, 0, 1], 80));
        Client { addr: local, local, tls }
    }

    fn base(host: Option<&str>) -> Result<String, Problem> {
        let mut request = http::Request::builder().uri("/a/b/releases");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        of(None, &request.body(()).expect("valid").into_parts().0, peer(false))
    }

    #[test]
    fn addresses_are_built_on_what_the_client_used() {
        assert_eq!(base(Some("mirror:8080")).expect("valid"), "http://mirror:8080");
        assert_eq!(base(Some("[::1]:8080")).expect("valid"), "http://[::1]:8080");
        assert_eq!(base(None).expect("valid"), "http://127.0.0.1:80");
    }

    #[test]
    fn the_scheme_is_what_the_connection_speaks_and_not_what_the_request_claims() {
        let parts = http::Request::get("http://mirror/a/b/releases").body(()).expect("valid").into_parts().0;
        assert_eq!(of(None, &parts, peer(true)).expect("valid"), "https://mirror");
        let parts = http::Request::get("https://mirror/a/b/releases").body(()).expect("valid").into_parts().0;
        assert_eq!(of(None, &parts, peer(false)).expect("valid"), "http://mirror");
    }

    #[test]
    fn a_host_that_could_change_an_address_is_refused() {
        for host in ["a/b", "user@host", "a b", "a?b", "a#b", "a\\b", "\"", "a,b", ":80"] {
            assert_eq!(base(Some(host)).expect_err(host).status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn the_public_address_wins() {
        let parts = http::Request::builder().header("host", "x").body(()).expect("valid").into_parts().0;
        let public = "https://mirror.example/srm/".parse().expect("valid");
        assert_eq!(of(Some(&public), &parts, peer(false)).expect("valid"), "https://mirror.example/srm");
    }
}
