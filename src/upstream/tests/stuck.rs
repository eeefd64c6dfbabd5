//! An HTTP/2 session that no longer answers, while new sessions do.

use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Speaks HTTP/2 over TLS. The first connection answers its first request and then never again; every later one answers.
async fn half_dead_server() -> (SocketAddr, tempfile::NamedTempFile, Arc<AtomicUsize>) {
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".into()]).expect("a certificate");
    let ca_file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(ca_file.path(), certified.cert.pem()).expect("writes");
    let key = rustls::pki_types::PrivateKeyDer::try_from(certified.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let tls = tls.expect("versions").with_no_client_auth();
    let mut tls = tls.with_single_cert(vec![certified.cert.der().clone()], key).expect("a certificate");
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let opened = connections.clone();
    tokio::spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        loop {
            let Ok((stream, _)) = listener.accept().await else { return };
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            let is_first = opened.fetch_add(1, Ordering::Relaxed) == 0;
            let requests = Arc::new(AtomicUsize::new(0));
            let answer = service_fn(move |_| {
                let is_stuck = is_first && requests.fetch_add(1, Ordering::Relaxed) > 0;
                async move {
                    if is_stuck {
                        std::future::pending::<()>().await;
                    }
                    Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(release("v1").to_string()))))
                }
            });
            tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, ca_file, connections)
}

#[tokio::test]
async fn a_stuck_http2_session_is_left_after_two_header_timeouts() {
    let (address, ca_file, connections) = half_dead_server().await;
    let config = Config {
        ca_file: Some(ca_file.path().to_owned()),
        response_timeout: Period(Duration::from_millis(200)),
        ..config(UpstreamKind::Github, &format!("https://{address}"))
    };
    let upstream = anonymous(&config);
    ask(&upstream, DocumentAsk::Latest, None).await.expect("the session works");
    for _ in 0..2 {
        let error = error(ask(&upstream, DocumentAsk::Latest, None).await);
        assert!(matches!(error, FetchError::Timeout(_)), "{error:?}");
    }
    assert_eq!(connections.load(Ordering::Relaxed), 1, "the session is kept so far");
    ask(&upstream, DocumentAsk::Latest, None).await.expect("a new session works");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}
