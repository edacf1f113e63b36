//! What `dms onboard` is told in numbers of things: ports by name, slots by count.
//!
//! Pure text work. Whether they may be registered is decided by [`dms_messages::Capability::check`] and the ledger.

use std::collections::BTreeSet;
use std::str::FromStr;

use dms_messages::MAX_PORTS;

/// The word that takes an offer, or a limit, back.
const NONE: &str = "none";

/// The ports of `--ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ports(pub(super) BTreeSet<u16>);

impl FromStr for Ports {
    type Err = String;

    /// Single ports and ranges with both ends in them, separated by commas; or `none`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == NONE {
            return Ok(Self(BTreeSet::new()));
        }
        let mut ports = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (port(first)?, port(last)?);
            if first > last {
                return Err(format!("{first}-{last} begins after its end"));
            }
            // Counted before they are collected: a range may be long.
            if usize::from(last - first) >= MAX_PORTS {
                return Err(too_many());
            }
            ports.extend(first..=last);
        }
        if ports.len() > MAX_PORTS { Err(too_many()) } else { Ok(Self(ports)) }
    }
}

fn port(text: &str) -> Result<u16, String> {
    match text.trim().parse() {
        Ok(0) | Err(_) => Err(format!("{:?} is not a port: write 8080, 16384-16393, or none", text.trim())),
        Ok(port) => Ok(port),
    }
}

fn too_many() -> String {
    format!("a node shares at most {MAX_PORTS} ports")
}

/// The limit of `--slots`; none lifts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slots(pub(super) Option<u32>);

impl FromStr for Slots {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            NONE => Ok(Self(None)),
            text => match text.parse() {
                Ok(0) | Err(_) => Err("must be a number from 1, or none for no limit".to_owned()),
                Ok(count) => Ok(Self(Some(count))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_people_write_them() {
        let table: &[(&str, &[u16])] = &[
            ("8080", &[8080]),
            ("16384-16386", &[16384, 16385, 16386]),
            (" 80 , 82-83,82", &[80, 82, 83]),
            ("65535", &[65535]),
            ("none", &[]),
        ];
        for (text, ports) in table {
            assert_eq!(text.parse(), Ok(Ports(ports.iter().copied().collect())), "{text}");
        }
        assert_eq!("1-256".parse::<Ports>().unwrap().0.len(), 256);
        let refused = [
            ("", "\"\" is not a port"),
            ("0", "\"0\" is not a port"),
            ("65536", "is not a port"),
            ("80-", "\"\" is not a port"),
            ("-80", "\"\" is not a port"),
            ("90-80", "90-80 begins after its end"),
            ("1-257", "at most 256 ports"),
            ("1-65535", "at most 256 ports"),
            ("1-200,300-400", "at most 256 ports"),
            ("http", "\"http\" is not a port"),
        ];
        for (text, reason) in refused {
            let error = text.parse::<Ports>().unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn slots_are_a_number_or_none() {
        assert_eq!(("4".parse(), "none".parse()), (Ok(Slots(Some(4))), Ok(Slots(None))));
        for text in ["0", "", "-1", "many", "4294967296"] {
            assert!(text.parse::<Slots>().is_err(), "{text}");
        }
    }
}
