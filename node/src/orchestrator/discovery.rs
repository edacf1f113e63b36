//! Who is worth asking and looking up, and when this node says again what it is: pure decisions around
//! adverts, statuses and the directory.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_messages::{
    Advert, Did, MAX_ADDRESSES, NodeRole, NodeStatus, Profile, ResourceSummary, Resources, ServingMode,
};

/// Most providers looked up at a time: as many as are asked in one round.
pub const MAX_LOOKED_UP: usize = 16;
/// Least pause between two look-ups of one thing: a job that finds nobody asks every two seconds, and the
/// mesh does not change as fast.
const LOOK_UP_PAUSE: Duration = Duration::from_secs(10);
/// Most things whose last look-up is remembered; they are named by this node's own jobs alone.
const MAX_REMEMBERED: usize = 256;
/// Least pause between two puts of something that changed.
const CHANGE_PAUSE: Duration = Duration::from_secs(60);
/// When to try again if there was nobody to put it with: that costs nothing to find out.
const ALONE_PAUSE: Duration = Duration::from_secs(10);
/// When to try again if nobody took it.
const FAILED_PAUSE: Duration = Duration::from_secs(60);

/// False if the advert takes an earlier one back: its issuer offers nothing any more.
pub fn is_offering(advert: &Advert) -> bool {
    !advert.executors.is_empty()
}

/// True if a provider is worth asking, by the last that it said of itself. A status that is older than the
/// advert says nothing: it was onboarded or started again since.
pub fn is_askable(advert: &Advert, status: Option<&NodeStatus>) -> bool {
    why_not_askable(advert, status).is_none()
}

/// Why a provider is not worth asking, by the last that it said of itself; none if it is.
pub fn why_not_askable(advert: &Advert, status: Option<&NodeStatus>) -> Option<&'static str> {
    if !is_offering(advert) {
        return Some("it has taken its offer back");
    }
    match status.filter(|status| status.sequence >= advert.sequence)? {
        NodeStatus { mode: ServingMode::Draining, .. } => Some("it is stopping"),
        NodeStatus { mode: ServingMode::ReadOnly, .. } => Some("it cannot write its books"),
        NodeStatus { role: NodeRole::Requester, .. } => Some("it has taken its offer back"),
        NodeStatus { role: NodeRole::Provider, mode: ServingMode::Serving, .. } => None,
    }
}

/// What holds of a peer's advert and its status where they contradict each other: the later word alone. An offer that
/// was taken back is none.
pub fn without_contradiction<'a>(
    advert: Option<&'a Advert>,
    status: Option<&'a NodeStatus>,
) -> (Option<&'a Advert>, Option<&'a NodeStatus>) {
    let is_taking =
        |status: &NodeStatus| status.role == NodeRole::Provider && status.mode == ServingMode::Serving;
    match (advert.filter(|advert| is_offering(advert)), status) {
        // It was onboarded or started again since.
        (Some(advert), Some(status)) if advert.sequence > status.sequence && !is_taking(status) => {
            (Some(advert), None)
        }
        (Some(_), Some(status)) if status.role == NodeRole::Requester => (None, Some(status)),
        (None, Some(status)) if advert.is_some_and(|nothing| nothing.sequence > status.sequence) => {
            (None, Some(status).filter(|status| status.role == NodeRole::Requester))
        }
        held => held,
    }
}

/// What a peer has free, by the later of its two words; none if it offers nothing.
pub fn free(advert: Option<&Advert>, status: Option<&NodeStatus>) -> Option<ResourceSummary> {
    match (advert, status) {
        (Some(advert), Some(status)) if advert.sequence > status.sequence => Some((&advert.available).into()),
        (_, Some(status)) => (status.role == NodeRole::Provider).then_some(status.available),
        (Some(advert), None) => Some((&advert.available).into()),
        (None, None) => None,
    }
}

/// True if so many known candidates need no look-up: as many as bids are wanted.
pub fn is_enough(known_count: usize, wanted: u16) -> bool {
    known_count >= usize::from(wanted)
}

/// Whose adverts are to be fetched: nodes of whom none is `known`, those that say they provide first, then
/// those trusted by name. `chance` rotates both, so that those who never have an advert do not keep the others
/// away for ever.
pub fn whom_to_look_up(
    mut providers: Vec<Did>,
    named: &BTreeSet<Did>,
    known: &BTreeSet<Did>,
    chance: u8,
) -> Vec<Did> {
    let mut named: Vec<Did> = named.iter().copied().collect();
    for list in [&mut providers, &mut named] {
        if !list.is_empty() {
            let start = usize::from(chance) % list.len();
            list.rotate_left(start);
        }
    }
    let mut seen = known.clone();
    providers.into_iter().chain(named).filter(|did| seen.insert(*did)).take(MAX_LOOKED_UP).collect()
}

