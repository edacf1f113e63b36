//! How peers behave, and what follows: whoever wastes this node's time is read slower, then loses its connections,
//! then is kept out for a while.
//!
//! Pure bookkeeping with the time passed in. Offences add points, and points halve every minute, so that a mistake is
//! forgotten and a habit is not. Whoever is trusted by name or by a token is slowed down like everybody, but has
//! points only for what no honest node does: a busy friend is not an attacker. Kept in memory alone: a restart forgives.

use std::collections::BTreeMap;
use std::time::Duration;

use dms_messages::{Did, Millis};
use serde::{Deserialize, Serialize};

/// Most peers remembered: far more than can be connected or be heard of within a minute.
const MAX_PEERS: usize = 4_096;
/// After this time half of the points are left.
const HALF_LIFE: Duration = Duration::from_secs(60);
/// From so many points on a peer is read slower.
const THROTTLED: f64 = 10.0;
/// At so many it loses its connections.
const CUT: f64 = 50.0;
/// At so many it is kept out.
const BANNED: f64 = 100.0;
/// How much longer the pauses of a peer are that is read slower.
const THROTTLE: u32 = 4;
/// The first time that a peer is kept out; each further one is twice as long.
const FIRST_BAN: Duration = Duration::from_secs(5 * 60);
/// The longest, and how long it takes until a peer's earlier ones are forgotten.
const LONGEST_BAN: Duration = Duration::from_secs(24 * 3600);
/// Speaking too fast counts once in this time: five seconds of it are enough to be kept out.
const TOO_FAST_PERIOD: Duration = Duration::from_millis(100);

/// Gossiped messages of one source: one each 10 ms in the long run, and so many at once. Requesters with a crowd of
/// jobs say some twenty a second.
const GOSSIP: Pace = Pace { period: Duration::from_millis(10), burst: 500 };
/// Requests that a stranger of an open mesh says directly. Each costs a signature and a place in the books; who has a
/// hundred jobs a second to give is worth a token.
const ASKS: Pace = Pace { period: Duration::from_millis(10), burst: 300 };
/// Links that one peer opens: each begins with an allowance of words of its own, so that opening them may not be one.
const LINKS: Pace = Pace { period: Duration::from_secs(1), burst: 30 };

/// What a peer did that it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Offence {
    /// It spoke, gossiped or opened links faster than anybody has to.
    #[error("too fast")]
    TooFast,
    /// It said what it may not say.
    #[error("not allowed")]
    NotAllowed,
    /// It said what no honest node says: bytes that are no word, a signature that does not hold, another's word as
    /// its own.
    #[error("forged")]
    Forged,
}

impl Offence {
    fn points(self) -> f64 {
        match self {
            Self::TooFast => 2.0,
            // A node whose token has just ended may say hundreds of them before it hears of the first refusal.
            Self::NotAllowed => 0.1,
            Self::Forged => 10.0,
        }
    }
}

/// What is to be done about a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// End its connections; it may come back.
    Cut,
    /// Keep it out for so long.
    Ban(Duration),
    /// Let it in again.
    LetIn,
}

/// How a peer stands that does not behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// How long it is kept out still; none: it is read slower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub banned_for: Option<Millis>,
    /// What for, last of all.
    pub offence: Offence,
}

/// How often something may be done: by the arithmetic of a cell rate (GCRA), which needs one time per peer.
#[derive(Debug, Clone, Copy)]
struct Pace {
    period: Duration,
    burst: u32,
}

impl Pace {
    /// Counts one more, if that is within the pace. `due` is when nothing of the burst is used up any more.
    fn take(self, due: &mut Duration, now: Duration) -> bool {
        let next = (*due).max(now) + self.period;
        let is_within = next <= now + self.period * self.burst;
        if is_within {
            *due = next;
        }
        is_within
    }
}

#[derive(Debug, Default)]
struct Record {
    points: f64,
    /// When they were counted.
    counted: Duration,
    offence: Option<Offence>,
    too_fast: Option<Duration>,
    /// True from the cut on, until half of its points are gone.
    is_cut: bool,
    banned_until: Option<Duration>,
    bans: u32,
    gossip_due: Duration,
    asks_due: Duration,
    links_due: Duration,
}

