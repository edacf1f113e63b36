//! gossipsub: what is said to everyone, within limits, each message judged before it is forwarded.
//!
//! `swarm` hands it the commands of the mesh handle and the behaviour's events. Nothing is forwarded
//! without a verdict of the application, and a message that nobody has room for is ignored at once,
//! so that its forwarder is not blamed.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use dms_actors::Did;
use dms_actors::mesh::{Gossip, GossipId, MAX_GOSSIP_LENGTH, PublishError, Topic, Verdict};
use libp2p::gossipsub::{
    self, ConfigBuilder, Event, IdentTopic, MaxCountSubscriptionFilter, Message, MessageAcceptance,
    MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams,
    TopicSubscriptionFilter, ValidationMode,
};
use libp2p::{PeerId, identity};
use tokio::sync::mpsc;

use crate::config::Timing;
use crate::node::P2pError;
use crate::peer;
use crate::status::TopicStatus;

/// What the envelope of a message (source, sequence number, topic, signature, framing) takes at most.
const MAX_ENVELOPE_LENGTH: usize = 1024;
/// Longest topic in bytes, so that the announcement of all topics fits into one gossip frame.
const MAX_TOPIC_LENGTH: usize = 128;
/// Most topics of one peer, ours included.
const MAX_TOPICS: usize = 100;
/// Messages that wait for a verdict giver: one second of a busy mesh, at most 4 MiB.
const CAPACITY: usize = 256;
/// At least the longest validity of anything that is gossiped, or an old message becomes new again.
const DUPLICATE_CACHE: Duration = Duration::from_secs(5 * 60);
/// Messages queued for one slow peer before it is left out.
const PEER_QUEUE: usize = 1024;
/// Peers that may share one address before it looks like one attacker with many names.
const PEERS_PER_IP: f64 = 8.0;
/// The period of score decay.
const DECAY_INTERVAL: Duration = Duration::from_secs(1);

/// The gossipsub behaviour with our filter of topics.
pub(crate) type Behaviour =
    gossipsub::Behaviour<gossipsub::IdentityTransform, MaxCountSubscriptionFilter<NetworkTopics>>;

/// Admits the topics of one network: `/dms/<network>/<name>`.
#[derive(Debug, Clone)]
pub(crate) struct NetworkTopics {
    prefix: String,
}

impl NetworkTopics {
    fn new(network: &str) -> Self {
        Self { prefix: format!("/dms/{network}/") }
    }

    fn admits(&self, topic: &str) -> bool {
        topic.len() <= MAX_TOPIC_LENGTH
            && topic.strip_prefix(&self.prefix).is_some_and(|name| !name.is_empty())
    }
}

impl TopicSubscriptionFilter for NetworkTopics {
    fn can_subscribe(&mut self, topic: &TopicHash) -> bool {
        self.admits(topic.as_str())
    }
}

/// Builds the behaviour.
pub(crate) fn behaviour(
    key: &identity::Keypair,
    network: &str,
    timing: &Timing,
) -> Result<Behaviour, P2pError> {
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(MAX_GOSSIP_LENGTH + MAX_ENVELOPE_LENGTH)
        .duplicate_cache_time(DUPLICATE_CACHE)
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        .mesh_outbound_min(3)
        .heartbeat_interval(timing.gossip_heartbeat)
        .heartbeat_initial_delay(timing.gossip_heartbeat)
        // A message leaves the history after this many heartbeats: its verdict must come before.
        .history_length(12)
        .history_gossip(3)
        .flood_publish(true)
        .connection_handler_queue_len(PEER_QUEUE)
        .build()
        .map_err(|error| P2pError::Internal(error.to_string()))?;
    let filter = MaxCountSubscriptionFilter {
        filter: NetworkTopics::new(network),
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let authenticity = MessageAuthenticity::Signed(key.clone());
    let mut behaviour = Behaviour::new_with_subscription_filter(authenticity, config, filter)
        .map_err(|error| P2pError::Internal(error.to_owned()))?;
    behaviour.with_peer_score(score_params(), score_thresholds()).map_err(P2pError::Internal)?;
    Ok(behaviour)
}

/// Raw source bytes and the sequence number: the form of Go and Python. The libraries' defaults differ,
/// and peers that name messages differently cannot offer them to each other.
fn message_id(message: &Message) -> MessageId {
    let mut id = message.source.map(|source| source.to_bytes()).unwrap_or_default();
    id.extend_from_slice(&message.sequence_number.unwrap_or_default().to_be_bytes());
    MessageId::new(&id)
}

fn score_params() -> PeerScoreParams {
    PeerScoreParams {
        // Good deeds on topics outweigh one mistake, never a habit.
        topic_score_cap: 20.0,
        ip_colocation_factor_threshold: PEERS_PER_IP,
        // A mesh of many nodes on one host is ours.
        ip_colocation_factor_whitelist: HashSet::from([
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ]),
        // A few broken promises happen to every peer that restarts.
        behaviour_penalty_threshold: 6.0,
        behaviour_penalty_decay: decay(Duration::from_secs(10 * 60)),
        decay_interval: DECAY_INTERVAL,
        ..PeerScoreParams::default()
    }
}

/// One rejected message costs 10, two 40, three 90, four 160; half an hour later they are forgotten.
fn topic_score_params() -> TopicScoreParams {
    TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 300.0,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: decay(Duration::from_secs(10 * 60)),
        first_message_deliveries_cap: 20.0,
        // Off: their window of milliseconds punishes every peer that is far away.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: decay(Duration::from_secs(30 * 60)),
        ..TopicScoreParams::default()
    }
}

