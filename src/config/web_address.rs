//! Where the page is served: on this machine only.

use super::options::ListenAddress;
use serde::de::{self, Deserialize, Deserializer};
use std::net::SocketAddr;
use std::str::FromStr;

/// What stands after `--web`: an IP address of the loopback interface and a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WebAddress(pub SocketAddr);

/// Text that is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadWebAddress {
    /// It is no address.
    #[error("{0:?} is no address to listen on: give 127.0.0.1:PORT or [::1]:PORT; port 0 picks one")]
    Address(String),
    /// Others than this machine's users would reach it, and what is said over it is not encrypted.
    #[error(
        "{0} is not this machine alone, and the page is for nobody else: give 127.0.0.1:{port} and reach it from \
         elsewhere by `ssh -L {port}:127.0.0.1:{port} HOST`", port = .0.port()
    )]
    Reachable(SocketAddr),
}

impl FromStr for WebAddress {
    type Err = BadWebAddress;

    fn from_str(text: &str) -> Result<WebAddress, BadWebAddress> {
        let ListenAddress(address) = text.parse().map_err(|_| BadWebAddress::Address(text.to_owned()))?;
        // Other addresses of the loopback network are no names that a browser is let in by.
        match address.to_string().rsplit_once(':') {
            Some(("127.0.0.1" | "[::1]", _)) => Ok(WebAddress(address)),
            _ => Err(BadWebAddress::Reachable(address)),
        }
    }
}

impl<'de> Deserialize<'de> for WebAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<WebAddress, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_reaches_it() {
        for good in ["127.0.0.1:0", "127.0.0.1:9191", "[::1]:80"] {
            assert_eq!(good.parse::<WebAddress>().unwrap().0.to_string(), good);
        }
        for bad in ["0.0.0.0:80", "[::]:80", "192.168.1.2:80", "8.8.8.8:80", "127.0.0.2:80", "[::ffff:127.0.0.1]:80"] {
            let error = bad.parse::<WebAddress>().expect_err(bad).to_string();
            assert!(error.contains(bad) && error.contains("127.0.0.1:80") && error.contains("ssh -L"), "{error}");
        }
        for bad in ["", "9191", "localhost:9191", "127.0.0.1", "unix:/x", "127.0.0.1:65536", "http://127.0.0.1:1/"] {
            let error = bad.parse::<WebAddress>().expect_err(bad).to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("127.0.0.1:PORT"), "{error}");
        }
    }
}
