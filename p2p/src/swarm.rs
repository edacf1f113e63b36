//! The loop: one task owns the swarm, selects and dispatches, and waits for nobody.
//!
//! Local work comes before what the network brings, because local work is bounded by its channels
//! and what the network brings is not; tokio's own budget keeps either from starving the other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_actors::Did;
use dms_actors::clock::{SharedClock, Timestamp};
use dms_actors::mesh::{GossipId, PublishError, Topic, Verdict};
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, StreamProtocol, kad, ping};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::CancellationToken;

use crate::addresses::{by_use, is_loopback, is_quic, reach_as_seen, without_peer};
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::dial::{Dialer, SharedBook};
use crate::directory::{Checked, Clerk, Request};
use crate::event::Outbox;
use crate::foreigners::Foreigners;
use crate::gossip::Desk;
use crate::links::{Incoming, OpenFailure};
use crate::listen::Pending;
use crate::lookup::Seeker;
use crate::mdns::Finder;
use crate::node::P2pError;
use crate::opening::Open;
use crate::shut_out::{MAX_SHUT_OUT, ShutOut};
use crate::status::{Direction, P2pStatus, PeerStatus, TransportKind};
use crate::{identify, liveness, mdns, peer};

/// How long a shutdown waits for connections to close in order; peers notice the rest by themselves.
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// How often the mesh sizes in the status are counted.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// What a handle asks of the loop. Each carries its way back.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open a stream to a peer.
    Open(Open),
    /// Publish a message.
    Publish { topic: Topic, body: Vec<u8>, reply: oneshot::Sender<Result<(), PublishError>> },
    /// Ask the directory.
    Directory(Request),
    /// End the connections to a peer, and have none with it for so long.
    ShutOut { peer: Did, time: Duration },
    /// Listen to a topic.
    Subscribe { topic: Topic, reply: oneshot::Sender<Result<(), PublishError>> },
}

impl From<Open> for Command {
    fn from(open: Open) -> Self {
        Self::Open(open)
    }
}

/// A verdict on its way to the loop.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) id: GossipId,
    pub(crate) forwarder: Did,
    pub(crate) verdict: Verdict,
}

/// An established connection.
#[derive(Debug)]
pub(crate) struct Connection {
    peer: PeerId,
    remote: Multiaddr,
    direction: Direction,
    since: Timestamp,
    round_trip: Option<Duration>,
    agent: String,
}

/// Everything that the loop owns.
pub(crate) struct Loop {
    pub(crate) swarm: libp2p::Swarm<Behaviour>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) verdicts: mpsc::Receiver<Judgement>,
    pub(crate) book: SharedBook,
    pub(crate) dialer: Dialer,
    pub(crate) desk: Desk,
    pub(crate) outbox: Outbox,
    /// The network's name, and its name for Kademlia.
    pub(crate) network: String,
    pub(crate) kad_protocol: StreamProtocol,
    pub(crate) clerk: Clerk,
    /// Records of others that went through their check.
    pub(crate) checked: mpsc::Receiver<Checked>,
    pub(crate) seeker: Seeker,
    pub(crate) foreigners: Foreigners,
    pub(crate) shut_out: ShutOut,
    pub(crate) finder: Finder,
    /// When peers found by mDNS are dialled again.
    pub(crate) next_meeting: Instant,
    pub(crate) clock: SharedClock,
    pub(crate) status: watch::Sender<P2pStatus>,
    pub(crate) peers: watch::Sender<Vec<PeerStatus>>,
    /// The listeners that are not bound yet, and who waits for them.
    pub(crate) pending: Pending,
    pub(crate) started: Option<oneshot::Sender<Result<(), P2pError>>>,
    /// At this many connections nobody is dialled that nobody asked for.
    pub(crate) unasked: usize,
    /// Every connection, in the order of their dials and accepts.
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
}

