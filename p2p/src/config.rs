//! What a user sets, and the check that turns it into what the swarm needs.
//!
//! `node` fills [`P2pConfig`] from its own configuration; [`crate::P2p::start`] checks it once. A
//! wrong value is refused by name, never replaced by a default.

use std::sync::Arc;
use std::time::Duration;

use dms_actors::directory::RecordCheck;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;
use libp2p::pnet::PreSharedKey;

use crate::addresses::is_quic;
use crate::bootstrap::BootstrapPeer;
use crate::limits::ConnectionLimits;
use crate::peer;

/// Longest network name: it is a part of every topic, and topics are announced to every peer.
const MAX_NETWORK_LENGTH: usize = 32;
/// Most listeners: each is a socket, and identify must fit all of their addresses into 4 KiB.
const MAX_LISTEN: usize = 16;
/// Most bootstrap peers: every one of them is dialled again for as long as the node runs.
const MAX_BOOTSTRAP: usize = 64;

/// How a peer listens, whom it dials first and which network it gossips in.
#[derive(Debug, Clone)]
pub struct P2pConfig {
    /// Multiaddrs to listen on; port 0 lets the system choose. Empty: this peer only dials.
    pub listen: Vec<String>,
    /// Multiaddrs that are dialled until they answer, and again when they are lost. With `/p2p/…`
    /// only that key is accepted; without it whoever answers there.
    pub bootstrap: Vec<String>,
    /// The network: 1 to 32 lower-case letters, digits or dashes. Only topics under
    /// `/dms/<network>/` are gossiped.
    pub network: String,
    /// How many connections are kept and begun.
    pub limits: ConnectionLimits,
    /// Periods and time limits.
    pub timing: Timing,
    /// True if peers on the local network are looked for by multicast DNS. It only finds: whoever is
    /// found is a stranger like any other.
    pub mdns: bool,
    /// Which records of others are kept for the directory; none without it.
    pub record_check: Option<Arc<dyn RecordCheck>>,
    /// The key of a private mesh: nobody connects who has not the same. QUIC knows no such thing, so that a private
    /// mesh speaks TCP alone.
    pub pre_shared_key: Option<PreSharedKey>,
}

impl Default for P2pConfig {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/127.0.0.1/tcp/0".to_owned()],
            bootstrap: Vec::new(),
            network: "local".to_owned(),
            limits: ConnectionLimits::default(),
            timing: Timing::default(),
            mdns: false,
            record_check: None,
            pre_shared_key: None,
        }
    }
}

/// Periods and time limits.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Longest time from the first packet of a dial to a proven, multiplexed connection. A machine that is
    /// switched off costs this long, so it is well below the time that senders wait for an answer.
    pub dial_timeout: Duration,
    /// A connection without streams is closed after this time. gossipsub keeps a stream of its own to
    /// every peer that gossips, so this ends only connections to peers that do not; the others end by
    /// their limits, their pings or their peer.
    pub idle_timeout: Duration,
    /// How often a connection is pinged.
    pub ping_interval: Duration,
    /// How long a ping may take before it is missed.
    pub ping_timeout: Duration,
    /// The gossip heartbeat, and the delay before the first one. A verdict must be given within 12 of
    /// them, or the message is forgotten and never forwarded.
    pub gossip_heartbeat: Duration,
    /// Wait before the first new dial of a lost or silent bootstrap peer; doubles each time.
    pub redial_initial: Duration,
    /// The longest such wait.
    pub redial_max: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            ping_interval: Duration::from_secs(15),
            ping_timeout: Duration::from_secs(20),
            gossip_heartbeat: Duration::from_secs(1),
            redial_initial: Duration::from_secs(1),
            redial_max: Duration::from_secs(5 * 60),
        }
    }
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A listen or bootstrap address is not a multiaddr that can be used.
    #[error("{address} cannot be used: {reason}")]
    Address {
        /// The text as it was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More addresses than are allowed.
    #[error("{given} {what} addresses are too many (at most {limit})")]
    TooMany {
        /// `listen` or `bootstrap`.
        what: &'static str,
        /// How many were given.
        given: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// The network name has a wrong length or character.
    #[error("{0:?} is no network name (1 to {MAX_NETWORK_LENGTH} lower-case letters, digits or dashes)")]
    Network(String),
    /// A period is zero, which would spin or fail at once.
    #[error("{0} must not be zero")]
    ZeroDuration(&'static str),
}

/// A checked [`P2pConfig`].
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) listen: Vec<Multiaddr>,
    pub(crate) bootstrap: Vec<BootstrapPeer>,
    pub(crate) network: String,
    pub(crate) limits: ConnectionLimits,
    pub(crate) timing: Timing,
    pub(crate) mdns: bool,
    pub(crate) record_check: Option<Arc<dyn RecordCheck>>,
    pub(crate) pre_shared_key: Option<PreSharedKey>,
}

impl P2pConfig {
    /// For the first hour and for tests: a free TCP port of this machine, nobody looked for by itself.
    pub fn local(network: impl Into<String>) -> Self {
        Self { network: network.into(), ..Self::default() }
    }

