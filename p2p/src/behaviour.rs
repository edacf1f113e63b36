//! The one composition of libp2p behaviours; each is built in the file of its concern.

use libp2p::swarm::NetworkBehaviour;
use libp2p::{connection_limits, identity, ping};

use crate::config::Checked;
use crate::node::P2pError;
use crate::{gossip, identify, limits, links, liveness};

/// Everything this peer speaks. The limits come first, so that a denied connection costs nothing else.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) admission: limits::Admission,
    pub(crate) ping: ping::Behaviour,
    pub(crate) identify: libp2p::identify::Behaviour,
    pub(crate) gossip: gossip::Behaviour,
    pub(crate) links: links::Behaviour,
}

/// Builds the behaviour of one peer.
pub(crate) fn build(key: &identity::Keypair, config: &Checked) -> Result<Behaviour, P2pError> {
    Ok(Behaviour {
        limits: limits::behaviour(&config.limits),
        admission: limits::Admission,
        ping: liveness::behaviour(&config.timing),
        identify: identify::behaviour(key),
        gossip: gossip::behaviour(key, &config.network, &config.timing)?,
        links: links::Behaviour::default(),
    })
}