/// When each thing was last looked up.
#[derive(Debug)]
pub struct LookUps<K> {
    last: BTreeMap<K, Duration>,
}

impl<K> Default for LookUps<K> {
    fn default() -> Self {
        Self { last: BTreeMap::new() }
    }
}

impl<K: Ord> LookUps<K> {
    /// True if `key` may be looked up now (on the monotonic clock); then it counts as looked up.
    pub fn begin(&mut self, key: K, now: Duration) -> bool {
        let is_over = |last: &Duration| now.saturating_sub(*last) >= LOOK_UP_PAUSE;
        if self.last.get(&key).is_some_and(|last| !is_over(last)) {
            return false;
        }
        if self.last.len() >= MAX_REMEMBERED {
            self.last.retain(|_, last| !is_over(last));
        }
        let has_room = self.last.len() < MAX_REMEMBERED;
        if has_room {
            self.last.insert(key, now);
        }
        has_room
    }
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// Somebody took it.
    Taken,
    /// There is nobody.
    Alone,
    /// Nobody took it.
    Failed,
}

/// When something of ours is put into the directory again.
#[derive(Debug)]
pub struct Refresh {
    period: Duration,
    /// When it is due, on the monotonic clock.
    due: Duration,
    last: Option<Duration>,
    is_under_way: bool,
}

impl Refresh {
    /// Due at once, and then about once in a `period`.
    pub fn every(period: Duration) -> Self {
        Self { period, due: Duration::ZERO, last: None, is_under_way: false }
    }

    /// True if it is to be put now; then the put is under way until [`Self::end`].
    pub fn begin(&mut self, now: Duration, is_changed: bool) -> bool {
        let has_rested = self.last.is_none_or(|last| now.saturating_sub(last) >= CHANGE_PAUSE);
        let is_wanted = !self.is_under_way && (now >= self.due || (is_changed && has_rested));
        if is_wanted {
            self.is_under_way = true;
            self.last = Some(now);
        }
        is_wanted
    }

    /// The put is over. `chance` spreads the next one over a fifth of the period, so that nodes that were
    /// started together do not put together for ever.
    pub fn end(&mut self, now: Duration, outcome: PutOutcome, chance: u8) {
        self.is_under_way = false;
        let pause = match outcome {
            PutOutcome::Taken => self.period * 9 / 10 + self.period / 5 * u32::from(chance) / 255,
            PutOutcome::Alone => ALONE_PAUSE,
            PutOutcome::Failed => FAILED_PAUSE,
        };
        self.due = now + pause;
    }
}

/// True if an advert says something else than what was put: where, what, for how much; or if some amount
/// has more than halved or doubled. Smaller changes wait for the next period: amounts are hints.
pub fn is_material(put: &Advert, now: &Advert) -> bool {
    let differs = |a: u64, b: u64| a.min(b) * 2 < a.max(b);
    let amounts = |resources: &Resources| [resources.cpu.0, resources.memory.0, resources.disk.0];
    let (before, after) = (amounts(&put.available), amounts(&now.available));
    put.card != now.card
        || put.addresses != now.addresses
        || put.executors != now.executors
        || put.prices != now.prices
        || put.available.gpus != now.available.gpus
        || Profile { load: None, ..put.profile.clone() } != Profile { load: None, ..now.profile.clone() }
        || before.into_iter().zip(after).any(|(before, after)| differs(before, after))
}

