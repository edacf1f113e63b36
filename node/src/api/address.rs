//! Where a node is asked: its socket, or a port of this machine.
//!
//! A port may be the end of a tunnel to the machine that the node runs on. Another machine's port is refused: what is
//! said there, and the token with it, could be read on the way.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use hyper::Uri;

/// Where a node is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiAddress {
    /// At a Unix socket.
    Socket(PathBuf),
    /// At a port of this machine.
    Http(HttpAddress),
}

impl ApiAddress {
    /// Reads a path, or a URL.
    ///
    /// # Errors
    /// [`HttpAddressError`], if it is a URL.
    pub fn from_os(text: OsString) -> Result<Self, HttpAddressError> {
        match text.to_str().filter(|text| is_url(text)) {
            Some(url) => url.parse().map(Self::Http),
            None => Ok(Self::Socket(text.into())),
        }
    }
}

impl fmt::Display for ApiAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Http(address) => address.fmt(f),
        }
    }
}

/// True if `text` is meant as a URL: no socket has such a path by accident.
pub fn is_url(text: &str) -> bool {
    text.contains("://")
}

/// A port of this machine, as a person writes it: `http://127.0.0.1:7777`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpAddress {
    host: String,
    port: u16,
}

/// Why a text is no such address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpAddressError {
    /// It is another kind of URL, or none.
    #[error("it must be a path, or look like http://127.0.0.1:7777")]
    Malformed,
    /// It is on another machine.
    #[error(
        "it must be a port of this machine, because nothing is encrypted on the way; reach another through a tunnel: ssh -L 7777:127.0.0.1:7777 HOST"
    )]
    Elsewhere,
}

impl HttpAddress {
    /// What is connected to: a name or an address, and a port.
    pub(super) fn target(&self) -> (&str, u16) {
        (self.host.trim_matches(['[', ']']), self.port)
    }

    /// What stands in a request's `Host`.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

impl fmt::Display for HttpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}", self.host, self.port)
    }
}

impl FromStr for HttpAddress {
    type Err = HttpAddressError;

    fn from_str(text: &str) -> Result<Self, HttpAddressError> {
        let uri: Uri = text.parse().map_err(|_| HttpAddressError::Malformed)?;
        let is_bare = matches!(uri.path(), "" | "/") && uri.query().is_none() && !text.contains(['@', '#']);
        let host = uri.host().filter(|host| !host.is_empty());
        let (Some("http"), Some(host), Some(port), true) = (uri.scheme_str(), host, uri.port_u16(), is_bare)
        else {
            return Err(HttpAddressError::Malformed);
        };
        if is_this_machine(host) {
            Ok(Self { host: host.to_owned(), port })
        } else {
            Err(HttpAddressError::Elsewhere)
        }
    }
}

/// True if a host, as it stands in a URL or in `Host`, can be no other machine than this one, whoever answers for names.
pub(super) fn is_this_machine(host: &str) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    match inside.unwrap_or(host).parse() {
        Ok(IpAddr::V4(address)) => inside.is_none() && address.is_loopback(),
        Ok(IpAddr::V6(address)) => inside.is_some() && address.is_loopback(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_of_this_machine_is_understood_and_said_again() {
        for (text, target) in [
            ("http://127.0.0.1:7777", ("127.0.0.1", 7777)),
            ("http://localhost:1", ("localhost", 1)),
            ("http://[::1]:65535", ("::1", 65535)),
        ] {
            let address: HttpAddress = text.parse().unwrap();
            assert_eq!(address.target(), target);
            assert_eq!(address.to_string(), text);
            assert_eq!(format!("{text}/").parse(), Ok(address));
        }
        let socket = ApiAddress::from_os("/run/dms/api.sock".into()).unwrap();
        assert_eq!(socket, ApiAddress::Socket("/run/dms/api.sock".into()));
    }

    #[test]
    fn other_machines_and_other_urls_are_refused() {
        use HttpAddressError::{Elsewhere, Malformed};
        for (text, expected) in [
            ("http://192.0.2.7:7777", Elsewhere),
            ("http://example.com:7777", Elsewhere),
            ("http://localhost.example.com:7777", Elsewhere),
            ("http://127.1:7777", Elsewhere),
            ("http://0.0.0.0:7777", Elsewhere),
            ("https://127.0.0.1:7777", Malformed),
            ("http://127.0.0.1", Malformed),
            ("http://127.0.0.1:7777/v1", Malformed),
            ("http://127.0.0.1:7777?a", Malformed),
            ("http://user@127.0.0.1:7777", Malformed),
            ("http://:7777", Malformed),
            ("http://127.0.0.1:70000", Malformed),
            ("file:///tmp/api.sock", Malformed),
        ] {
            assert_eq!(ApiAddress::from_os(text.into()), Err(expected), "{text}");
        }
    }
}