    /// The same, which also dials these multiaddrs (see [`Self::bootstrap`]). An `Option` will do:
    ///
    /// ```
    /// let config = dms_p2p::P2pConfig::local("example").with_bootstrap(std::env::args().nth(1));
    /// ```
    #[must_use]
    pub fn with_bootstrap(mut self, addresses: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.bootstrap.extend(addresses.into_iter().map(Into::into));
        self
    }

    /// Checks every value.
    pub(crate) fn check(self) -> Result<Checked, ConfigError> {
        check_count("listen", self.listen.len(), MAX_LISTEN)?;
        check_count("bootstrap", self.bootstrap.len(), MAX_BOOTSTRAP)?;
        check_network(&self.network)?;
        check_timing(&self.timing)?;
        let listen: Vec<Multiaddr> = self.listen.iter().map(|text| parse(text)).collect::<Result<_, _>>()?;
        if let Some(quic) = listen.iter().find(|address| self.pre_shared_key.is_some() && is_quic(address)) {
            return Err(refused(&quic.to_string(), "a private mesh speaks TCP alone"));
        }
        Ok(Checked {
            listen,
            bootstrap: self.bootstrap.iter().map(|text| parse_bootstrap(text)).collect::<Result<_, _>>()?,
            network: self.network,
            limits: self.limits,
            timing: self.timing,
            mdns: self.mdns,
            record_check: self.record_check,
            pre_shared_key: self.pre_shared_key,
        })
    }
}

fn check_count(what: &'static str, given: usize, limit: usize) -> Result<(), ConfigError> {
    if given > limit { Err(ConfigError::TooMany { what, given, limit }) } else { Ok(()) }
}

fn check_network(name: &str) -> Result<(), ConfigError> {
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_valid = !name.is_empty() && name.len() <= MAX_NETWORK_LENGTH && name.chars().all(is_allowed);
    if is_valid { Ok(()) } else { Err(ConfigError::Network(name.to_owned())) }
}

fn check_timing(timing: &Timing) -> Result<(), ConfigError> {
    let durations = [
        ("dial_timeout", timing.dial_timeout),
        ("idle_timeout", timing.idle_timeout),
        ("ping_interval", timing.ping_interval),
        ("ping_timeout", timing.ping_timeout),
        ("gossip_heartbeat", timing.gossip_heartbeat),
        ("redial_initial", timing.redial_initial),
        ("redial_max", timing.redial_max),
    ];
    match durations.iter().find(|(_, duration)| duration.is_zero()) {
        Some((name, _)) => Err(ConfigError::ZeroDuration(name)),
        None => Ok(()),
    }
}

fn parse(text: &str) -> Result<Multiaddr, ConfigError> {
    let address: Multiaddr = text.parse().map_err(|error: libp2p::multiaddr::Error| refused(text, error))?;
    if address.is_empty() { Err(refused(text, "it is empty")) } else { Ok(address) }
}

fn parse_bootstrap(text: &str) -> Result<BootstrapPeer, ConfigError> {
    let mut address = parse(text)?;
    let expected = match address.iter().last() {
        Some(Protocol::P2p(expected)) => {
            address.pop();
            Some(expected)
        }
        _ => None,
    };
    if expected.is_some_and(|expected| peer::did(&expected).is_none()) {
        return Err(refused(text, "its peer id is not that of an Ed25519 key"));
    }
    if address.is_empty() {
        return Err(refused(text, "it names a peer and no place to dial"));
    }
    Ok(BootstrapPeer { address, expected })
}

fn refused(address: &str, reason: impl ToString) -> ConfigError {
    ConfigError::Address { address: address.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    #[test]
    fn the_default_is_accepted() {
        assert!(P2pConfig::default().check().is_ok());
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        type Change = fn(&mut P2pConfig);
        let table: &[(Change, &str)] = &[
            (|c| c.listen = vec!["127.0.0.1:80".into()], "127.0.0.1:80 cannot be used"),
            (|c| c.listen = vec![String::new()], "cannot be used: it is empty"),
            (|c| c.listen = vec!["/ip4/127.0.0.1/tcp/0".into(); 17], "17 listen addresses are too many"),
            (|c| c.bootstrap = vec!["/ip4/1.2.3.4/tcp/1".into(); 65], "65 bootstrap addresses are too many"),
            (
                |c| {
                    c.bootstrap =
                        vec!["/ip4/1.2.3.4/tcp/1/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".into()]
                },
                "not that of an Ed25519 key",
            ),
            (|c| c.bootstrap = vec![format!("/p2p/{}", test_peer(1))], "no place to dial"),
            (|c| c.network = String::new(), "no network name"),
            (|c| c.network = "a/b".into(), "no network name"),
            (|c| c.network = "a".repeat(33), "no network name"),
            (|c| c.timing.redial_initial = Duration::ZERO, "redial_initial must not be zero"),
        ];
        for (change, message) in table {
            let mut config = P2pConfig::default();
            change(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(message), "{error} should say {message}");
        }
    }

    #[test]
    fn a_bootstrap_address_is_split_into_place_and_key() {
        let peer = test_peer(1);
        let known = parse_bootstrap(&format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")).unwrap();
        assert_eq!(
            (known.address.to_string().as_str(), known.expected),
            ("/ip4/127.0.0.1/tcp/1", Some(peer))
        );
        let unknown = parse_bootstrap("/ip4/127.0.0.1/tcp/1").unwrap();
        assert_eq!(unknown.expected, None);
    }
}
