//! PeerId and DID: two names of one Ed25519 key.
//!
//! Every other file speaks PeerId inside and DID at the seam. A peer id of another key type has no
//! DID and is refused by whoever asks.

use dms_actors::Did;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::config::ConfigError;

/// A peer whose key is not Ed25519, and which therefore has no DID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the peer id of an Ed25519 key, so it has no DID")]
pub struct NoDid(pub PeerId);

/// The DID of the peer at a multiaddr that ends in `/p2p/<peer id>`, as
/// [`P2p::listen_addresses`](crate::P2p::listen_addresses) prints them.
///
/// ```
/// let at = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
/// assert_eq!(dms_p2p::did_of(at)?.peer_id(), "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN");
/// # Ok::<(), dms_p2p::ConfigError>(())
/// ```
///
/// # Errors
/// [`ConfigError::Address`] if it is no multiaddr, names no peer, or one without a DID.
pub fn did_of(multiaddr: &str) -> Result<Did, ConfigError> {
    let refused = |reason: String| ConfigError::Address { address: multiaddr.to_owned(), reason };
    let address: Multiaddr =
        multiaddr.parse().map_err(|error: libp2p::multiaddr::Error| refused(error.to_string()))?;
    match address.iter().last() {
        Some(Protocol::P2p(peer)) => did_of_peer(&peer).map_err(|error| refused(error.to_string())),
        _ => Err(refused("it does not end in /p2p/<peer id>".to_owned())),
    }
}

/// What is kept of a multiaddr at which a peer says it can be dialled: the address without the peer's name; none if
/// our transports cannot dial it, or if it names somebody else.
///
/// ```
/// let peer = dms_p2p::did_of("/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")?;
/// assert!(dms_p2p::claimed_address(&peer, "/ip4/192.0.2.7/tcp/4001").is_some());
/// assert!(dms_p2p::claimed_address(&peer, "/ip4/0.0.0.0/tcp/4001").is_none());
/// # Ok::<(), dms_p2p::ConfigError>(())
/// ```
pub fn claimed_address(peer: &Did, multiaddr: &str) -> Option<Multiaddr> {
    crate::addresses::usable(peer_id(peer), multiaddr)
}

/// The DID of a libp2p peer.
///
/// # Errors
/// [`NoDid`] if its key is not an Ed25519 key.
pub fn did_of_peer(peer: &PeerId) -> Result<Did, NoDid> {
    did(peer).ok_or(NoDid(*peer))
}

/// The libp2p peer id of a DID.
pub fn peer_id(did: &Did) -> PeerId {
    PeerId::from_bytes(&did.peer_id_bytes()).expect("the identity multihash of an Ed25519 key is a peer id")
}

/// The DID of a peer id, if its key is a usable Ed25519 key.
pub(crate) fn did(peer: &PeerId) -> Option<Did> {
    Did::from_peer_id_bytes(&peer.to_bytes()).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use dms_actors::Keypair;

    /// The peer whose secret is `seed` repeated; for tables in other files.
    pub(crate) fn test_peer(seed: u8) -> PeerId {
        peer_id(&Keypair::from_secret(&[seed; 32]).did())
    }

    #[test]
    fn both_names_lead_to_each_other_and_agree_on_the_text() {
        let identity = Keypair::from_secret(&[9; 32]).did();
        assert_eq!(did(&peer_id(&identity)), Some(identity));
        assert_eq!(peer_id(&identity).to_string(), identity.peer_id());
    }

    #[test]
    fn a_multiaddr_names_its_peer_or_is_refused_with_the_reason() {
        let identity = Keypair::from_secret(&[9; 32]).did();
        let with = |end: &str| did_of(&format!("/ip4/127.0.0.1/tcp/1{end}"));
        assert_eq!(with(&format!("/p2p/{}", identity.peer_id())), Ok(identity));
        let table = [
            ("", "does not end in /p2p"),
            ("/p2p/QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC", "not the peer id of an Ed25519 key"),
            ("/nonsense", "cannot be used"),
        ];
        for (end, reason) in table {
            let error = with(end).unwrap_err().to_string();
            assert!(error.contains(reason), "{error} should say {reason}");
        }
    }

    #[test]
    fn a_peer_of_another_key_type_has_no_did() {
        // The SHA-256 multihash that larger keys (RSA, ECDSA) have for a peer id.
        let peer: PeerId = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".parse().unwrap();
        assert_eq!(did(&peer), None);
    }
}
