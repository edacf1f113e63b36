//! What the node says of itself unasked: its card, its advert, the classes it belongs to, and how it stands.
//!
//! | what | by gossip | to connected peers | in the directory |
//! |---|---|---|---|
//! | advert | every minute | every minute, and on link-up | every 10 min, and when it changes |
//! | status | within 10 s of a change or of a new peer, else every minute | – | – |
//! | card | – | – | every 8 h |
//! | classes | – | – | for as long as capacity is offered |
//!
//! In a large mesh adverts and statuses come less often: of each, a node hears about [`HEARD_PER_SECOND`] a second at
//! most, whatever the size of the mesh, and they are believed for as much longer. How large it is follows from whom it has
//! heard, and from what the mesh says of itself where that is more ([`crate::graph::mesh_size`]).
//!
//! All of it is hints: nothing here promises, so nothing waits for the disk.

use std::collections::BTreeSet;
use std::time::Duration;

use dms_actors::Context;
use dms_actors::directory::{DirectoryError, RecordKey};
use dms_messages::{
    Advert, Capability, CapabilityClass, ExecutorKind, NodeRole, NodeStatus, PriceList, Profile,
    ResourceSummary, Resources, ServingMode, Signed, Timestamp,
};
use futures::FutureExt;

use crate::commands::NodeMode;
use crate::directory::{advert_key, card_key, class_key};
use crate::network::{advert_topic, status_topic};
use crate::node::{ADVERT_TTL, MAX_STATUS_TTL, Node, STATUS_TTL};
use crate::orchestrator::discovery::{self, PutOutcome, Refresh};
use crate::orchestrator::matching;
use crate::word::{Addressed, Word};

/// How often the advert is said again, to the mesh and to connected peers.
const ADVERT_PERIOD: Duration = Duration::from_secs(60);
/// How soon after the start the first words are gossiped: a few heartbeats of the gossip.
const FIRST_WORDS: Duration = Duration::from_secs(3);
/// How often it is looked whether something is to be said: a status leaves at most once in this time.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// Adverts, and as many statuses, that a node hears in a second however large the mesh is, roughly. Each costs it some
/// 100 us of processor time, so that this is a thousandth of a core; with 300 nodes or fewer the periods below hold.
const HEARD_PER_SECOND: u32 = 5;
/// How often an unchanged status is said: three times in its life.
const STATUS_PERIOD: Duration = Duration::from_secs(60);
/// How often the advert is put: three times in its life, so that two that fail in a row leave it there.
const ADVERT_PUT_PERIOD: Duration = Duration::from_secs(10 * 60);
/// How often the card is put. It never changes; this is only for the peers nearest to its key, which do.
const CARD_PUT_PERIOD: Duration = Duration::from_secs(8 * 3600);
/// How long a card is kept by others: three periods, as with adverts.
const CARD_TTL: Duration = Duration::from_secs(24 * 3600);

/// What was said, and when what is to be said again.
#[derive(Debug)]
pub(crate) struct Announcements {
    card: Refresh,
    advert: Refresh,
    /// The advert that was put last.
    put_advert: Option<Advert>,
    /// The classes that the directory lists us in.
    classes: BTreeSet<CapabilityClass>,
    /// The classes that it is being told of.
    providing: BTreeSet<CapabilityClass>,
    /// The last status, and when it was said on the monotonic clock.
    status: Option<(NodeStatus, Duration)>,
    /// When the advert was said last, on the same clock.
    advertised: Option<Duration>,
    /// True if it is to be said again although nothing has changed.
    is_status_wanted: bool,
}

impl Announcements {
    /// Nothing was said yet.
    pub(crate) fn new() -> Self {
        Self {
            card: Refresh::every(CARD_PUT_PERIOD),
            advert: Refresh::every(ADVERT_PUT_PERIOD),
            put_advert: None,
            classes: BTreeSet::new(),
            providing: BTreeSet::new(),
            status: None,
            advertised: None,
            is_status_wanted: false,
        }
    }
}

impl From<&NodeMode> for ServingMode {
    fn from(mode: &NodeMode) -> Self {
        match mode {
            NodeMode::Serving => Self::Serving,
            NodeMode::Draining => Self::Draining,
            NodeMode::ReadOnly { .. } => Self::ReadOnly,
        }
    }
}

/// How a put ended, as far as the next one cares.
fn put_outcome(outcome: &Result<(), DirectoryError>) -> PutOutcome {
    match outcome {
        Ok(()) => PutOutcome::Taken,
        Err(DirectoryError::Alone) => PutOutcome::Alone,
        Err(_) => PutOutcome::Failed,
    }
}

