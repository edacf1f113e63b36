//! Kademlia: its settings, and a thin shell around libp2p's behaviour that says what it may dial.
//!
//! Who is in the routing table is decided by `swarm` after identify, what is stored by `directory`.
//! The shell keeps three promises that libp2p's behaviour does not give: addresses that peers tell are
//! dialled only if they pass the same filter as those of the address book and reach no further inward
//! than a peer that we know, dials never reuse the listening port (see `dial`), and they are bounded and
//! leave room for connections that somebody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::kad::{self, BucketInserts, Caching, Mode, StoreInserts};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, DialError, DialFailure, FromSwarm, NetworkBehaviour, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId, StreamProtocol};

use crate::addresses::{Reach, dialable, first_choice, reach, reach_of_remote};
use crate::node::P2pError;
use crate::shelf::{MAX_RECORD_TTL, PROVIDER_TTL, Shelf};
use crate::transports;

/// Longest time of one query.
pub(crate) const QUERY_TIME: Duration = Duration::from_secs(10);
/// A record of 8 KiB and twenty peers with their addresses, twice over for providers.
const MAX_PACKET: usize = 32 * 1024;
/// Most addresses of one peer in the table: an answer with twenty peers must fit into a packet.
const MAX_TABLE_ADDRESSES: usize = 4;
/// Most dials of Kademlia's own under way; together with ours they stay below the limit of pending ones.
const MAX_DIALS: usize = 24;
/// Most addresses tried of one peer.
const MAX_DIAL_ADDRESSES: usize = 8;

/// The name of the protocol: tables of two networks never mix.
pub(crate) fn protocol(network: &str) -> Result<StreamProtocol, P2pError> {
    StreamProtocol::try_from_owned(format!("/dms/{network}/kad/1"))
        .map_err(|error| P2pError::Internal(error.to_string()))
}

/// Kademlia within our bounds.
pub(crate) struct Behaviour {
    inner: kad::Behaviour<Shelf>,
    /// Its own dials under way.
    dialling: BTreeSet<ConnectionId>,
    /// How near the peer of each established connection is.
    reaches: BTreeMap<ConnectionId, Reach>,
    /// At this many established connections it dials nobody.
    unasked: usize,
}

/// Builds the behaviour.
pub(crate) fn behaviour(me: PeerId, network: &str, unasked: usize) -> Result<Behaviour, P2pError> {
    let mut config = kad::Config::new(protocol(network)?);
    config
        .set_query_timeout(QUERY_TIME)
        .set_max_packet_size(MAX_PACKET)
        .set_kbucket_inserts(BucketInserts::Manual)
        .set_record_filtering(StoreInserts::FilterBoth)
        .set_record_ttl(Some(MAX_RECORD_TTL))
        .set_provider_record_ttl(Some(PROVIDER_TTL))
        // Whoever wants a record kept puts it again, and `directory` announces providers.
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_periodic_bootstrap_interval(None)
        // Copies at peers that are not nearest would outlive newer ones.
        .set_caching(Caching::Disabled);
    let mut inner = kad::Behaviour::with_config(me, Shelf::new(me), config);
    // Unasked, it serves nobody before it believes to be reachable from the internet.
    inner.set_mode(Some(Mode::Server));
    Ok(Behaviour { inner, dialling: BTreeSet::new(), reaches: BTreeMap::new(), unasked })
}

impl Behaviour {
    /// The behaviour inside, for queries.
    pub(crate) fn kad(&mut self) -> &mut kad::Behaviour<Shelf> {
        &mut self.inner
    }

    /// Takes a peer that speaks our protocol into the table, at addresses that passed the filter. They
    /// replace older ones, of which there would otherwise be more with everything that the peer says.
    pub(crate) fn add(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let told = addresses.iter().filter_map(|address| address.clone().with_p2p(peer).ok());
        let fresh: Vec<Multiaddr> = told.take(MAX_TABLE_ADDRESSES).collect();
        for address in &fresh {
            self.inner.add_address(&peer, address.clone());
        }
        let mut stale = self.table_addresses(peer);
        stale.retain(|address| !fresh.contains(address));
        // Removing the last address removes the peer.
        for address in stale.iter().filter(|_| !fresh.is_empty()) {
            self.inner.remove_address(&peer, address);
        }
    }

    fn table_addresses(&mut self, peer: PeerId) -> Vec<Multiaddr> {
        let mut addresses = Vec::new();
        if let Some(bucket) = self.inner.kbucket(peer) {
            for entry in bucket.iter().filter(|entry| *entry.node.key.preimage() == peer) {
                addresses.extend(entry.node.value.iter().cloned());
            }
        }
        addresses
    }

    /// The peer of a connection turned out to be as near as `reach`.
    pub(crate) fn set_reach(&mut self, connection: ConnectionId, reach: Reach) {
        if let Some(known) = self.reaches.get_mut(&connection) {
            *known = reach;
        }
    }

    /// Takes a peer out of the table.
    pub(crate) fn remove(&mut self, peer: &PeerId) {
        self.inner.remove_peer(peer);
    }

    /// How many peers are in the table.
    pub(crate) fn table_size(&mut self) -> usize {
        self.inner.kbuckets().map(|bucket| bucket.num_entries()).sum()
    }

