//! Joins the mesh to the actors: the only place where words become sends and what is heard becomes words.
//!
//! Out: each peer has an outbox, one task that says words in order and reports what could not be brought
//! to it; a peer of whom no address is known is looked up first. In: words on links are decoded and checked by the runtime; gossip is checked here, off the
//! swarm's loop, and only what may be forwarded is.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dms_actors::directory::Directory;
use dms_actors::mesh::{Gossip, Mesh, Topic, Verdict};
use dms_actors::signed::SignedError;
use dms_actors::transport::Transport;
use dms_actors::wire::DecodeContext;
use dms_actors::{
    ActorRef, ActorSystem, Address, DeadLetterReason, Did, Kind, Message, PeerEvent, Recipient, Refusal,
    RefusalCode, SendFailure, WireMessage,
};
use dms_messages::{
    Advert, BidId, BidRequest, Credentials, Invocation, MAX_NODE_STATUS_LENGTH, NodeStatus, Revocation,
    Signed,
};
use dms_p2p::{P2pStatus, PeerStatus};
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::commands::UnreachedBootstrap;
use crate::directory::{Finder, WordCheck};
use crate::errors::whole;
use crate::node::Node;
use crate::orchestrator::discovery;
use crate::orchestrator::job_state::BarredWord;
use crate::paths::NODE_PATH;
use crate::trust::conduct::{Measure, Offence};
use crate::trust::{Gate, Measures};
use crate::word::{Addressed, Word};

/// Words that may wait for one peer: more than any job or allocation says at once; a peer that does not
/// take them is as good as unreachable.
const OUTBOX_CAPACITY: usize = 1024;
/// Most outboxes: as many as peers that are spoken to at a time.
const MAX_OUTBOXES: usize = 1024;
/// How long one word may take to be brought to its peer's link, dialling included.
const SEND_TIMEOUT: Duration = Duration::from_secs(10);

/// Least pause between two look-ups of a peer that nobody knows the way to.
const FIND_PAUSE: Duration = Duration::from_secs(10);

/// A word could not be brought to a peer.
#[derive(Debug)]
pub struct Undelivered {
    /// Whom.
    pub peer: Did,
    /// The bid, if the word was one.
    pub bid: Option<BidId>,
    /// What kind of trouble.
    pub trouble: Trouble,
    /// Why.
    pub reason: String,
}

/// What kind of trouble kept a word from its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The peer cannot be dialled.
    Unreachable,
    /// The link broke after the word was taken: it may have arrived, and dialling again may help.
    LinkLost,
    /// The peer is there and does not let this node say such a word.
    Barred(BarredWord),
    /// The peer is there and did not take this word, or did not take it in time.
    NotTaken,
}

impl Message for Undelivered {
    type Reply = ();
}

/// A peer came or went.
#[derive(Debug)]
pub struct PeerChanged(pub PeerEvent);

impl Message for PeerChanged {
    type Reply = ();
}

/// A word heard by gossip, proven to be its issuer's.
#[derive(Debug)]
pub enum Heard {
    /// A provider's offer.
    Advert(Signed<Advert>),
    /// A requester's call.
    BidRequest(Signed<BidRequest>),
    /// How a node stands.
    NodeStatus(Signed<NodeStatus>),
    /// A token that holds no longer.
    Revocation(Signed<Revocation>),
}

impl Message for Heard {
    type Reply = ();
}

impl Heard {
    /// What its issuer shows with it.
    fn credentials(&self) -> Option<(Did, &Credentials)> {
        match self {
            Self::Advert(advert) => Some((advert.issuer(), &advert.value().credentials)),
            Self::BidRequest(request) => Some((request.issuer(), &request.value().credentials)),
            Self::NodeStatus(_) | Self::Revocation(_) => None,
        }
    }
}

/// The node's mouth: one owner, the Node actor.
pub struct Network {
    system: ActorSystem,
    transport: Arc<dyn Transport>,
    mesh: Arc<dyn Mesh>,
    directory: Arc<dyn Directory>,
    connections: watch::Receiver<Vec<PeerStatus>>,
    transport_status: watch::Receiver<P2pStatus>,
    finder: Finder,
    runtime: Handle,
    outboxes: BTreeMap<Did, mpsc::Sender<Word>>,
    pending: watch::Sender<usize>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("outboxes", &self.outboxes.len()).finish_non_exhaustive()
    }
}

