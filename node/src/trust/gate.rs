//! The gate at every link: asked about each word by its kind, before its body is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use dms_actors::clock::SharedClock;
use dms_actors::{ActorPath, Did, Kind, Policy, Refusal, RefusalCode};
use dms_messages::ability::{self, REQUEST_BIDS};
use dms_messages::{AllocationId, Credentials, PreSharedKey, Role, from_canonical, to_canonical};
use dms_storage::Books;
use dms_storage::books::Root;
use tokio::sync::mpsc;

use super::Trust;
use super::authority::{Authority, Missing, ShowError};
use super::conduct::{Conduct, Measure, Offence, Standing};
use super::needs::{self, Need, Place};
use crate::paths::allocation_at;

/// Most peers with whom something is shared that are remembered; more than contracts can be current.
const MAX_PARTIES: usize = 65_536;

/// What the gate looks at. Shared by the links' tasks, which ask about every word, and the Node actor, which alone
/// changes it: hence the lock, held for a look or a change and never across anything that waits.
#[derive(Debug)]
struct State {
    authority: Authority,
    /// Whoever is party to a contract that is kept.
    parties: BTreeSet<Did>,
    /// Whose the live allocations are; as many as there are.
    allocations: BTreeMap<AllocationId, Did>,
    /// What this node shows.
    own: Credentials,
}

/// What is to be done about peers; whoever has the connections takes it from here.
pub type Measures = mpsc::Receiver<(Did, Measure)>;
/// Measures on their way; one that finds no room follows from the peer's next offence.
const MEASURES: usize = 64;
/// How many words one costs that a stranger is refused: two hundred refusals a second are said to it at most.
const REFUSAL_COST: u32 = 10;

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    state: Arc<RwLock<State>>,
    /// Apart from the rest: every word looks at that, and only what goes wrong at this.
    conduct: Arc<Mutex<Conduct>>,
    measures: mpsc::Sender<(Did, Measure)>,
    measures_end: Arc<Mutex<Option<Measures>>>,
    needs: Arc<BTreeMap<Kind, (Place, Need)>>,
    clock: SharedClock,
    pre_shared_key: Option<PreSharedKey>,
}

impl Gate {
    /// The gate of a node that trusts itself and whom it is told to, each to do both and to let in nobody else; until
    /// it takes the books.
    pub fn new(me: Did, network: &str, trust: &Trust, clock: SharedClock) -> Self {
        let root = Root { abilities: Role::Member.abilities(), depth: 0 };
        let given = trust.peers.iter().map(|did| (*did, root.clone())).collect();
        let authority = Authority::new(me, network, trust.is_open, given);
        let state = State {
            authority,
            parties: BTreeSet::new(),
            allocations: BTreeMap::new(),
            own: Credentials::default(),
        };
        let (measures, measures_end) = mpsc::channel(MEASURES);
        Self {
            state: Arc::new(RwLock::new(state)),
            conduct: Arc::default(),
            measures,
            measures_end: Arc::new(Mutex::new(Some(measures_end))),
            needs: Arc::new(
                needs::table().into_iter().map(|word| (word.kind, (word.place, word.need))).collect(),
            ),
            clock,
            pre_shared_key: trust.pre_shared_key,
        }
    }