    /// Those of `addresses` that may be dialled: a peer cannot send us to our own host or network unless
    /// somebody we are connected to is there.
    pub(crate) fn admissible(&self, peer: PeerId, addresses: &[Multiaddr]) -> Vec<Multiaddr> {
        // Without a connection nobody tells anything: what is dialled then comes from our own table, and
        // passed when it got there.
        let nearest = self.reaches.values().min().copied().unwrap_or(Reach::Host);
        let dialable = addresses.iter().filter_map(|address| dialable(peer, address));
        let mut admissible = Vec::new();
        for address in dialable.filter(|address| reach(address).is_some_and(|reach| reach >= nearest)) {
            if admissible.len() < MAX_DIAL_ADDRESSES && !admissible.contains(&address) {
                admissible.push(address);
            }
        }
        admissible
    }

    fn shape(&mut self, opts: &DialOpts) -> Option<DialOpts> {
        let peer = opts.get_peer_id()?;
        if self.dialling.len() >= MAX_DIALS || self.reaches.len() >= self.unasked {
            let (connection_id, error) = (opts.connection_id(), &DialError::Aborted);
            let failure = DialFailure { peer_id: Some(peer), error, connection_id };
            self.inner.on_swarm_event(FromSwarm::DialFailure(failure));
            return None;
        }
        let opts = DialOpts::peer_id(peer).allocate_new_port().build();
        self.dialling.insert(opts.connection_id());
        Some(opts)
    }
}

impl NetworkBehaviour for Behaviour {
    type ConnectionHandler = <kad::Behaviour<Shelf> as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = kad::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        let told = self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)?;
        let mut admissible = peer.map(|peer| self.admissible(peer, &told)).unwrap_or_default();
        admissible.retain(|address| !transports::is_refused(address));
        Ok(first_choice(admissible))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match &event {
            FromSwarm::ConnectionEstablished(event) => {
                self.dialling.remove(&event.connection_id);
                let reach = reach_of_remote(event.endpoint.get_remote_address());
                self.reaches.insert(event.connection_id, reach);
            }
            FromSwarm::ConnectionClosed(event) => {
                self.reaches.remove(&event.connection_id);
            }
            FromSwarm::DialFailure(event) => {
                self.dialling.remove(&event.connection_id);
            }
            // It would begin a query among nobody and warn that there is nobody. Where we listen is
            // told by identify.
            FromSwarm::NewListenAddr(_) | FromSwarm::ExpiredListenAddr(_) => return,
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        event: THandlerOutEvent<Self>,
    ) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        loop {
            match self.inner.poll(cx) {
                Poll::Ready(ToSwarm::Dial { opts }) => {
                    if let Some(opts) = self.shape(&opts) {
                        return Poll::Ready(ToSwarm::Dial { opts });
                    }
                }
                other => return other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    #[test]
    fn a_peer_cannot_send_us_further_inward_than_we_are_connected() {
        let mut dht = behaviour(test_peer(1), "test", 64).unwrap();
        let told = ["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip4/9.9.9.9/tcp/1", "/memory/1"]
            .map(|text| text.parse::<Multiaddr>().unwrap());
        for (nearest, count) in [(Reach::Host, 3), (Reach::Network, 2), (Reach::World, 1)] {
            dht.reaches = BTreeMap::from([(ConnectionId::new_unchecked(1), nearest)]);
            assert_eq!(dht.admissible(test_peer(2), &told).len(), count, "{nearest:?}");
        }
    }

    #[test]
    fn a_peer_that_says_ever_new_addresses_has_few_in_the_table() {
        let (mut dht, peer) = (behaviour(test_peer(1), "test", 64).unwrap(), test_peer(2));
        for port in 1..100 {
            let said = [port, port + 1].map(|port| format!("/ip4/10.0.0.1/tcp/{port}").parse().unwrap());
            dht.add(peer, &said);
        }
        dht.add(peer, &[]);
        let kept: Vec<_> = dht.table_addresses(peer).iter().map(Multiaddr::to_string).collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept.contains(&format!("/ip4/10.0.0.1/tcp/100/p2p/{peer}")), "{kept:?}");
        assert_eq!(dht.table_size(), 1);
        dht.remove(&peer);
        assert_eq!(dht.table_size(), 0);
    }

    #[test]
    fn its_dials_are_bounded_and_free_their_places() {
        let mut dht = behaviour(test_peer(1), "test", 64).unwrap();
        let begun: Vec<_> =
            (0..100).filter_map(|_| dht.shape(&DialOpts::peer_id(PeerId::random()).build())).collect();
        assert_eq!(begun.len(), MAX_DIALS);
        dht.on_swarm_event(FromSwarm::DialFailure(DialFailure {
            peer_id: begun[0].get_peer_id(),
            error: &DialError::NoAddresses,
            connection_id: begun[0].connection_id(),
        }));
        assert!(dht.shape(&DialOpts::peer_id(PeerId::random()).build()).is_some());
    }

    #[test]
    fn it_dials_nobody_when_half_of_the_connections_are_taken() {
        let mut dht = behaviour(test_peer(1), "test", 2).unwrap();
        for (id, may_dial) in [(1, true), (2, false)] {
            dht.reaches.insert(ConnectionId::new_unchecked(id), Reach::World);
            let dial = dht.shape(&DialOpts::peer_id(PeerId::random()).build());
            assert_eq!(dial.is_some(), may_dial, "{id} connections");
        }
    }
}