/// The addresses that are worth telling to other machines, at most [`MAX_ADDRESSES`]: public ones first, and of
/// each place QUIC before TCP. Loopback ones are told only by a node that has no other: elsewhere they would be
/// somebody else's.
pub fn worth_telling(mut addresses: Vec<String>) -> Vec<String> {
    let is_loopback = |address: &String| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/");
    if addresses.iter().any(|address| !is_loopback(address)) {
        addresses.retain(|address| !is_loopback(address));
    }
    // Both ways to one place stay together, so that the cut leaves whoever cannot use UDP a way in.
    addresses.sort_by_cached_key(|address| {
        let place = address.split('/').nth(2).unwrap_or_default().to_owned();
        (!is_public(&place), place, !address.contains("/quic-v1"))
    });
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// True for an address of the whole internet; a name counts as one, since somebody gave it.
fn is_public(place: &str) -> bool {
    match place.parse() {
        Ok(IpAddr::V4(ip)) => !(ip.is_private() || ip.is_link_local() || ip.is_loopback()),
        Ok(IpAddr::V6(ip)) => !(ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback()),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{did, resources};
    use dms_messages::{ContentId, ExecutorKind, Price, PriceList};

    fn advert(cpu: u64, sequence: u64) -> Advert {
        Advert {
            card: ContentId::of_bytes(b"card"),
            addresses: vec!["/ip4/10.0.0.1/tcp/1".into()],
            executors: BTreeSet::from([ExecutorKind::Wasm]),
            available: resources(cpu, 64),
            prices: PriceList::default(),
            sequence,
            credentials: Default::default(),
            profile: Default::default(),
        }
    }

    fn status(role: NodeRole, mode: ServingMode, sequence: u64) -> NodeStatus {
        let available = ResourceSummary::default();
        NodeStatus { role, mode, available, allocations: 0, locks: 0, jobs: 0, peers: 0, sequence }
    }

    #[test]
    fn the_later_word_of_a_provider_decides_whether_it_is_asked() {
        let advert = advert(1000, 5);
        let table = [
            (None, true),
            (Some(status(NodeRole::Provider, ServingMode::Serving, 9)), true),
            (Some(status(NodeRole::Provider, ServingMode::Draining, 9)), false),
            (Some(status(NodeRole::Provider, ServingMode::ReadOnly, 5)), false),
            (Some(status(NodeRole::Requester, ServingMode::Serving, 9)), false),
            (Some(status(NodeRole::Provider, ServingMode::Draining, 4)), true),
        ];
        for (status, is_asked) in table {
            assert_eq!(is_askable(&advert, status.as_ref()), is_asked, "{status:?}");
        }
    }

    #[test]
    fn providers_come_first_and_nobody_known_or_twice() {
        let dids: Vec<Did> = (1..=4).map(did).collect();
        let named = BTreeSet::from([dids[0], dids[1]]);
        let known = BTreeSet::from([dids[1]]);
        let providers = vec![dids[1], dids[2], dids[3]];
        assert_eq!(whom_to_look_up(providers.clone(), &named, &known, 0), [dids[2], dids[3], dids[0]]);
        assert_eq!(whom_to_look_up(providers, &named, &known, 2), [dids[3], dids[2], dids[0]]);
        let friends: BTreeSet<Did> = (1..=40).map(did).collect();
        let found: BTreeSet<Did> =
            (0..40).flat_map(|chance| whom_to_look_up(Vec::new(), &friends, &known, chance)).collect();
        assert_eq!(found.len(), 39, "each has its turn");
        assert_eq!(whom_to_look_up(Vec::new(), &BTreeSet::new(), &known, 9), []);
        let many: Vec<Did> = (1..=40).map(did).collect();
        assert_eq!(whom_to_look_up(many, &named, &known, 0).len(), MAX_LOOKED_UP);
    }

    #[test]
    fn a_thing_is_looked_up_once_in_a_while_and_few_are_remembered() {
        let second = Duration::from_secs;
        let mut look_ups = LookUps::default();
        assert!(
            look_ups.begin(0, second(1)) && !look_ups.begin(0, second(10)) && look_ups.begin(1, second(5))
        );
        assert!(look_ups.begin(0, second(11)));
        assert_eq!((2..1000).filter(|key| look_ups.begin(*key, second(12))).count(), MAX_REMEMBERED - 2);
        assert!(look_ups.begin(1000, second(30)), "what is over makes room");
    }

    #[test]
    fn a_put_is_repeated_in_time_sooner_if_it_failed_and_rarely_for_changes() {
        let second = Duration::from_secs;
        let mut refresh = Refresh::every(second(600));
        assert!(refresh.begin(second(1), false));
        assert!(!refresh.begin(second(2), true), "one at a time");
        refresh.end(second(2), PutOutcome::Alone, 0);
        assert!(!refresh.begin(second(11), false) && refresh.begin(second(12), false));
        refresh.end(second(12), PutOutcome::Failed, 0);
        assert!(!refresh.begin(second(71), true) && refresh.begin(second(72), false));
        refresh.end(second(72), PutOutcome::Taken, 0);
        assert!(!refresh.begin(second(131), true), "changes come at most once a minute");
        assert!(!refresh.begin(second(132), false) && refresh.begin(second(132), true));
        for (chance, pause) in [(0, 540), (255, 660)] {
            refresh.end(second(1000), PutOutcome::Taken, chance);
            assert!(!refresh.begin(second(1000 + pause - 1), false), "{chance}");
            assert!(refresh.begin(second(1000 + pause), false), "{chance}");
        }
    }

    #[test]
    fn of_two_words_that_contradict_each_other_the_later_holds() {
        use NodeRole::{Provider, Requester};
        use ServingMode::{Draining, Serving};
        let status = |role, mode, sequence| NodeStatus {
            role,
            mode,
            available: ResourceSummary { cpu: dms_messages::CpuMillis(7), ..ResourceSummary::default() },
            allocations: 0,
            locks: 0,
            jobs: 0,
            peers: 0,
            sequence,
        };
        let nothing = |sequence| Advert { executors: BTreeSet::new(), ..advert(0, sequence) };
        // (advert, status, is the offer shown, is the status shown, cores free)
        let table = [
            (Some(advert(5, 2)), None, true, false, Some(5)),
            (Some(advert(5, 2)), Some(status(Provider, Serving, 1)), true, true, Some(5)),
            (Some(advert(5, 1)), Some(status(Provider, Serving, 2)), true, true, Some(7)),
            // Onboarded, or started again, since it said how it stands.
            (Some(advert(5, 2)), Some(status(Requester, Serving, 1)), true, false, Some(5)),
            (Some(advert(5, 2)), Some(status(Provider, Draining, 1)), true, false, Some(5)),
            // It has taken its offer back, or is stopping, since.
            (Some(advert(5, 1)), Some(status(Requester, Serving, 2)), false, true, None),
            (Some(advert(5, 1)), Some(status(Provider, Draining, 2)), true, true, Some(7)),
            (Some(nothing(2)), Some(status(Provider, Serving, 1)), false, false, None),
            (Some(nothing(2)), Some(status(Requester, Serving, 1)), false, true, None),
            (None, Some(status(Requester, Serving, 1)), false, true, None),
            (None, None, false, false, None),
        ];
        for (advert, status, has_offer, has_status, cores) in table {
            let (held, said) = without_contradiction(advert.as_ref(), status.as_ref());
            assert_eq!((held.is_some(), said.is_some()), (has_offer, has_status), "{advert:?} {status:?}");
            assert_eq!(free(held, said).map(|free| free.cpu.0), cores, "{advert:?} {status:?}");
        }
    }

    #[test]
    fn whoever_is_not_asked_is_not_asked_for_a_reason() {
        let nothing = Advert { executors: BTreeSet::new(), ..advert(0, 1) };
        assert_eq!(why_not_askable(&nothing, None), Some("it has taken its offer back"));
        assert_eq!(why_not_askable(&advert(5, 1), None), None);
    }

    #[test]
    fn what_a_reader_would_act_on_is_material() {
        let before = advert(1000, 1);
        type Change = fn(&mut Advert);
        let table: [(Change, bool); 7] = [
            (|advert| advert.sequence = 2, false),
            (|advert| advert.available = resources(500, 64), false),
            (|advert| advert.available = resources(499, 64), true),
            (|advert| advert.available = resources(1000, 129), true),
            (|advert| advert.addresses.clear(), true),
            (|advert| advert.prices.core_hour = Price(1), true),
            (|advert| advert.card = ContentId::of_bytes(b"other"), true),
        ];
        for (change, expected) in table {
            let mut after = before.clone();
            change(&mut after);
            assert_eq!(is_material(&before, &after), expected, "{after:?}");
        }
    }

    #[test]
    fn loopback_is_told_only_by_a_node_that_has_nothing_else() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let here = ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/udp/1/quic-v1", "/ip6/::1/tcp/1"];
        assert_eq!(worth_telling(texts(&here)), texts(&[here[1], here[0], here[2]]));
        let mut all = texts(&here);
        all.extend(texts(&["/ip4/10.0.0.1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1", "/ip6/2001:db8::1/tcp/1"]));
        let told = ["/ip6/2001:db8::1/tcp/1", "/ip4/10.0.0.1/udp/1/quic-v1", "/ip4/10.0.0.1/tcp/1"];
        assert_eq!(worth_telling(all), texts(&told));
        // A machine with many bridges: its public place is not cut off, nor is TCP.
        let mut many: Vec<String> = (0..9)
            .flat_map(|n| [format!("/ip4/172.17.{n}.1/udp/1/quic-v1"), format!("/ip4/172.17.{n}.1/tcp/1")])
            .collect();
        many.extend(texts(&["/ip4/203.0.113.1/tcp/1", "/ip4/203.0.113.1/udp/1/quic-v1"]));
        let told = worth_telling(many);
        assert_eq!(told[..2], texts(&["/ip4/203.0.113.1/udp/1/quic-v1", "/ip4/203.0.113.1/tcp/1"]));
        assert!(told[2].contains("quic") && told[3].contains("tcp"));
        assert_eq!(worth_telling(vec!["/ip4/10.0.0.1/tcp/1".to_owned(); 20]).len(), MAX_ADDRESSES);
    }
}