    /// The key of a private mesh.
    pub fn pre_shared_key(&self) -> Option<PreSharedKey> {
        self.pre_shared_key
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Whoever panicked held it for one look or one change that is whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn conduct(&self) -> MutexGuard<'_, Conduct> {
        // As above.
        self.conduct.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what is to be done about peers; only the first call gets it.
    pub fn take_measures(&self) -> Option<Measures> {
        self.measures_end.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Counts an offence of a peer's.
    pub fn note(&self, peer: Did, offence: Offence) {
        let is_trusted = self.is_trusted(peer);
        let measure = self.conduct().note(peer, offence, is_trusted, self.clock.monotonic());
        if let Some(measure) = measure {
            tracing::warn!(%peer, %offence, ?measure, "a peer does not behave");
            self.take_measure(peer, measure);
        }
    }

    fn take_measure(&self, peer: Did, measure: Measure) {
        let _ = self.measures.try_send((peer, measure));
    }

    /// Forgets what a peer did, and lets it in.
    pub fn forgive(&self, peer: Did) {
        if self.conduct().forgive(peer, self.clock.monotonic()) {
            self.take_measure(peer, Measure::LetIn);
        }
    }

    /// Counts a gossiped message; false if its source has said too many.
    pub fn may_gossip(&self, source: Did) -> bool {
        self.conduct().may_gossip(source, self.clock.monotonic())
    }

    /// How a peer stands, if it does not behave.
    pub fn standing(&self, peer: Did) -> Option<Standing> {
        self.conduct().standing(peer, self.clock.monotonic())
    }

    /// Everybody who is kept out.
    pub fn banned(&self) -> Vec<Did> {
        self.conduct().banned(self.clock.monotonic()).collect()
    }

    /// True if somebody is trusted for anything, and not only because everybody is.
    pub fn is_trusted(&self, who: Did) -> bool {
        self.read().authority.is_trusted(who, self.clock.now())
    }

    /// Takes what the books say now: after a start, and after every change to whom the node trusts.
    pub fn take_books(&self, me: Did, books: &Books) {
        let trust = books.trust();
        let own = trust.tokens().values().filter(|row| !row.is_issued).map(|row| &row.token);
        // This node's own first: what they follow from fills the rest.
        let (mine, others): (Vec<_>, Vec<_>) = own.partition(|token| token.header().audience == Some(me));
        let own = Credentials::of(mine.into_iter().chain(others));
        let mut state = self.write();
        state.authority.take_books(trust);
        state.own = own;
    }

    /// Takes whom the node shares contracts with.
    pub fn take_parties(&self, parties: BTreeSet<Did>) {
        self.write().parties = parties;
    }

    /// The node shares a contract with one more.
    pub fn add_party(&self, party: Did) {
        let mut state = self.write();
        if state.parties.len() < MAX_PARTIES {
            state.parties.insert(party);
        }
    }

    /// No allocation is live: the node begins.
    pub fn forget_allocations(&self) {
        self.write().allocations.clear();
    }

    /// An allocation is live from now on: it can be addressed.
    pub fn add_allocation(&self, id: AllocationId, requester: Did) {
        self.write().allocations.insert(id, requester);
    }

    /// It is no more.
    pub fn remove_allocation(&self, id: AllocationId) {
        self.write().allocations.remove(&id);
    }

    /// Takes what somebody has shown.
    pub fn show(&self, holder: Did, credentials: &Credentials) {
        if credentials.is_empty() {
            return;
        }
        let now = self.clock.now();
        let errors = self.write().authority.show(holder, credentials, now);
        for error in &errors {
            tracing::debug!(peer = %holder, error = error as &dyn std::error::Error, "a token counts for nothing");
        }
        // Once, however many: they came at once.
        if errors.iter().any(|error| matches!(error, ShowError::Malformed(_))) {
            self.note(holder, Offence::Forged);
        }
    }

    /// What this node shows.
    pub fn own(&self) -> Credentials {
        self.read().own.clone()
    }

    /// Whether somebody may do this now; a topic of none is what is said directly.
    ///
    /// # Errors
    /// [`Missing`], with what it lacks.
    pub fn may(&self, who: Did, ability: &str, topic: Option<&str>) -> Result<(), Missing> {
        self.read().authority.may(who, ability, topic, self.clock.now())
    }

    /// True if somebody is trusted for anything.
    pub fn is_known(&self, who: Did) -> bool {
        self.read().authority.is_known(who, self.clock.now())
    }

    /// Everybody who is trusted by name.
    pub fn named(&self) -> BTreeSet<Did> {
        self.read().authority.named()
    }

    /// Looks at what is known.
    pub fn with_authority<R>(&self, look: impl FnOnce(&Authority) -> R) -> R {
        look(&self.read().authority)
    }

    /// Forgets what has ended.
    pub fn prune(&self) {
        let now = self.clock.now();
        self.write().authority.prune(now);
        self.conduct().prune(self.clock.monotonic());
    }

    /// False if a stranger asks for bids too often.
    fn is_paced(&self, sender: Did) -> bool {
        if self.is_trusted(sender) {
            return true;
        }
        let is_paced = self.conduct().may_ask(sender, self.clock.monotonic());
        if !is_paced {
            self.note(sender, Offence::TooFast);
        }
        is_paced
    }

    /// Whether something is shared with `sender`.
    fn check_acquaintance(&self, sender: Did) -> Result<(), Refusal> {
        let state = self.read();
        if state.parties.contains(&sender) || state.authority.is_known(sender, self.clock.now()) {
            return Ok(());
        }
        Err(Refusal::new(RefusalCode::NotTrusted, "there is nothing between us"))
    }

    /// Whether a word of this kind is taken from `sender` at this path.
    fn check(&self, sender: Did, path: &ActorPath, kind: &Kind) -> Result<(), Refusal> {
        let refused = |text: String| Err(Refusal::new(RefusalCode::NotTrusted, text));
        let need = match self.needs.get(kind) {
            Some((place, need)) if *place == Place::of(path) => need,
            // Also what is said where it has no meaning: nothing at that place was written to be told so.
            _ => return refused("nobody may say this here".to_owned()),
        };
        match need {
            Need::Nothing => Ok(()),
            Need::Ability(ability) => match self.may(sender, ability, None) {
                Ok(()) if *ability == REQUEST_BIDS && !self.is_paced(sender) => {
                    Err(Refusal::new(RefusalCode::Busy, "a stranger asks so often only with a token"))
                }
                Ok(()) => Ok(()),
                Err(missing) => refused(missing.to_string()),
            },
            Need::Acquaintance => self.check_acquaintance(sender),
            Need::Allocation => {
                let id = allocation_at(path);
                let requester = id.and_then(|id| self.read().allocations.get(&id).copied());
                match (id, requester) {
                    (_, Some(requester)) if requester == sender => Ok(()),
                    (Some(id), Some(_)) => match self.may(sender, ability::allocation(id).as_str(), None) {
                        Ok(()) => Ok(()),
                        Err(missing) => refused(format!("the allocation is another's; {missing}")),
                    },
                    // Nobody is there, or not any more, and whoever may know that much is told so.
                    _ => self.check_acquaintance(sender),
                }
            }
        }
    }
}

impl Policy for Gate {
    fn admit(&self, sender: Did, path: &ActorPath, kind: &Kind) -> Result<(), Refusal> {
        self.check(sender, path, kind)
    }

    fn credentials(&self) -> Vec<u8> {
        to_canonical(&self.own()).unwrap_or_default()
    }

    fn introduce(&self, peer: Did, credentials: &[u8]) -> Result<(), Refusal> {
        if let Some(left) = self.standing(peer).and_then(|standing| standing.banned_for) {
            return Err(Refusal::new(RefusalCode::Busy, format!("kept out for {left}")));
        }
        let may_open = self.conduct().may_open(peer, self.clock.monotonic());
        if !may_open {
            self.note(peer, Offence::TooFast);
        }
        if credentials.is_empty() {
            return Ok(());
        }
        let shown = from_canonical::<Credentials>(credentials).map_err(|error| {
            self.note(peer, Offence::Forged);
            Refusal::new(RefusalCode::Malformed, error.to_string())
        })?;
        self.show(peer, &shown);
        Ok(())
    }

    fn on_refused(&self, peer: Did, refusal: &Refusal) -> u32 {
        match refusal.code {
            RefusalCode::NotTrusted => self.note(peer, Offence::NotAllowed),
            RefusalCode::Malformed => self.note(peer, Offence::Forged),
            _ => {}
        }
        if self.is_trusted(peer) { 1 } else { REFUSAL_COST }
    }

    fn on_too_fast(&self, peer: Did, pause: Duration) -> Duration {
        self.note(peer, Offence::TooFast);
        self.conduct().pause(peer, pause, self.clock.monotonic())
    }
}

#[cfg(test)]
mod tests {
    use dms_storage::books::TrustEvent;
    use dms_storage::{Entry, Event};

    use super::*;
    use crate::paths::{NODE_PATH, path_of};
    use crate::testing::tokens::{NETWORK, NOW, Sign};
    use crate::testing::{StillClock, did};

    fn gate(is_open: bool) -> Gate {
        let clock: SharedClock = Arc::new(StillClock::default());
        Gate::new(did(1), NETWORK, &Trust { is_open, ..Trust::default() }, clock)
    }

    fn kind(text: &str) -> Kind {
        Kind::parse(text).unwrap()
    }

    fn admits(gate: &Gate, sender: Did, text: &str) -> Result<(), Refusal> {
        gate.admit(sender, &NODE_PATH.parse().unwrap(), &kind(text))
    }

    /// Who says something: with a token of node 1's as this role, a stranger, or a stranger with a contract.
    const SENDERS: [&str; 6] = ["stranger", "requester", "provider", "member", "admin", "party"];

    /// Which senders are let say it: in the order of [`SENDERS`], `y` for yes.
    const MATRIX: [(&str, &str); 26] = [
        ("dms.advert/1", "yyyyyy"),
        ("dms.bid-request/1", ".y.yy."),
        ("dms.bid/1", "..yyy."),
        ("dms.decline/1", ".yyyyy"),
        ("dms.release/1", ".yyyyy"),
        ("dms.invocation/1", ".y.yy."),
        ("dms.accepted/1", ".yyyyy"),
        ("dms.refused/1", ".yyyyy"),
        ("dms.allocation-status/1", ".yyyyy"),
        ("dms.allocation-status-request/1", ".yyyyy"),
        ("dms.allocation-output/1", ".yyyyy"),
        ("dms.acknowledge/1", ".yyyyy"),
        ("dms.cancel/1", ".yyyyy"),
        // To an allocation, by whoever asked for it: see below.
        ("dms.allocation-message/1", "......"),
        ("dms.allocation-check/1", ".yyyyy"),
        ("dms.reconcile/1", ".yyyyy"),
        ("dms.census/1", "yyyyyy"),
        ("dms.census-reply/1", "yyyyyy"),
        ("dms.join/1", "yyyyyy"),
        ("dms.renew/1", "yyyyyy"),
        ("dms.admitted/1", "yyyyyy"),
        ("dms.not-admitted/1", "yyyyyy"),
        ("dms.revocations/1", ".yyyyy"),
        ("dms.successions/1", "yyyyyy"),
        // What nobody thought of.
        ("actor.watch/1", "......"),
        ("dms.format-disk/1", "......"),
    ];

    #[test]
    fn every_word_is_let_in_from_whom_the_matrix_says_and_from_nobody_else() {
        let gate = gate(false);
        let mut senders: Vec<Did> = Vec::new();
        for (name, seed) in SENDERS.into_iter().zip(10..) {
            if let Ok(role) = name.parse::<Role>() {
                gate.show(did(seed), &Credentials::of([&Sign::new(1, seed).role(role).sign()]));
            }
            if name == "party" {
                gate.add_party(did(seed));
            }
            senders.push(did(seed));
        }
        for (kind, row) in MATRIX {
            for ((sender, name), cell) in senders.iter().zip(SENDERS).zip(row.chars()) {
                let outcome = admits(&gate, *sender, kind);
                assert_eq!(outcome.is_ok(), cell == 'y', "{kind} from a {name}: {outcome:?}");
                if let Err(refusal) = outcome {
                    assert_eq!(refusal.code, RefusalCode::NotTrusted);
                    assert!(!refusal.text.is_empty());
                }
            }
        }
        // The matrix is whole.
        for needs::Known { kind, .. } in needs::table() {
            assert!(MATRIX.iter().any(|(text, _)| *text == kind.to_string()), "{kind} is not in the matrix");
        }
        let refusal = admits(&gate, did(10), "dms.bid-request/1").unwrap_err();
        assert_eq!(refusal.text, "it needs /dms/request/bids");
    }

    /// Who speaks to an allocation of node 20's, beside [`SENDERS`].
    const SPEAKERS: [&str; 4] = ["its requester", "another's requester", "its ability", "another ability"];

    /// The same for what is said to a live allocation, by [`SENDERS`] and then by [`SPEAKERS`]; and to one that is none.
    const ALLOCATION_MATRIX: [(&str, &str, &str); 4] = [
        ("dms.allocation-message/1", "....y.y.y.", ".yyyyyyyyy"),
        // Said where it has no meaning.
        ("dms.cancel/1", "..........", ".........."),
        ("dms.bid-request/1", "..........", ".........."),
        ("actor.watch/1", "..........", ".........."),
    ];

    #[test]
    fn an_allocation_is_spoken_to_by_whom_the_matrix_says_and_by_nobody_else() {
        let of = |seed: u8| AllocationId::from_random([seed; 16]);
        let path = |id: AllocationId| -> ActorPath { path_of(id).parse().unwrap() };
        for is_open in [false, true] {
            let gate = gate(is_open);
            for (name, seed) in SENDERS.into_iter().zip(10..) {
                if let Ok(role) = name.parse::<Role>() {
                    gate.show(did(seed), &Credentials::of([&Sign::new(1, seed).role(role).sign()]));
                }
                if name == "party" {
                    gate.add_party(did(seed));
                }
            }
            for (seed, id) in [(16, of(1)), (17, of(2))] {
                gate.add_party(did(seed));
                gate.add_allocation(id, did(seed));
            }
            for (seed, id) in [(18, of(1)), (19, of(2))] {
                let token = Sign::new(1, seed).abilities(&[ability::allocation(id).as_str()]).sign();
                gate.show(did(seed), &Credentials::of([&token]));
            }
            let names = SENDERS.into_iter().chain(SPEAKERS);
            for (kind, live, none) in ALLOCATION_MATRIX {
                for (place, row) in [(of(1), live), (of(3), none)] {
                    for ((seed, name), cell) in (10..).zip(names.clone()).zip(row.chars()) {
                        // On an open node everybody is known well enough to be told that nobody is there.
                        let is_let = cell == 'y' || (is_open && none.contains('y') && place == of(3));
                        let outcome = gate.admit(did(seed), &path(place), &self::kind(kind));
                        assert_eq!(
                            outcome.is_ok(),
                            is_let,
                            "{kind} from {name}, open {is_open}: {outcome:?}"
                        );
                    }
                }
            }
            let refusal = gate.admit(did(12), &path(of(1)), &kind("dms.allocation-message/1")).unwrap_err();
            assert_eq!(refusal.code, RefusalCode::NotTrusted);
            let needed = format!("the allocation is another's; it needs /dms/allocation/{}", of(1));
            assert_eq!(refusal.text, needed);
            // It has ended, and then the node begins anew.
            gate.remove_allocation(of(1));
            assert!(gate.admit(did(17), &path(of(1)), &kind("dms.allocation-message/1")).is_ok());
            gate.forget_allocations();
            assert!(gate.admit(did(16), &path(of(2)), &kind("dms.allocation-message/1")).is_ok());
        }
    }

    #[test]
    fn an_open_node_lets_strangers_ask_and_bid_and_no_more() {
        let gate = gate(true);
        for (kind, row) in MATRIX {
            let is_known = row.contains('y');
            assert_eq!(admits(&gate, did(9), kind).is_ok(), is_known, "{kind}");
        }
        assert!(gate.may(did(9), "/dms/admin", None).is_err());
    }

    #[test]
    fn what_a_node_shows_is_what_another_takes() {
        let token = Sign::new(1, 2).role(Role::Member).sign();
        let other = gate(false);
        let mut books = Books::default();
        let change = TrustEvent::TokenKept { token, is_issued: false };
        books.apply(&Entry { at: NOW, event: Event::Trust { change } }).unwrap();
        other.take_books(did(2), &books);
        let mine = gate(false);
        assert!(admits(&mine, did(2), "dms.bid-request/1").is_err());
        mine.introduce(did(2), &other.credentials()).unwrap();
        assert_eq!(admits(&mine, did(2), "dms.bid-request/1"), Ok(()));
        mine.introduce(did(3), &other.credentials()).unwrap();
        assert!(admits(&mine, did(3), "dms.bid-request/1").is_err(), "shown by another");
        assert_eq!(mine.introduce(did(4), &[]), Ok(()));
        let refusal = mine.introduce(did(4), b"\xff").unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Malformed);
    }

    /// What a link does with a word of this sender's.
    fn says(gate: &Gate, sender: Did, text: &str) -> u32 {
        admits(gate, sender, text).map_or_else(|refusal| gate.on_refused(sender, &refusal), |()| 0)
    }

    #[test]
    fn refusals_cost_strangers_more_than_friends_and_end_in_a_ban() {
        let gate = gate(false);
        let mut measures = gate.take_measures().unwrap();
        assert!(gate.take_measures().is_none());
        gate.show(did(2), &Credentials::of([&Sign::new(1, 2).role(Role::Provider).sign()]));
        assert_eq!(says(&gate, did(2), "dms.bid-request/1"), 1);
        assert_eq!(says(&gate, did(9), "dms.bid-request/1"), REFUSAL_COST);
        for _ in 0..2_000 {
            says(&gate, did(2), "dms.bid-request/1");
            says(&gate, did(9), "dms.bid-request/1");
        }
        assert_eq!(gate.standing(did(2)), None, "it is trusted for something");
        assert_eq!(measures.try_recv(), Ok((did(9), Measure::Cut)));
        assert!(matches!(measures.try_recv(), Ok((who, Measure::Ban(_))) if who == did(9)));
        assert_eq!((gate.banned(), measures.try_recv().is_err()), (vec![did(9)], true));
        let refusal = gate.introduce(did(9), &[]).unwrap_err();
        assert!(refusal.text.starts_with("kept out for 300 s"), "{refusal}");
        gate.forgive(did(9));
        assert_eq!(measures.try_recv(), Ok((did(9), Measure::LetIn)));
        assert_eq!(gate.introduce(did(9), &[]), Ok(()));
    }

    #[test]
    fn a_stranger_of_an_open_mesh_asks_at_a_pace_and_a_friend_as_it_likes() {
        let gate = gate(true);
        gate.show(did(2), &Credentials::of([&Sign::new(1, 2).role(Role::Requester).sign()]));
        let taken = |who: Did| (0..1_000).filter(|_| says(&gate, who, "dms.bid-request/1") == 0).count();
        assert_eq!((taken(did(2)), taken(did(9))), (1_000, 300));
        let refusal = admits(&gate, did(9), "dms.bid-request/1").unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Busy);
    }

    #[test]
    fn whoever_shows_what_is_no_token_does_not_behave() {
        let gate = gate(false);
        let forged = to_canonical(&[serde_bytes::ByteBuf::from(vec![7; 100])]).unwrap();
        for _ in 0..10 {
            assert_eq!(gate.introduce(did(9), &forged), Ok(()));
        }
        assert_eq!(gate.banned(), [did(9)]);
        // Links without end, each of which would bring an allowance of its own.
        let clock_stands_still = (0..200).filter(|_| gate.introduce(did(8), &[]).is_ok()).count();
        assert_eq!(
            (clock_stands_still, gate.standing(did(8))),
            (200, None),
            "one offence in a tenth of a second"
        );
    }
}