/// What a [`Network`] is made of; kept by whoever restarts the Node.
#[derive(Clone)]
pub struct NetworkParts {
    /// The actors.
    pub system: ActorSystem,
    /// The links.
    pub transport: Arc<dyn Transport>,
    /// The gossip.
    pub mesh: Arc<dyn Mesh>,
    /// Records and providers.
    pub directory: Arc<dyn Directory>,
    /// What the transport says of each connection, in the order of the DIDs.
    pub connections: watch::Receiver<Vec<PeerStatus>>,
    /// What the transport says of itself.
    pub transport_status: watch::Receiver<P2pStatus>,
    /// Where sends run.
    pub runtime: Handle,
    /// Words taken and not yet on a link.
    pub pending: watch::Sender<usize>,
}

impl fmt::Debug for NetworkParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkParts").field("system", &self.system).finish_non_exhaustive()
    }
}

impl Network {
    /// A mouth that has said nothing yet.
    pub fn new(parts: NetworkParts) -> Self {
        let NetworkParts {
            system,
            transport,
            mesh,
            directory,
            connections,
            transport_status,
            runtime,
            pending,
        } = parts;
        let check = WordCheck::new(system.me(), system.network(), system.clock());
        let finder = Finder::new(Arc::clone(&directory), check);
        Self {
            system,
            transport,
            mesh,
            directory,
            connections,
            transport_status,
            finder,
            runtime,
            outboxes: BTreeMap::new(),
            pending,
        }
    }

    /// Says a word to a peer's node (or to this one), after all that was said to it before. What cannot
    /// be brought to it comes back to `node` as [`Undelivered`].
    pub fn say(&mut self, node: &ActorRef<Node>, addressed: Addressed) {
        let Addressed { to, word } = addressed;
        let outbox = match self.outboxes.get(&to) {
            Some(outbox) if !outbox.is_closed() => outbox,
            _ => {
                if self.outboxes.len() >= MAX_OUTBOXES {
                    // Only empty ones: two outboxes for one peer would lose the order.
                    self.outboxes.retain(|_, outbox| outbox.capacity() < outbox.max_capacity());
                }
                let (tx, rx) = mpsc::channel(OUTBOX_CAPACITY);
                let route = Route {
                    recipients: Recipients::new(&self.system, to),
                    finder: self.finder.clone(),
                    transport: Arc::clone(&self.transport),
                    last_found: None,
                };
                self.runtime.spawn(run_outbox(to, route, rx, node.clone(), self.pending.clone()));
                self.outboxes.insert(to, tx);
                &self.outboxes[&to]
            }
        };
        self.pending.send_modify(|count| *count += 1);
        // What is a convenience leaves room for the words that count.
        let is_convenience = is_convenience(&word);
        let has_room = !is_convenience || outbox.capacity() > OUTBOX_CAPACITY / 2;
        let refused =
            if has_room { outbox.try_send(word).err().map(TrySendError::into_inner) } else { Some(word) };
        if let Some(word) = refused {
            self.pending.send_modify(|count| *count = count.saturating_sub(1));
            if !is_convenience {
                let reason = "too many words wait for it".to_owned();
                report(
                    node,
                    Undelivered { peer: to, bid: bid_in(&word), trouble: Trouble::NotTaken, reason },
                );
            }
        }
    }

    /// Says a document to the whole mesh.
    pub fn gossip<T>(&self, topic: Topic, document: &Signed<T>) {
        let published = self.mesh.publish(topic, document.bytes().to_vec());
        self.runtime.spawn(async move {
            if let Err(error) = published.await {
                tracing::debug!(%error, "nothing was gossiped");
            }
        });
    }

    /// Remembers where a peer says it can be dialled.
    pub fn remember(&self, peer: Did, addresses: Vec<String>) {
        if peer != self.system.me() && !addresses.is_empty() {
            self.transport.add_addresses(peer, addresses);
        }
    }

    /// Where this node can be dialled, from this machine or others.
    pub fn addresses(&self) -> Vec<String> {
        self.transport.listen_addresses()
    }

    /// Where this node tells others that it can be dialled.
    pub fn own_addresses(&self) -> Vec<String> {
        discovery::worth_telling(self.addresses())
    }