impl Record {
    fn points(&self, now: Duration) -> f64 {
        let age = now.saturating_sub(self.counted).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.points * 0.5_f64.powf(age)
    }

    fn ban_left(&self, now: Duration) -> Option<Duration> {
        self.banned_until.and_then(|until| until.checked_sub(now)).filter(|left| !left.is_zero())
    }

    /// True if nothing would be lost with it.
    fn is_idle(&self, now: Duration) -> bool {
        let has_bans = self.banned_until.is_some_and(|until| until + LONGEST_BAN > now);
        !has_bans && self.points(now) < 0.1 && self.gossip_due.max(self.asks_due).max(self.links_due) <= now
    }

    fn note(&mut self, offence: Offence, now: Duration) -> Option<Measure> {
        if self.ban_left(now).is_some() {
            return None;
        }
        if offence == Offence::TooFast {
            if self.too_fast.is_some_and(|last| now.saturating_sub(last) < TOO_FAST_PERIOD) {
                return None;
            }
            self.too_fast = Some(now);
        }
        self.points = self.points(now) + offence.points();
        self.counted = now;
        self.offence = Some(offence);
        if self.points >= BANNED {
            if self.banned_until.is_some_and(|until| until + LONGEST_BAN <= now) {
                self.bans = 0;
            }
            let time = FIRST_BAN.saturating_mul(1 << self.bans.min(16)).min(LONGEST_BAN);
            *self = Self { bans: self.bans + 1, banned_until: Some(now + time), ..Self::default() };
            self.offence = Some(offence);
            return Some(Measure::Ban(time));
        }
        self.is_cut &= self.points >= CUT / 2.0;
        let is_to_be_cut = self.points >= CUT && !self.is_cut;
        self.is_cut |= is_to_be_cut;
        is_to_be_cut.then_some(Measure::Cut)
    }
}

/// See the module. One owner: the [`super::Gate`].
#[derive(Debug, Default)]
pub struct Conduct {
    records: BTreeMap<Did, Record>,
}

impl Conduct {
    /// Counts an offence, and says what follows from it.
    pub fn note(&mut self, peer: Did, offence: Offence, is_trusted: bool, now: Duration) -> Option<Measure> {
        let counts = !is_trusted || offence == Offence::Forged;
        if counts { self.record(peer, now).note(offence, now) } else { None }
    }

    /// Counts a gossiped message; false if it is one too many.
    pub fn may_gossip(&mut self, source: Did, now: Duration) -> bool {
        GOSSIP.take(&mut self.record(source, now).gossip_due, now)
    }

    /// Counts a stranger's request; false if it is one too many.
    pub fn may_ask(&mut self, stranger: Did, now: Duration) -> bool {
        ASKS.take(&mut self.record(stranger, now).asks_due, now)
    }

    /// Counts a link; false if it is one too many.
    pub fn may_open(&mut self, peer: Did, now: Duration) -> bool {
        LINKS.take(&mut self.record(peer, now).links_due, now)
    }

    /// For how long a peer is not read that would have to make this pause.
    pub fn pause(&self, peer: Did, pause: Duration, now: Duration) -> Duration {
        let is_throttled = self.records.get(&peer).is_some_and(|record| record.points(now) >= THROTTLED);
        if is_throttled { pause * THROTTLE } else { pause }
    }

    /// How a peer stands, if it does not behave.
    pub fn standing(&self, peer: Did, now: Duration) -> Option<Standing> {
        let record = self.records.get(&peer)?;
        let banned_for = record.ban_left(now).map(Millis::from);
        let is_told = banned_for.is_some() || record.points(now) >= THROTTLED;
        record.offence.filter(|_| is_told).map(|offence| Standing { banned_for, offence })
    }

