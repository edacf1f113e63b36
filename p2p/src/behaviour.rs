//! The one composition of libp2p behaviours; each is built in the file of its concern.

use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{connection_limits, identity, ping};

use crate::config::Checked;
use crate::node::P2pError;
use crate::{dht, gossip, identify, limits, links, liveness, mdns, shut_out};

/// Everything this peer speaks. The limits come first, so that a denied connection costs nothing else.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) admission: limits::Admission,
    pub(crate) shut_out: shut_out::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) identify: libp2p::identify::Behaviour,
    pub(crate) gossip: gossip::Behaviour,
    pub(crate) links: links::Behaviour,
    pub(crate) dht: dht::Behaviour,
    pub(crate) mdns: Toggle<libp2p::mdns::tokio::Behaviour>,
}

/// Builds the behaviour of one peer.
pub(crate) fn build(key: &identity::Keypair, config: &Checked) -> Result<Behaviour, P2pError> {
    let me = key.public().to_peer_id();
    Ok(Behaviour {
        limits: limits::behaviour(&config.limits),
        admission: limits::Admission,
        shut_out: shut_out::Behaviour::default(),
        ping: liveness::behaviour(&config.timing),
        identify: identify::behaviour(key, &config.network),
        gossip: gossip::behaviour(key, &config.network, &config.timing)?,
        links: links::Behaviour::default(),
        dht: dht::behaviour(me, &config.network, config.limits.unasked())?,
        mdns: mdns::behaviour(me, config.mdns),
    })
}