    /// What the transport says of the connection to a peer.
    pub fn connection(&self, peer: Did) -> Option<PeerStatus> {
        let connections = self.connections.borrow();
        // In the order of the DIDs.
        connections
            .binary_search_by_key(&peer, |status| status.did)
            .ok()
            .map(|index| connections[index].clone())
    }

    /// The bootstrap peers that do not answer, and why.
    pub fn unreached_bootstraps(&self) -> Vec<UnreachedBootstrap> {
        let status = self.transport_status.borrow();
        let unreached = status.unreached_bootstraps.iter();
        unreached
            .map(|it| UnreachedBootstrap { address: it.address.clone(), reason: it.reason.clone() })
            .collect()
    }

    /// Records and providers.
    pub fn directory(&self) -> Arc<dyn Directory> {
        Arc::clone(&self.directory)
    }

    /// Looks words up in the directory.
    pub fn finder(&self) -> &Finder {
        &self.finder
    }

    /// Who is connected.
    pub fn peers(&self) -> Vec<Did> {
        self.transport.connected_peers()
    }

    /// The links, for whoever fetches contents.
    pub fn transport(&self) -> Arc<dyn Transport> {
        Arc::clone(&self.transport)
    }

    /// Where work that is not an actor's runs.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// The name of the topic of bid requests, as tokens name it.
pub const BID_REQUESTS: &str = "bid-request";

/// Where gossiped bid requests are heard.
pub fn bid_request_topic(network: &str) -> Topic {
    Topic(format!("/dms/{network}/{BID_REQUESTS}"))
}

/// Where revocations are heard.
pub fn revocation_topic(network: &str) -> Topic {
    Topic(format!("/dms/{network}/revocation"))
}

/// Where adverts are heard.
pub fn advert_topic(network: &str) -> Topic {
    Topic(format!("/dms/{network}/advert"))
}

/// Where statuses are heard.
pub fn status_topic(network: &str) -> Topic {
    Topic(format!("/dms/{network}/node-status"))
}

/// One recipient per kind of word, made when first needed.
struct Recipients {
    system: ActorSystem,
    address: Address,
}

impl Recipients {
    fn new(system: &ActorSystem, to: Did) -> Self {
        let address = Address::new(to, NODE_PATH).expect("the node's path is well-formed");
        Self { system: system.clone(), address }
    }

    fn to<M>(&self) -> Recipient<M>
    where
        M: Message<Reply = ()> + WireMessage,
    {
        self.system.resolve(&self.address)
    }