    /// Everybody who is kept out.
    pub fn banned(&self, now: Duration) -> impl Iterator<Item = Did> {
        let banned = self.records.iter().filter(move |(_, record)| record.ban_left(now).is_some());
        banned.map(|(did, _)| *did)
    }

    /// Forgets all that a peer did; true if it was kept out.
    pub fn forgive(&mut self, peer: Did, now: Duration) -> bool {
        self.records.remove(&peer).is_some_and(|record| record.ban_left(now).is_some())
    }

    /// Forgets what is over.
    pub fn prune(&mut self, now: Duration) {
        self.records.retain(|_, record| !record.is_idle(now));
    }

    fn record(&mut self, peer: Did, now: Duration) -> &mut Record {
        if !self.records.contains_key(&peer) && self.records.len() >= MAX_PEERS {
            self.make_room(now);
        }
        self.records.entry(peer).or_default()
    }

    /// Forgets what is over, or else whoever did least: who is kept out stays longest.
    fn make_room(&mut self, now: Duration) {
        self.prune(now);
        if self.records.len() < MAX_PEERS {
            return;
        }
        let weight = |record: &Record| (record.ban_left(now), record.points(now));
        let least = self.records.iter().min_by(|(_, a), (_, b)| {
            let ((a_ban, a_points), (b_ban, b_points)) = (weight(a), weight(b));
            a_ban.cmp(&b_ban).then(a_points.total_cmp(&b_points))
        });
        if let Some(least) = least.map(|(did, _)| *did) {
            self.records.remove(&least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::did;

    fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    /// Speaks too fast without a break; returns what followed, and when.
    fn flood(conduct: &mut Conduct, from: Duration, until: Duration) -> Vec<(Measure, Duration)> {
        let mut measures = Vec::new();
        let mut now = from;
        while now < until {
            measures.extend(conduct.note(did(1), Offence::TooFast, false, now).map(|measure| (measure, now)));
            now += millis(1);
        }
        measures
    }

    #[test]
    fn a_flood_is_slowed_at_once_then_cut_then_banned_for_longer_each_time() {
        let mut conduct = Conduct::default();
        let start = millis(0);
        assert_eq!(conduct.pause(did(1), millis(5), start), millis(5));
        let measures = flood(&mut conduct, start, millis(10_000));
        assert_eq!(
            measures.iter().map(|it| it.0).collect::<Vec<_>>(),
            [Measure::Cut, Measure::Ban(FIRST_BAN)]
        );
        let times: Vec<Duration> = measures.iter().map(|it| it.1).collect();
        assert!(times[0] <= millis(3_000) && times[1] <= millis(6_000), "{times:?}");
        let standing = conduct.standing(did(1), millis(10_000)).unwrap();
        assert!(standing.banned_for > Some(Millis(290_000)) && standing.offence == Offence::TooFast);
        assert_eq!(conduct.banned(millis(10_000)).collect::<Vec<_>>(), [did(1)]);
        let back = times[1] + FIRST_BAN;
        assert_eq!((conduct.standing(did(1), back), conduct.banned(back).count()), (None, 0));
        let again = flood(&mut conduct, back, back + millis(10_000));
        assert_eq!(again.last().map(|it| it.0), Some(Measure::Ban(FIRST_BAN * 2)));
        let mut slowed = Conduct::default();
        flood(&mut slowed, start, millis(1_000));
        assert_eq!(slowed.pause(did(1), millis(5), millis(1_000)), millis(20));
        assert!(slowed.standing(did(1), millis(1_000)).unwrap().banned_for.is_none());
    }

    #[test]
    fn bans_grow_to_a_day_and_are_forgotten_after_one() {
        let (mut conduct, mut now, mut last) = (Conduct::default(), millis(0), Duration::ZERO);
        let mut ban = |now: Duration| {
            (0..1_000).find_map(|_| match conduct.note(did(1), Offence::Forged, false, now) {
                Some(Measure::Ban(time)) => Some(time),
                _ => None,
            })
        };
        for _ in 0..12 {
            last = ban(now).unwrap();
            now += last;
        }
        assert_eq!(last, LONGEST_BAN);
        assert_eq!(ban(now + LONGEST_BAN), Some(FIRST_BAN));
    }

    #[test]
    fn what_a_mistake_costs_is_forgotten_and_a_habit_is_not() {
        let mut conduct = Conduct::default();
        // Once a minute for a day.
        for minute in 0..1_440 {
            let now = Duration::from_secs(minute * 60);
            assert_eq!(conduct.note(did(1), Offence::Forged, false, now), None);
        }
        // Hundreds of refused words at once, then none: a node whose token has ended.
        for _ in 0..400 {
            assert_eq!(conduct.note(did(2), Offence::NotAllowed, false, millis(0)), None);
        }
        assert_eq!(conduct.standing(did(2), Duration::from_secs(600)), None);
        // Without an end.
        let measures =
            (0..2_000).filter_map(|n| conduct.note(did(3), Offence::NotAllowed, false, millis(n * 5)));
        assert_eq!(measures.collect::<Vec<_>>(), [Measure::Cut, Measure::Ban(FIRST_BAN)]);
    }

    #[test]
    fn a_busy_friend_is_no_attacker_and_a_friend_who_forges_is_none() {
        let mut conduct = Conduct::default();
        for n in 0..10_000 {
            assert_eq!(conduct.note(did(1), Offence::TooFast, true, millis(n * 10)), None);
            assert_eq!(conduct.note(did(1), Offence::NotAllowed, true, millis(n * 10)), None);
        }
        assert_eq!(conduct.standing(did(1), millis(100_000)), None);
        let measures = (0..10).filter_map(|_| conduct.note(did(1), Offence::Forged, true, millis(0)));
        assert_eq!(measures.collect::<Vec<_>>(), [Measure::Cut, Measure::Ban(FIRST_BAN)]);
    }

    #[test]
    fn gossip_requests_and_links_have_a_pace_of_their_own() {
        let mut conduct = Conduct::default();
        let at_once = (0..2_000).filter(|_| conduct.may_gossip(did(1), millis(0))).count();
        assert_eq!(at_once, 500);
        // From then on one each 10 ms, however many are tried.
        let later = (0..1_000).filter(|n| conduct.may_gossip(did(1), millis(1 + n))).count();
        assert!((99..=101).contains(&later), "{later}");
        assert!(conduct.may_gossip(did(2), millis(0)), "another's");
        assert_eq!((0..1_000).filter(|_| conduct.may_ask(did(1), millis(0))).count(), 300);
        assert_eq!((0..100).filter(|_| conduct.may_open(did(1), millis(0))).count(), 30);
    }

    #[test]
    fn whoever_is_forgiven_is_as_any_other() {
        let mut conduct = Conduct::default();
        flood(&mut conduct, millis(0), millis(10_000));
        assert!(conduct.forgive(did(1), millis(10_000)) && !conduct.forgive(did(1), millis(10_000)));
        assert_eq!(conduct.standing(did(1), millis(10_000)), None);
    }

    #[test]
    fn the_memory_is_bounded_and_the_worst_stay_longest() {
        let stranger = |n: u32| {
            let mut secret = [7; 32];
            secret[..4].copy_from_slice(&n.to_be_bytes());
            dms_messages::Keypair::from_secret(&secret).did()
        };
        let mut conduct = Conduct::default();
        flood(&mut conduct, millis(0), millis(10_000));
        let now = millis(10_000);
        conduct.note(did(2), Offence::Forged, false, now);
        for n in 0..MAX_PEERS as u32 + 10 {
            conduct.note(stranger(n), Offence::NotAllowed, false, now);
        }
        assert_eq!(conduct.records.len(), MAX_PEERS);
        assert!(conduct.standing(did(1), now).is_some() && conduct.standing(did(2), now).is_some());
        conduct.prune(now + Duration::from_secs(3600));
        assert_eq!(conduct.records.len(), 1, "whoever was kept out is remembered for a day");
        conduct.prune(now + FIRST_BAN + LONGEST_BAN);
        assert!(conduct.records.is_empty());
    }
}
