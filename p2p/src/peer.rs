//! PeerId and DID: two names of one Ed25519 key.
//!
//! Every other file speaks PeerId inside and DID at the seam. A peer id of another key type has no
//! DID and is refused by whoever asks.

use dms_actors::Did;
use libp2p::PeerId;

/// The peer id of a DID.
pub(crate) fn peer_id(did: &Did) -> PeerId {
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
    fn a_peer_of_another_key_type_has_no_did() {
        // The SHA-256 multihash that larger keys (RSA, ECDSA) have for a peer id.
        let peer: PeerId = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".parse().unwrap();
        assert_eq!(did(&peer), None);
    }
}