impl Loop {
    /// Runs until `stop`, or until every handle is gone.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut status_tick = tokio::time::interval(STATUS_PERIOD);
        status_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.report_started();
        loop {
            self.begin_dials();
            let due = self.dialer.next_due().into_iter().chain(self.seeker.next_due()).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(judgement) = self.verdicts.recv() => self.on_judgement(&judgement),
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                () = self.outbox.flush_one() => {}
                Some(checked) = self.checked.recv() => {
                    self.clerk.on_checked(&mut self.swarm.behaviour_mut().dht, checked, Instant::now());
                }
                () = until(due) => self.end_late_searches(),
                _ = status_tick.tick() => self.on_tick(),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        self.close().await;
    }

    fn on_command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        // Whoever asked may have stopped waiting; then the answer is of no use to anyone.
        match command {
            Command::Open(Open { peer, wish }) => {
                if let Err(wish) = behaviour.links.open(peer, wish)
                    && let Err(wish) = self.dialer.want(peer, wish)
                {
                    let (dht, clerk) = (&mut behaviour.dht, &mut self.clerk);
                    self.seeker.want(peer, wish, Instant::now(), || clerk.search(dht, peer));
                }
            }
            Command::ShutOut { peer, time } => self.on_shut_out(peer::peer_id(&peer), time),
            Command::Directory(request) => self.clerk.on_request(&mut behaviour.dht, request),
            Command::Publish { topic, body, reply } => {
                let _ = reply.send(self.desk.publish(&mut behaviour.gossip, &topic, body));
            }
            Command::Subscribe { topic, reply } => {
                let _ = reply.send(self.desk.subscribe(&mut behaviour.gossip, topic));
                self.refresh_status();
            }
        }
    }

    fn on_shut_out(&mut self, peer: PeerId, time: Duration) {
        tracing::info!(%peer, ?time, "shut out");
        let behaviour = &mut self.swarm.behaviour_mut().shut_out;
        if time.is_zero() {
            self.shut_out.remove(behaviour, &peer);
        } else {
            self.shut_out.add(behaviour, peer, Instant::now() + time.min(MAX_SHUT_OUT));
        }
        // An error means that there is no connection.
        let _ = self.swarm.disconnect_peer_id(peer);
    }

    fn on_judgement(&mut self, judgement: &Judgement) {
        let gossip = &mut self.swarm.behaviour_mut().gossip;
        self.desk.judge(gossip, &judgement.id, judgement.forwarder, judgement.verdict);
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.on_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id, connection_id, endpoint, num_established, ..
            } => {
                self.on_established(peer_id, connection_id, &endpoint, num_established.get() == 1);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                tracing::debug!(peer = %peer_id, ?cause, "connection closed");
                self.on_closed(peer_id, connection_id, num_established == 0);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error, .. } => {
                tracing::debug!(%error, "dial failed");
                self.on_dial_failed(connection_id, peer_id, &error);
            }
            SwarmEvent::IncomingConnectionError { error, send_back_addr, .. } => {
                tracing::debug!(%error, remote = %send_back_addr, "inbound connection failed");
            }
            SwarmEvent::NewListenAddr { listener_id, address } => {
                tracing::info!(%address, "listening");
                self.pending.on_bound(listener_id);
                self.refresh_status();
                self.report_started();
            }
            SwarmEvent::ExpiredListenAddr { .. } => self.refresh_status(),
            SwarmEvent::ListenerClosed { listener_id, reason, .. } => {
                tracing::warn!(?reason, "listener closed");
                self.refresh_status();
                if let Some(error) = self.pending.on_closed(listener_id, &reason) {
                    self.report_failed(error);
                }
            }
            SwarmEvent::ListenerError { error, .. } => tracing::warn!(%error, "listener failed once"),
            _ => {}
        }
    }

    fn on_behaviour_event(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Links(incoming) => self.on_incoming(incoming),
            BehaviourEvent::Gossip(event) => {
                if self.desk.on_event(&mut self.swarm.behaviour_mut().gossip, event) {
                    self.refresh_status();
                }
            }
            BehaviourEvent::Identify(event) => {
                if let Some(said) = identify::said(event) {
                    self.on_said(said);
                }
            }
            BehaviourEvent::Dht(event) => self.on_dht(event),
            BehaviourEvent::Mdns(libp2p::mdns::Event::Discovered(found)) => self.on_found(found),
            BehaviourEvent::Mdns(libp2p::mdns::Event::Expired(_)) => {}
            BehaviourEvent::Ping(event) => self.on_ping(&event),
            BehaviourEvent::Limits(never)
            | BehaviourEvent::Admission(never)
            | BehaviourEvent::ShutOut(never) => match never {},
        }
    }

    /// A peer said who it is: one of another network is let go, one of ours is known from now on.
    fn on_said(&mut self, said: identify::Said) {
        let peer = said.peer;
        if identify::is_of_another_network(&said.protocol_version, &self.network) {
            tracing::debug!(peer = %peer, version = said.protocol_version, "a peer of another network is let go");
            self.foreigners.add(peer, Instant::now());
            self.book.lock().forget(&peer);
            self.swarm.behaviour_mut().dht.remove(&peer);
            // An error means that it has gone by itself.
            let _ = self.swarm.disconnect_peer_id(peer);
            return;
        }
        self.foreigners.remove(&peer);
        let Some(connection) = self.connections.get_mut(&said.connection) else { return };
        connection.agent = said.agent;
        let reach = reach_as_seen(&connection.remote, &said.observed);
        let known = {
            let mut book = self.book.lock();
            book.add_heard(peer, &said.addresses, reach);
            by_use(book.addresses(&peer), Some(&connection.remote))
        };
        let dht = &mut self.swarm.behaviour_mut().dht;
        dht.set_reach(said.connection, reach);
        if said.protocols.contains(&self.kad_protocol) {
            dht.add(peer, &known);
        } else {
            dht.remove(&peer);
        }
    }

    fn on_dht(&mut self, event: kad::Event) {
        let dht = &mut self.swarm.behaviour_mut().dht;
        match event {
            kad::Event::OutboundQueryProgressed { id, result, stats, step } => {
                if let Some((peer, told)) = self.clerk.on_progress(dht, id, result, &stats, step.last) {
                    self.on_searched(peer, &told);
                }
            }
            kad::Event::InboundRequest {
                request: kad::InboundRequest::PutRecord { source, record: Some(record), .. },
            } => self.clerk.on_record(record, source, Instant::now()),
            kad::Event::InboundRequest {
                request: kad::InboundRequest::AddProvider { record: Some(record) },
            } => {
                let known = self.book.lock().addresses(&record.provider);
                Clerk::on_provider(dht, record, known);
            }
            kad::Event::RoutingUpdated { is_new_peer: true, .. } => self.clerk.on_growth(Instant::now()),
            _ => {}
        }
    }

    /// A search is over: whoever waited is dialled for, or told that there is no route.
    fn on_searched(&mut self, peer: PeerId, told: &[Multiaddr]) {
        for address in self.swarm.behaviour().dht.admissible(peer, told) {
            self.book.lock().add(peer, &address);
        }
        for wish in self.seeker.end(&peer, Instant::now()) {
            if let Err(wish) = self.dialer.want(peer, wish) {
                wish.fail(OpenFailure::NoRoute);
            }
        }
    }

    fn end_late_searches(&mut self) {
        while let Some(peer) = self.seeker.overdue(Instant::now()) {
            self.clerk.end_search(&mut self.swarm.behaviour_mut().dht, &peer);
            self.on_searched(peer, &[]);
        }
    }

    /// mDNS found peers: strangers that are dialled if there is room.
    fn on_found(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        for (peer, addresses) in mdns::peers(found) {
            if !self.is_of_interest(&peer, now) {
                continue;
            }
            for address in &addresses {
                self.book.lock().add(peer, address);
            }
            if self.finder.budget(now) > 0 && self.meet(peer, now) {
                self.finder.count();
            }
        }
        let mdns = &mut self.swarm.behaviour_mut().mdns;
        if mdns.as_ref().is_some_and(|mdns| mdns.discovered_nodes().len() > mdns::MAX_DISCOVERED) {
            tracing::warn!(
                "the local network is flooded with names: peers are not looked for there any more"
            );
            *mdns = None.into();
        }
    }

    /// Dials a stranger if there is room, at the cost of the finder's budget.
    fn meet(&mut self, peer: PeerId, now: Instant) -> bool {
        let is_queued = self.connections.len() < self.unasked && self.dialer.meet(peer);
        if is_queued {
            self.finder.charge(now);
        }
        is_queued
    }

    /// Dials those again that mDNS found and that are not connected any more.
    fn meet_again(&mut self, now: Instant) {
        if now < self.next_meeting {
            return;
        }
        self.next_meeting = now + mdns::MEET_AGAIN;
        let Some(mdns) = self.swarm.behaviour().mdns.as_ref() else { return };
        let away = mdns.discovered_nodes().filter(|peer| !self.swarm.is_connected(peer));
        let away: BTreeSet<PeerId> = away.copied().collect();
        for peer in self.finder.turn(&away, now) {
            if self.is_of_interest(&peer, now) {
                self.meet(peer, now);
            }
        }
    }

    /// True if it is worth dialling a peer that nobody asked for.
    fn is_of_interest(&self, peer: &PeerId, now: Instant) -> bool {
        // The key is looked at last: it costs the most.
        peer != self.swarm.local_peer_id()
            && !self.swarm.is_connected(peer)
            && !self.foreigners.contains(peer, now)
            && !self.shut_out.contains(peer)
            && peer::did(peer).is_some()
    }

    fn on_dial_failed(&mut self, connection: ConnectionId, peer: Option<PeerId>, error: &DialError) {
        // Whoever is nowhere to be found must not slow every query down; identify brings it back.
        let is_gone = matches!(error, DialError::Transport(_) | DialError::WrongPeerId { .. });
        if let Some(peer) = peer.filter(|peer| is_gone && !self.swarm.is_connected(peer)) {
            self.swarm.behaviour_mut().dht.remove(&peer);
        }
        if let Some(peer) = self.dialer.on_failed(connection, error, Instant::now()) {
            let (dht, clerk) = (&mut self.swarm.behaviour_mut().dht, &mut self.clerk);
            self.seeker.refresh(peer, Instant::now(), || clerk.search(dht, peer));
        }
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        self.clerk.on_tick(&mut self.swarm.behaviour_mut().dht, now);
        self.meet_again(now);
        self.shut_out.end(&mut self.swarm.behaviour_mut().shut_out, now);
        self.refresh_status();
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        if let Some(did) = peer::did(&incoming.peer) {
            self.outbox.opened(did, incoming.protocol, Box::new(incoming.stream.compat()));
        }
    }

    fn on_ping(&mut self, event: &ping::Event) {
        if let (Some(connection), Ok(took)) = (self.connections.get_mut(&event.connection), &event.result) {
            connection.round_trip = Some(*took);
        }
        if liveness::is_dead(event) {
            tracing::info!(peer = %event.peer, "closing a connection that stopped answering");
            self.swarm.close_connection(event.connection);
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint, is_first: bool) {
        let connection = Connection {
            peer,
            remote: endpoint.get_remote_address().clone(),
            direction: if endpoint.is_dialer() { Direction::Dialled } else { Direction::Accepted },
            since: self.clock.now(),
            round_trip: None,
            agent: String::new(),
        };
        self.connections.insert(id, connection);
        self.refresh_status();
        if is_first && let Some(did) = peer::did(&peer) {
            self.outbox.up(did);
        }
        let mut wishes = self.dialer.on_established(peer, id, endpoint, Instant::now());
        wishes.extend(self.seeker.on_established(&peer));
        self.clerk.end_search(&mut self.swarm.behaviour_mut().dht, &peer);
        for wish in wishes {
            if let Err(wish) = self.swarm.behaviour_mut().links.open(peer, wish) {
                wish.fail(OpenFailure::Unreachable("the connection closed at once".to_owned()));
            }
        }
    }

    fn on_closed(&mut self, peer: PeerId, id: ConnectionId, is_last: bool) {
        self.connections.remove(&id);
        self.refresh_status();
        if is_last {
            self.dialer.on_down(&peer, Instant::now());
            if let Some(did) = peer::did(&peer) {
                self.outbox.down(did);
            }
        }
    }

    fn begin_dials(&mut self) {
        while let Some(options) = self.dialer.next_dial(Instant::now()) {
            let id = options.connection_id();
            // A dial that cannot even begin has no event.
            if let Err(error) = self.swarm.dial(options) {
                tracing::debug!(%error, "dial refused");
                let _ = self.dialer.on_failed(id, &error, Instant::now());
            }
        }
    }

    fn report_started(&mut self) {
        if self.pending.is_empty()
            && let Some(started) = self.started.take()
        {
            let _ = started.send(Ok(()));
        }
    }

    fn report_failed(&mut self, error: P2pError) {
        if let Some(started) = self.started.take() {
            let _ = started.send(Err(error));
        }
    }

    fn refresh_status(&mut self) {
        let suffix = format!("/p2p/{}", self.swarm.local_peer_id());
        let listeners = by_use(self.swarm.listeners().cloned().collect(), None);
        self.dialer.set_listens_on_host(listeners.iter().any(is_loopback));
        let listen_addresses = listeners.iter().map(|address| format!("{address}{suffix}")).collect();
        let mut connected_peers: Vec<_> =
            self.connections.values().filter_map(|connection| peer::did(&connection.peer)).collect();
        connected_peers.sort();
        connected_peers.dedup();
        let status = P2pStatus {
            listen_addresses,
            connected_peers,
            connection_count: self.connections.len(),
            dial_count: self.dialer.count(),
            topics: self.desk.topic_statuses(&self.swarm.behaviour().gossip),
            dropped_streams: self.outbox.dropped_streams(),
            dropped_gossip: self.desk.dropped(),
            routing_peer_count: self.swarm.behaviour_mut().dht.table_size(),
            record_count: self.swarm.behaviour_mut().dht.kad().store_mut().record_count(),
            mdns_found_count: self.finder.found(),
            unreached_bootstraps: self.dialer.unreached_bootstraps(),
        };
        self.status.send_if_modified(|current| {
            let is_new = *current != status;
            if is_new {
                *current = status;
            }
            is_new
        });
        let peers = self.peer_statuses();
        self.peers.send_if_modified(|current| {
            let is_new = *current != peers;
            if is_new {
                *current = peers;
            }
            is_new
        });
    }

    /// Each peer by its newest connection, in the order of their DIDs.
    fn peer_statuses(&self) -> Vec<PeerStatus> {
        let mut newest = BTreeMap::new();
        for connection in self.connections.values() {
            let Some(did) = peer::did(&connection.peer) else { continue };
            let transport =
                if is_quic(&connection.remote) { TransportKind::Quic } else { TransportKind::Tcp };
            let status = PeerStatus {
                did,
                address: without_peer(&connection.remote).to_string(),
                transport,
                direction: connection.direction,
                since: connection.since,
                round_trip: connection.round_trip,
                agent: connection.agent.clone(),
            };
            newest.insert(did, status);
        }
        newest.into_values().collect()
    }

    /// Closes every connection in order, so that peers see an end and not a silence.
    async fn close(mut self) {
        self.commands.close();
        if let Some(address) = self.pending.first().cloned() {
            self.report_failed(crate::listen::failed(&address, "it was not bound in time"));
        }
        let peers: Vec<PeerId> = self.connections.values().map(|connection| connection.peer).collect();
        for peer in peers {
            // An error means that an earlier turn has closed it already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closing = async {
            while !self.connections.is_empty() {
                let event = self.swarm.select_next_some().await;
                self.on_event(event);
            }
        };
        if tokio::time::timeout(CLOSING_TIME, closing).await.is_err() {
            tracing::debug!(left = self.connections.len(), "connections were cut at shutdown");
        }
        self.connections.clear();
        drop(self.status.send_replace(P2pStatus::default()));
        drop(self.peers.send_replace(Vec::new()));
    }
}

/// Resolves at `due`, or never.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