impl Node {
    /// Begins to say what there is to say, once the gossip has formed; then every so often.
    pub(crate) fn start_announcing(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.after(FIRST_WORDS, |node, ctx| {
            node.advertise(ctx);
            node.announce(ctx);
        });
        ctx.every(ADVERT_PERIOD, |node, ctx| {
            let now = node.parts.clock.monotonic();
            let said = node.announcements.advertised;
            // A second earlier is early enough: the timer comes when it comes.
            if said.is_none_or(|at| now.saturating_sub(at) + Duration::from_secs(1) >= node.pause()) {
                node.advertise(ctx);
            }
        });
        ctx.every(LOOK_PERIOD, |node, ctx| node.announce(ctx));
    }

    /// How long this node is silent between two adverts, and between two statuses, at least: its share of what
    /// everybody hears.
    fn pause(&self) -> Duration {
        Duration::from_secs(self.paced_for()) / HEARD_PER_SECOND
    }

    /// Our offer, if we make one.
    fn offer(&self) -> Option<Advert> {
        let capability = self.offered()?;
        let (executors, available) = (capability.executors.clone(), self.promisable());
        let profile = Profile::of(capability, matching::load(&self.books));
        let minimum = capability.prices.minimum.max(self.preferences.last().surcharge.minimum);
        self.advert_of(executors, available, PriceList { minimum, ..capability.prices }, profile)
    }

    /// What is offered: what is registered, unless it is being withdrawn or the node stops.
    fn offered(&self) -> Option<&Capability> {
        let is_offered = self.mode == NodeMode::Serving && self.withdrawal.is_none();
        self.books.registered().filter(|_| is_offered)
    }

    fn advert_of(
        &self,
        executors: BTreeSet<ExecutorKind>,
        available: Resources,
        prices: PriceList,
        profile: Profile,
    ) -> Option<Advert> {
        Some(Advert {
            card: self.books.card()?.content_id(),
            addresses: self.network.own_addresses(),
            executors,
            available,
            prices,
            sequence: self.now().0,
            credentials: self.parts.gate.own(),
            profile,
        })
    }

    /// Our offer, signed, if we make one.
    pub(crate) fn advert(&self) -> Option<Signed<Advert>> {
        self.parts.signer.sign(self.offer()?, None, ADVERT_TTL).ok()
    }

    /// Says our offer to the mesh, to everybody connected, and to the directory if it is news there.
    pub(crate) fn advertise(&mut self, ctx: &mut Context<'_, Self>) {
        self.preferences();
        self.tend_directory(ctx);
        if let Some(advert) = self.advert() {
            self.announcements.advertised = Some(self.parts.clock.monotonic());
            self.publish(&advert, ctx);
        }
    }

    /// Takes our offer back: an advert of nothing, so that peers that remember the last one do not ask.
    pub(crate) fn advertise_nothing(&mut self, ctx: &mut Context<'_, Self>) {
        self.tend_directory(ctx);
        let nothing =
            self.advert_of(BTreeSet::new(), Resources::default(), PriceList::default(), Profile::default());
        if let Some(advert) = nothing.and_then(|advert| self.parts.signer.sign(advert, None, ADVERT_TTL).ok())
        {
            self.publish(&advert, ctx);
        }
        self.say_how_it_stands();
    }

    fn publish(&mut self, advert: &Signed<Advert>, ctx: &mut Context<'_, Self>) {
        self.network.gossip(advert_topic(ctx.system().network()), advert);
        let words =
            self.peers.iter().map(|peer| Addressed::new(*peer, Word::Advert(advert.clone()))).collect();
        self.say(ctx, words);
    }

    /// Says what has changed and what is due.
    fn announce(&mut self, ctx: &mut Context<'_, Self>) {
        self.tend_directory(ctx);
        let status = self.digest();
        let now = self.parts.clock.monotonic();
        let pause = self.pause();
        let is_wanted = self.announcements.is_status_wanted;
        let is_due = self.announcements.status.as_ref().is_none_or(|(said, at)| {
            let is_same = NodeStatus { sequence: status.sequence, ..said.clone() } == status;
            let silent = now.saturating_sub(*at);
            ((!is_same || is_wanted) && silent >= pause) || silent >= STATUS_PERIOD.max(pause)
        });
        if is_due {
            self.announcements.is_status_wanted = false;
            self.say_status(status);
        }
    }

    /// Says at once how the node stands: what it is in the mesh, or what it does, has changed.
    pub(crate) fn say_how_it_stands(&mut self) {
        self.say_status(self.digest());
    }

    /// Says with the next look how the node stands: somebody has come who has not heard it, or who remembers what it
    /// said in an earlier life.
    pub(crate) fn repeat_status(&mut self) {
        self.announcements.is_status_wanted = true;
    }

