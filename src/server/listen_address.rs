//! Addresses to listen on, as the configuration writes them.

use std::net::{Ipv4Addr, SocketAddr};

use serde::{Deserialize, Deserializer, de};

/// A text that is no address to listen on. The configuration adds an example.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ListenAddressError {
    /// A port without an address: whether the network may connect is for the operator to say.
    #[error(
        "an IP address is missing; write \"127.0.0.1:{port}\" for this machine alone, \"0.0.0.0:{port}\" for the network"
    )]
    PortAlone {
        /// The port.
        port: u16,
    },
    /// Anything else.
    #[error("not an IP address with a port")]
    Malformed,
}

/// Parses an IP address with a port, or `localhost` with a port, which is 127.0.0.1. Other names are not resolved: their
/// address may change.
fn parse(text: &str) -> Result<SocketAddr, ListenAddressError> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let port: u16 = port.parse().map_err(|_| ListenAddressError::Malformed)?;
    match host {
        "localhost" => Ok((Ipv4Addr::LOCALHOST, port).into()),
        "" | "*" => Err(ListenAddressError::PortAlone { port }),
        _ => Err(ListenAddressError::Malformed),
    }
}

/// Deserialises a list of addresses.
///
/// # Errors
/// For a value that is no list, and for the first text in it that is no address.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    texts.iter().map(|text| parse(text).map_err(de::Error::custom)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_an_address_and_a_port_alone_is_not() {
        for (text, address) in
            [("127.0.0.1:8080", "127.0.0.1:8080"), ("localhost:8080", "127.0.0.1:8080"), (" [::]:0 ", "[::]:0")]
        {
            assert_eq!(parse(text).map(|address| address.to_string()).as_deref(), Ok(address), "{text}");
        }
        for text in [":8080", "8080", "*:8080"] {
            assert_eq!(parse(text), Err(ListenAddressError::PortAlone { port: 8080 }), "{text}");
        }
        for text in ["", "localhost", "127.0.0.1", "mirror.example.com:80", "localhost:http", "localhost:99999"] {
            assert_eq!(parse(text), Err(ListenAddressError::Malformed), "{text}");
        }
    }
}
