//! The loop: one task owns the swarm, selects and dispatches, and waits for nobody.
//!
//! Local work comes before what the network brings, because local work is bounded by its channels
//! and what the network brings is not; tokio's own budget keeps either from starving the other.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_actors::Did;
use dms_actors::mesh::{GossipId, PublishError, Topic, Verdict};
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::{ConnectionId, SwarmEvent};
use libp2p::{Multiaddr, PeerId, ping};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::compat::FuturesAsyncReadCompatExt;
use tokio_util::sync::CancellationToken;

use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::dial::{Dialer, SharedBook};
use crate::event::Outbox;
use crate::gossip::Desk;
use crate::links::{Incoming, OpenFailure, OpenStream};
use crate::listen::Pending;
use crate::node::P2pError;
use crate::status::P2pStatus;
use crate::{identify, liveness, peer};

/// How long a shutdown waits for connections to close in order; peers notice the rest by themselves.
const CLOSING_TIME: Duration = Duration::from_secs(1);
/// How often the mesh sizes in the status are counted.
const STATUS_PERIOD: Duration = Duration::from_secs(1);

/// What a handle asks of the loop. Each carries its way back.
#[derive(Debug)]
pub(crate) enum Command {
    /// Open a stream to a peer.
    Open { peer: PeerId, wish: OpenStream },
    /// Publish a message.
    Publish { topic: Topic, body: Vec<u8>, reply: oneshot::Sender<Result<(), PublishError>> },
    /// Listen to a topic.
    Subscribe { topic: Topic, reply: oneshot::Sender<Result<(), PublishError>> },
}

/// A verdict on its way to the loop.
#[derive(Debug)]
pub(crate) struct Judgement {
    pub(crate) id: GossipId,
    pub(crate) forwarder: Did,
    pub(crate) verdict: Verdict,
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
    pub(crate) status: watch::Sender<P2pStatus>,
    /// The listeners that are not bound yet, and who waits for them.
    pub(crate) pending: Pending,
    pub(crate) started: Option<oneshot::Sender<Result<(), P2pError>>>,
    /// Where each connection leads: its peer and its remote address.
    pub(crate) connections: BTreeMap<ConnectionId, (PeerId, Multiaddr)>,
}

impl Loop {
    /// Runs until `stop`, or until every handle is gone.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut status_tick = tokio::time::interval(STATUS_PERIOD);
        status_tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.report_started();
        loop {
            self.begin_dials();
            let due = self.dialer.next_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(judgement) = self.verdicts.recv() => self.on_judgement(&judgement),
                command = self.commands.recv() => match command {
                    Some(command) => self.on_command(command),
                    None => break,
                },
                () = self.outbox.flush_one() => {}
                () = until(due) => {}
                _ = status_tick.tick() => self.refresh_status(),
                event = self.swarm.select_next_some() => self.on_event(event),
            }
        }
        self.close().await;
    }

    fn on_command(&mut self, command: Command) {
        let behaviour = self.swarm.behaviour_mut();
        // Whoever asked may have stopped waiting; then the answer is of no use to anyone.
        match command {
            Command::Open { peer, wish } => {
                if let Err(wish) = behaviour.links.open(peer, wish) {
                    self.dialer.want(peer, wish);
                }
            }
            Command::Publish { topic, body, reply } => {
                let _ = reply.send(self.desk.publish(&mut behaviour.gossip, &topic, body));
            }
            Command::Subscribe { topic, reply } => {
                let _ = reply.send(self.desk.subscribe(&mut behaviour.gossip, topic));
                self.refresh_status();
            }
        }
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
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                tracing::debug!(%error, "dial failed");
                self.dialer.on_failed(connection_id, &error, Instant::now());
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
                let remote = self.connections.get(&event.connection_id()).map(|(_, remote)| remote);
                identify::on_event(event, remote, &mut self.book.lock());
            }
            BehaviourEvent::Ping(event) => self.on_ping(&event),
            BehaviourEvent::Limits(never) | BehaviourEvent::Admission(never) => match never {},
        }
    }

    fn on_incoming(&mut self, incoming: Incoming) {
        if let Some(did) = peer::did(&incoming.peer) {
            self.outbox.opened(did, incoming.protocol, Box::new(incoming.stream.compat()));
        }
    }

    fn on_ping(&mut self, event: &ping::Event) {
        if liveness::is_dead(event) {
            tracing::info!(peer = %event.peer, "closing a connection that stopped answering");
            self.swarm.close_connection(event.connection);
        }
    }

    fn on_established(&mut self, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint, is_first: bool) {
        self.connections.insert(id, (peer, endpoint.get_remote_address().clone()));
        self.refresh_status();
        if is_first && let Some(did) = peer::did(&peer) {
            self.outbox.up(did);
        }
        for wish in self.dialer.on_established(peer, id, endpoint, Instant::now()) {
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
                self.dialer.on_failed(id, &error, Instant::now());
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

    fn refresh_status(&self) {
        let suffix = format!("/p2p/{}", self.swarm.local_peer_id());
        let mut listen_addresses: Vec<_> =
            self.swarm.listeners().map(|address| format!("{address}{suffix}")).collect();
        listen_addresses.sort();
        let mut connected_peers: Vec<_> =
            self.connections.values().filter_map(|(peer, _)| peer::did(peer)).collect();
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
        };
        self.status.send_if_modified(|current| {
            let is_new = *current != status;
            if is_new {
                *current = status;
            }
            is_new
        });
    }

    /// Closes every connection in order, so that peers see an end and not a silence.
    async fn close(mut self) {
        self.commands.close();
        if let Some(address) = self.pending.first().cloned() {
            self.report_failed(crate::listen::failed(&address, "it was not bound in time"));
        }
        let peers: Vec<PeerId> = self.connections.values().map(|(peer, _)| *peer).collect();
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
    }
}

/// Resolves at `due`, or never.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