fn score_thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        // The second rejected message ends gossip with a peer, the third publishing to it, the fourth
        // listening to it.
        gossip_threshold: -20.0,
        publish_threshold: -60.0,
        graylist_threshold: -100.0,
        accept_px_threshold: 10.0,
        opportunistic_graft_threshold: 5.0,
    }
}

/// The factor per decay interval after which a counter is forgotten in `duration`.
fn decay(duration: Duration) -> f64 {
    gossipsub::score_parameter_decay_with_base(duration, DECAY_INTERVAL, 0.1)
}

/// Stands between the application and the behaviour.
#[derive(Debug)]
pub(crate) struct Desk {
    heard: mpsc::Sender<Gossip>,
    topics: NetworkTopics,
    subscribed: BTreeSet<Topic>,
    dropped: u64,
}

impl Desk {
    /// A desk and the application's end of it.
    pub(crate) fn new(network: &str) -> (Self, mpsc::Receiver<Gossip>) {
        let (heard, receiver) = mpsc::channel(CAPACITY);
        let topics = NetworkTopics::new(network);
        (Self { heard, topics, subscribed: BTreeSet::new(), dropped: 0 }, receiver)
    }

    /// How many messages were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Publishes one message.
    pub(crate) fn publish(
        &self,
        behaviour: &mut Behaviour,
        topic: &Topic,
        body: Vec<u8>,
    ) -> Result<(), PublishError> {
        let length = body.len();
        if length > MAX_GOSSIP_LENGTH {
            return Err(PublishError::TooLong(length));
        }
        if !self.topics.admits(&topic.0) {
            tracing::warn!(topic = topic.0, "published on a topic outside this network");
            return Err(PublishError::NobodyListens);
        }
        match behaviour.publish(IdentTopic::new(&topic.0), body) {
            Ok(_) => Ok(()),
            Err(gossipsub::PublishError::NoPeersSubscribedToTopic) => Err(PublishError::NobodyListens),
            Err(gossipsub::PublishError::MessageTooLarge) => Err(PublishError::TooLong(length)),
            // A duplicate is a retry while the queues are full: ids are never reused.
            Err(gossipsub::PublishError::AllQueuesFull(_) | gossipsub::PublishError::Duplicate) => {
                Err(PublishError::Busy)
            }
            Err(error) => {
                tracing::error!(%error, "gossipsub could not build a message");
                Err(PublishError::Busy)
            }
        }
    }

    /// Listens to a topic; again is the same as once.
    pub(crate) fn subscribe(&mut self, behaviour: &mut Behaviour, topic: Topic) -> Result<(), PublishError> {
        if !self.topics.admits(&topic.0) {
            tracing::warn!(topic = topic.0, "subscribed to a topic outside this network");
            return Err(PublishError::NobodyListens);
        }
        if !self.subscribed.contains(&topic) && self.subscribed.len() >= MAX_TOPICS {
            return Err(PublishError::Busy);
        }
        let ident = IdentTopic::new(&topic.0);
        behaviour.subscribe(&ident).map_err(|error| {
            tracing::warn!(%error, topic = topic.0, "gossipsub refused a topic");
            PublishError::NobodyListens
        })?;
        if let Err(error) = behaviour.set_topic_params(ident, topic_score_params()) {
            tracing::error!(error, "gossipsub has no scores");
        }
        self.subscribed.insert(topic);
        Ok(())
    }

    /// Passes a verdict on.
    pub(crate) fn judge(&self, behaviour: &mut Behaviour, id: &GossipId, forwarder: Did, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        report(behaviour, &MessageId::new(&id.0), &peer::peer_id(&forwarder), acceptance);
    }

    /// Takes one event of the behaviour; true if who listens to what has changed.
    pub(crate) fn on_event(&mut self, behaviour: &mut Behaviour, event: Event) -> bool {
        match event {
            Event::Message { propagation_source, message_id, message } => {
                if let Some(acceptance) = self.hear(propagation_source, &message_id, message) {
                    report(behaviour, &message_id, &propagation_source, acceptance);
                }
                false
            }
            Event::Subscribed { .. } | Event::Unsubscribed { .. } => true,
            Event::SlowPeer { peer_id, .. } => {
                tracing::debug!(peer = %peer_id, "peer is too slow for our gossip");
                false
            }
            Event::GossipsubNotSupported { peer_id } => {
                tracing::debug!(peer = %peer_id, "peer does not gossip");
                false
            }
        }
    }