    /// Says a word; one that was not taken comes back.
    async fn say(&self, word: Word) -> Result<(), NotSaid> {
        async fn tell<M: Message<Reply = ()> + WireMessage>(
            to: Recipient<M>,
            message: M,
            word: fn(M) -> Word,
        ) -> Result<(), NotSaid> {
            let told = to.tell(message).await;
            told.map_err(|error| NotSaid { word: word(error.message), failure: error.reason })
        }
        match word {
            Word::Advert(word) => tell(self.to(), word, Word::Advert).await,
            Word::BidRequest(word) => tell(self.to(), word, Word::BidRequest).await,
            Word::Bid(word) => tell(self.to(), word, Word::Bid).await,
            Word::Decline(word) => tell(self.to(), word, Word::Decline).await,
            Word::Release(word) => tell(self.to(), word, Word::Release).await,
            Word::Invocation(word) => tell(self.to(), *word, |word| Word::Invocation(Box::new(word))).await,
            Word::Accepted(word) => tell(self.to(), word, Word::Accepted).await,
            Word::Refused(word) => tell(self.to(), word, Word::Refused).await,
            Word::AllocationStatus(word) => tell(self.to(), word, Word::AllocationStatus).await,
            Word::AllocationStatusRequest(word) => tell(self.to(), word, Word::AllocationStatusRequest).await,
            Word::AllocationOutput(word) => tell(self.to(), word, Word::AllocationOutput).await,
            Word::Acknowledge(word) => tell(self.to(), word, Word::Acknowledge).await,
            Word::Cancel(word) => tell(self.to(), word, Word::Cancel).await,
            Word::Reconcile(word) => tell(self.to(), word, Word::Reconcile).await,
            Word::Census(word) => tell(self.to(), word, Word::Census).await,
            Word::CensusReply(word) => tell(self.to(), word, Word::CensusReply).await,
            Word::Join(word) => tell(self.to(), word, Word::Join).await,
            Word::Renew(word) => tell(self.to(), word, Word::Renew).await,
            Word::Admitted(word) => tell(self.to(), word, Word::Admitted).await,
            Word::NotAdmitted(word) => tell(self.to(), word, Word::NotAdmitted).await,
            Word::Revocations(word) => tell(self.to(), word, Word::Revocations).await,
            Word::Successions(word) => tell(self.to(), word, Word::Successions).await,
        }
    }
}

/// A word that was not taken.
struct NotSaid {
    word: Word,
    failure: SendFailure,
}

/// The way to one peer.
struct Route {
    recipients: Recipients,
    finder: Finder,
    transport: Arc<dyn Transport>,
    /// When the peer was last looked up.
    last_found: Option<Instant>,
}

impl Route {
    /// Says a word within the time that one may take; if no address of the peer is known, looks for one and
    /// says it again.
    async fn say(&mut self, word: Word, node: &ActorRef<Node>) -> Result<(), (Trouble, String)> {
        let NotSaid { word, failure } = match self.say_once(word).await {
            Some(Ok(())) => return Ok(()),
            Some(Err(not_said)) => not_said,
            None => return Err(too_slow()),
        };
        // A peer whose address is known is not looked for: that it is gone must be known at once.
        let failure = match failure {
            SendFailure::NoRouteYet if self.find(node).await => match self.say_once(word).await {
                Some(Ok(())) => return Ok(()),
                Some(Err(not_said)) => not_said.failure,
                None => return Err(too_slow()),
            },
            failure => failure,
        };
        let trouble = match failure {
            SendFailure::Unreachable(_) | SendFailure::NoRouteYet => Trouble::Unreachable,
            _ => Trouble::NotTaken,
        };
        Err((trouble, whole(&failure)))
    }

    /// None if it takes too long.
    async fn say_once(&self, word: Word) -> Option<Result<(), NotSaid>> {
        timeout(SEND_TIMEOUT, self.recipients.say(word)).await.ok()
    }