    /// Says at once that the node may do something else than before.
    pub(crate) fn mode_changed(&mut self) {
        self.say_how_it_stands();
        if self.mode != NodeMode::Serving {
            for class in std::mem::take(&mut self.announcements.classes) {
                self.network.directory().stop_providing(class_key(&class));
            }
        }
    }

    fn say_status(&mut self, status: NodeStatus) {
        let now = self.parts.clock.monotonic();
        let ttl = (self.pause() * 3).clamp(STATUS_TTL, MAX_STATUS_TTL);
        match self.parts.signer.sign(status.clone(), None, ttl) {
            Ok(signed) => self.network.gossip(status_topic(self.parts.network.system.network()), &signed),
            Err(error) => tracing::error!(%error, "the status could not be signed"),
        }
        self.announcements.status = Some((status, now));
    }

    /// How we stand.
    fn digest(&self) -> NodeStatus {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let is_provider = self.books.registered().is_some() && self.withdrawal.is_none();
        let available = is_provider.then(|| ResourceSummary::from(&self.promisable()));
        NodeStatus {
            role: if is_provider { NodeRole::Provider } else { NodeRole::Requester },
            mode: ServingMode::from(&self.mode),
            available: available.unwrap_or_default(),
            allocations: count(self.books.live_allocations().count()),
            locks: count(self.books.locks().len()),
            jobs: count(self.jobs.len()),
            peers: count(self.peers.len()),
            // Never the sequence of the one before, also within one millisecond.
            sequence: self.now().max(Timestamp(self.last_status_sequence() + 1)).0,
        }
    }

    fn last_status_sequence(&self) -> u64 {
        self.announcements.status.as_ref().map_or(0, |(status, _)| status.sequence)
    }

    /// Puts what is due, and provides the classes that we belong to, and no others.
    fn tend_directory(&mut self, ctx: &mut Context<'_, Self>) {
        let now = self.parts.clock.monotonic();
        if let Some(card) = self.books.card()
            && self.announcements.card.begin(now, false)
        {
            let (key, value) = (card_key(card.content_id()), card.bytes().to_vec());
            self.put(ctx, key, value, CARD_TTL, |announcements| &mut announcements.card);
        }
        if let Some(offer) = self.offer() {
            let put = self.announcements.put_advert.as_ref();
            let is_changed = put.is_none_or(|put| discovery::is_material(put, &offer));
            if self.announcements.advert.begin(now, is_changed) {
                match self.parts.signer.sign(offer.clone(), None, ADVERT_TTL) {
                    Ok(signed) => {
                        let (key, value) = (advert_key(self.me()), signed.bytes().to_vec());
                        self.put(ctx, key, value, ADVERT_TTL, |announcements| &mut announcements.advert);
                        self.announcements.put_advert = Some(offer);
                    }
                    Err(error) => tracing::error!(%error, "the advert could not be signed"),
                }
            }
        }
        self.provide_classes(ctx);
    }

    fn put(
        &mut self,
        ctx: &mut Context<'_, Self>,
        key: RecordKey,
        value: Vec<u8>,
        ttl: Duration,
        of: fn(&mut Announcements) -> &mut Refresh,
    ) {
        // On the network's runtime: a query has timers of its own.
        let put = self.network.runtime().spawn(self.network.directory().put(key.clone(), value, ttl));
        ctx.pipe(put, move |node, outcome, _| {
            let outcome = outcome.unwrap_or(Err(DirectoryError::Closed));
            tracing::debug!(?key, ?outcome, "put into the directory");
            let (now, [chance, ..]) = (node.parts.clock.monotonic(), node.parts.clock.random());
            of(&mut node.announcements).end(now, put_outcome(&outcome), chance);
        });
    }

    fn provide_classes(&mut self, ctx: &mut Context<'_, Self>) {
        let wanted = self.offered().map(CapabilityClass::offered).unwrap_or_default();
        let directory = self.network.directory();
        self.announcements.classes.retain(|class| {
            let is_wanted = wanted.contains(class);
            if !is_wanted {
                directory.stop_providing(class_key(class));
            }
            is_wanted
        });
        for class in wanted {
            if self.announcements.classes.contains(&class)
                || !self.announcements.providing.insert(class.clone())
            {
                continue;
            }
            let provided = self.network.runtime().spawn(directory.provide(class_key(&class)));
            ctx.pipe(provided.map(Result::ok), move |node, outcome, _| {
                node.announcements.providing.remove(&class);
                match outcome {
                    // Wanted no more, perhaps: the next look takes it back.
                    Some(Ok(())) => drop(node.announcements.classes.insert(class)),
                    outcome => tracing::debug!(%class, ?outcome, "the directory does not list us yet"),
                }
            });
        }
    }
}