    /// Hands a message to the application, or says at once what becomes of it.
    fn hear(&mut self, forwarder: PeerId, id: &MessageId, message: Message) -> Option<MessageAcceptance> {
        // The signature is checked, so the publisher itself made it too long or has no DID; whoever
        // forwarded it should not have.
        let source = message.source.as_ref().and_then(peer::did);
        let (Some(source), Some(forwarder)) = (source, peer::did(&forwarder)) else {
            return Some(MessageAcceptance::Reject);
        };
        if message.data.len() > MAX_GOSSIP_LENGTH {
            self.dropped += 1;
            return Some(MessageAcceptance::Reject);
        }
        let topic = Topic(message.topic.into_string());
        let gossip = Gossip { id: GossipId(id.0.clone()), topic, source, forwarder, body: message.data };
        if self.heard.try_send(gossip).is_err() {
            self.dropped += 1;
            return Some(MessageAcceptance::Ignore);
        }
        None
    }

    /// Who listens to our topics.
    pub(crate) fn topic_statuses(&self, behaviour: &Behaviour) -> Vec<TopicStatus> {
        let mut listeners: BTreeMap<&str, usize> = BTreeMap::new();
        for topic in behaviour.all_peers().flat_map(|(_, topics)| topics) {
            *listeners.entry(topic.as_str()).or_default() += 1;
        }
        let status = |topic: &Topic| TopicStatus {
            topic: topic.clone(),
            listener_count: listeners.get(topic.0.as_str()).copied().unwrap_or_default(),
            mesh_count: behaviour.mesh_peers(&IdentTopic::new(&topic.0).hash()).count(),
        };
        self.subscribed.iter().map(status).collect()
    }
}

fn report(behaviour: &mut Behaviour, id: &MessageId, forwarder: &PeerId, acceptance: MessageAcceptance) {
    if !behaviour.report_message_validation_result(id, forwarder, acceptance) {
        tracing::debug!(%id, "a verdict came too late or twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    fn message(source: Option<PeerId>, body: Vec<u8>) -> Message {
        Message {
            source,
            data: body,
            sequence_number: Some(0x0102),
            topic: TopicHash::from_raw("/dms/test/a"),
        }
    }

    #[test]
    fn the_message_id_is_the_source_and_the_big_endian_sequence_number() {
        let source = test_peer(1);
        let expected = [source.to_bytes(), vec![0, 0, 0, 0, 0, 0, 1, 2]].concat();
        assert_eq!(message_id(&message(Some(source), Vec::new())).0, expected);
    }

    #[test]
    fn only_topics_of_the_network_are_admitted() {
        let topics = NetworkTopics::new("test");
        let longest = format!("/dms/test/{}", "a".repeat(MAX_TOPIC_LENGTH - "/dms/test/".len()));
        let too_long = format!("{longest}a");
        let table: &[(&str, bool)] = &[
            ("/dms/test/bids", true),
            (&longest, true),
            (&too_long, false),
            ("/dms/test/", false),
            ("/dms/test", false),
            ("/dms/testing/bids", false),
            ("/dms/other/bids", false),
            ("", false),
        ];
        for (topic, is_admitted) in table {
            assert_eq!(topics.admits(topic), *is_admitted, "{topic}");
        }
    }

    #[test]
    fn a_lagging_reader_costs_the_message_and_not_its_forwarder() {
        let (mut desk, _receiver) = Desk::new("test");
        let id = MessageId::new(b"id");
        for _ in 0..CAPACITY {
            assert!(desk.hear(test_peer(1), &id, message(Some(test_peer(2)), vec![1])).is_none());
        }
        let verdict = desk.hear(test_peer(1), &id, message(Some(test_peer(2)), vec![1]));
        assert!(matches!(verdict, Some(MessageAcceptance::Ignore)));
        assert_eq!(desk.dropped(), 1);
    }

    #[test]
    fn a_message_that_is_too_long_or_of_nobody_is_rejected_unseen() {
        let (mut desk, mut receiver) = Desk::new("test");
        let id = MessageId::new(b"id");
        let no_did = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC".parse().unwrap();
        let table = [
            message(Some(test_peer(2)), vec![0; MAX_GOSSIP_LENGTH + 1]),
            message(None, vec![1]),
            message(Some(no_did), vec![1]),
        ];
        for message in table {
            assert!(matches!(desk.hear(test_peer(1), &id, message), Some(MessageAcceptance::Reject)));
        }
        assert!(
            desk.hear(test_peer(1), &id, message(Some(test_peer(2)), vec![0; MAX_GOSSIP_LENGTH])).is_none()
        );
        assert_eq!(receiver.try_recv().unwrap().body.len(), MAX_GOSSIP_LENGTH);
    }

    #[test]
    fn the_parameters_are_accepted_and_the_fourth_rejected_message_silences() {
        score_params().validate().unwrap();
        score_thresholds().validate().unwrap();
        topic_score_params().validate().unwrap();
        let score = |count: f64| topic_score_params().invalid_message_deliveries_weight * count * count;
        let best = score_params().topic_score_cap;
        assert!(score(1.0) > score_thresholds().gossip_threshold, "one mistake is forgiven");
        assert!(score(4.0) + best < score_thresholds().graylist_threshold, "even with the best record");
    }
}