    /// Looks up where the peer is, once in a while; true if that is now known.
    async fn find(&mut self, node: &ActorRef<Node>) -> bool {
        if self.last_found.is_some_and(|last| last.elapsed() < FIND_PAUSE) {
            return false;
        }
        self.last_found = Some(Instant::now());
        let peer = self.recipients.address.did;
        let Some(advert) = self.finder.find_advert(peer).await else { return false };
        tracing::debug!(%peer, "found where a peer is");
        self.transport.add_addresses(peer, advert.value().addresses.clone());
        // A node too busy to note it hears of it again by gossip.
        let _ = node.try_tell(Heard::Advert(advert));
        true
    }
}

fn too_slow() -> (Trouble, String) {
    (Trouble::NotTaken, format!("it took no word within {} s", SEND_TIMEOUT.as_secs()))
}

async fn run_outbox(
    peer: Did,
    mut route: Route,
    mut words: mpsc::Receiver<Word>,
    node: ActorRef<Node>,
    pending: watch::Sender<usize>,
) {
    let mut is_unreachable = None;
    while let Some(word) = words.recv().await {
        let is_convenience = is_convenience(&word);
        let bid = bid_in(&word);
        // What waits behind a word that found nobody finds nobody either.
        let outcome = match is_unreachable.take() {
            Some(reason) => Err((Trouble::Unreachable, reason)),
            None => route.say(word, &node).await,
        };
        pending.send_modify(|count| *count = count.saturating_sub(1));
        let Err((trouble, reason)) = outcome else { continue };
        tracing::debug!(%peer, %reason, "a word was not delivered");
        if trouble == Trouble::Unreachable && !words.is_empty() {
            is_unreachable = Some(reason.clone());
        }
        if !is_convenience {
            report(&node, Undelivered { peer, bid, trouble, reason });
        }
    }
}

/// True if nobody misses the word when it is lost: what comes after it makes up for it.
fn is_convenience(word: &Word) -> bool {
    matches!(word, Word::AllocationOutput(_) | Word::Census(_) | Word::CensusReply(_))
}

/// The bid, if the word is one: its lock must not outlive a bid that never arrived.
fn bid_in(word: &Word) -> Option<BidId> {
    match word {
        Word::Bid(bid) => Some(bid.value().id),
        _ => None,
    }
}

/// Tells the node; a node whose mailbox is full learns it from the next heartbeat.
fn report(node: &ActorRef<Node>, undelivered: Undelivered) {
    if node.try_tell(undelivered).is_err() {
        tracing::debug!("the node is too busy to hear of an undelivered word");
    }
}

/// Brings peers that come and go, lost words and gossip to the node, until the system ends.
pub fn listen(parts: &NetworkParts, gate: &Gate, node: &ActorRef<Node>) {
    parts.runtime.spawn(bring_peers(parts.clone(), node.clone()));
    parts.runtime.spawn(bring_losses(parts.system.clone(), node.clone()));
    if let Some(heard) = parts.mesh.take_gossip() {
        parts.runtime.spawn(bring_gossip(parts.clone(), gate.clone(), heard, node.clone()));
    }
    if let Some(measures) = gate.take_measures() {
        parts.runtime.spawn(take_measures(parts.transport.clone(), measures));
    }
}

async fn bring_peers(parts: NetworkParts, node: ActorRef<Node>) {
    let mut events = parts.system.peers();
    // Peers that were connected before anybody listened.
    for peer in parts.transport.connected_peers() {
        if node.tell(PeerChanged(PeerEvent::Up(peer))).await.is_err() {
            return;
        }
    }
    loop {
        match events.recv().await {
            Ok(event) => {
                if node.tell(PeerChanged(event)).await.is_err() {
                    return;
                }
            }
            Err(RecvError::Lagged(count)) => {
                tracing::warn!(count, "missed peers that came or went");
                for peer in parts.transport.connected_peers() {
                    if node.tell(PeerChanged(PeerEvent::Up(peer))).await.is_err() {
                        return;
                    }
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

async fn bring_losses(system: ActorSystem, node: ActorRef<Node>) {
    let mut letters = system.dead_letters();
    // A link that dies with many words on it is one event.
    let mut last_lost: Option<(Did, Instant)> = None;
    loop {
        let letter = match letters.recv().await {
            Ok(letter) => letter,
            Err(RecvError::Lagged(count)) => {
                tracing::warn!(count, "missed dead letters");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        tracing::debug!(?letter, "a word was lost");
        let Some(peer) = letter.peer else { continue };
        let (trouble, reason) = match letter.reason {
            DeadLetterReason::LinkLost => {
                if last_lost.is_some_and(|(lost, at)| lost == peer && at.elapsed() < Duration::from_secs(1)) {
                    continue;
                }
                last_lost = Some((peer, Instant::now()));
                (Trouble::LinkLost, "the link was lost".to_owned())
            }
            DeadLetterReason::Refused(Refusal { code: RefusalCode::NotTrusted, text })
                if let Some(word) = letter.kind.as_ref().and_then(barred_word) =>
            {
                (Trouble::Barred(word), text)
            }
            DeadLetterReason::Refused(refusal) => {
                (Trouble::NotTaken, format!("it refused the word: {refusal}"))
            }
            _ => continue,
        };
        let undelivered = Undelivered { peer, bid: None, trouble, reason };
        if node.tell(undelivered).await.is_err() {
            return;
        }
    }
}

/// The word of this kind, if a job waits for its answer.
fn barred_word(kind: &Kind) -> Option<BarredWord> {
    if *kind == Kind::of::<Signed<BidRequest>>() {
        Some(BarredWord::BidRequest)
    } else if *kind == Kind::of::<Signed<Invocation>>() {
        Some(BarredWord::Invocation)
    } else {
        None
    }
}

/// Why a gossiped message is not brought to the node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unheard {
    /// Late, repeated, or of no use here.
    #[error("of no use here")]
    Ignore,
    /// Wrong: its forwarder should not have forwarded it.
    #[error("{0}")]
    Reject(String),
}

/// Does about peers what their conduct asks for.
async fn take_measures(transport: Arc<dyn Transport>, mut measures: Measures) {
    while let Some((peer, measure)) = measures.recv().await {
        let time = match measure {
            Measure::Ban(time) => time,
            Measure::Cut | Measure::LetIn => Duration::ZERO,
        };
        transport.shut_out(peer, time).await;
    }
}

async fn bring_gossip(
    parts: NetworkParts,
    gate: Gate,
    mut heard: mpsc::Receiver<Gossip>,
    node: ActorRef<Node>,
) {
    let topics = Topics::of(parts.system.network());
    let all = [&topics.bid_request, &topics.advert, &topics.status, &topics.revocation];
    for topic in all.map(Topic::clone) {
        if let Err(error) = parts.mesh.subscribe(topic).await {
            tracing::error!(%error, "cannot listen to gossip");
        }
    }
    while let Some(gossip) = heard.recv().await {
        let context = DecodeContext {
            me: parts.system.me(),
            now: parts.system.clock().now(),
            network: parts.system.network().to_owned(),
        };
        let is_firsthand = gossip.forwarder == gossip.source;
        // Before any signature is looked at.
        let checked = match gate.may_gossip(gossip.source) {
            true => check_gossip(&gossip, &topics, &context),
            false => {
                if is_firsthand {
                    gate.note(gossip.source, Offence::TooFast);
                }
                Err(Unheard::Ignore)
            }
        };
        let verdict = match checked {
            Ok(word) => {
                if let Some((holder, credentials)) = word.credentials() {
                    gate.show(holder, credentials);
                }
                // A full mailbox drops what was heard: nothing is owed to gossip.
                let _ = node.try_tell(word);
                Verdict::Accept
            }
            Err(Unheard::Ignore) => Verdict::Ignore,
            Err(Unheard::Reject(reason)) => {
                tracing::debug!(source = %gossip.source, forwarder = %gossip.forwarder, %reason, "gossip is rejected");
                // Whoever forwards it should have looked; gossip itself counts that.
                if is_firsthand {
                    gate.note(gossip.source, Offence::Forged);
                }
                Verdict::Reject
            }
        };
        parts.mesh.verdict(gossip.id, gossip.forwarder, verdict);
    }
}

/// What is listened to.
struct Topics {
    bid_request: Topic,
    advert: Topic,
    status: Topic,
    revocation: Topic,
}

impl Topics {
    fn of(network: &str) -> Self {
        Self {
            bid_request: bid_request_topic(network),
            advert: advert_topic(network),
            status: status_topic(network),
            revocation: revocation_topic(network),
        }
    }
}

/// Whether what was heard would be brought to the node: the first look at whatever anybody gossips.
///
/// # Errors
/// [`Unheard`], which is also the verdict on whoever forwarded it.
pub fn judge_gossip(gossip: &Gossip, context: &DecodeContext) -> Result<(), Unheard> {
    check_gossip(gossip, &Topics::of(&context.network), context).map(drop)
}

fn check_gossip(gossip: &Gossip, topics: &Topics, context: &DecodeContext) -> Result<Heard, Unheard> {
    let reject = |error: SignedError| match error {
        SignedError::Expired | SignedError::NotYetValid => Unheard::Ignore,
        error => Unheard::Reject(error.to_string()),
    };
    let word = if gossip.topic == topics.bid_request {
        Signed::verify(&gossip.body, context).map(Heard::BidRequest)
    } else if gossip.topic == topics.advert {
        Signed::verify(&gossip.body, context).map(Heard::Advert)
    } else if gossip.topic == topics.status {
        if gossip.body.len() > MAX_NODE_STATUS_LENGTH {
            return Err(Unheard::Reject("a status that is too long".to_owned()));
        }
        Signed::verify(&gossip.body, context).map(Heard::NodeStatus)
    } else if gossip.topic == topics.revocation {
        Signed::verify(&gossip.body, context).map(Heard::Revocation)
    } else {
        return Err(Unheard::Ignore);
    };
    let word = word.map_err(reject)?;
    let issuer = match &word {
        Heard::BidRequest(request) => request.issuer(),
        Heard::Advert(advert) => advert.issuer(),
        Heard::NodeStatus(status) => status.issuer(),
        // Whoever knows of one passes it on: it proves itself, whoever has published it.
        Heard::Revocation(_) => gossip.source,
    };
    if issuer == gossip.source {
        Ok(word)
    } else {
        Err(Unheard::Reject("it was published by another than its issuer".to_owned()))
    }
}
