//! The gate at every link: asked about each word by its kind, before its body is read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dms_actors::clock::SharedClock;
use dms_actors::{ActorPath, Did, Kind, Policy, Refusal, RefusalCode};
use dms_messages::{Credentials, Role, from_canonical, to_canonical};
use dms_storage::Books;
use dms_storage::books::Root;

use super::Trust;
use super::authority::{Authority, Missing};
use super::needs::{self, Need};

/// Most peers with whom something is shared that are remembered; more than contracts can be current.
const MAX_PARTIES: usize = 65_536;

/// What the gate looks at. Shared by the links' tasks, which ask about every word, and the Node actor, which alone
/// changes it: hence the lock, held for a look or a change and never across anything that waits.
#[derive(Debug)]
struct State {
    authority: Authority,
    /// Whoever is party to a contract that is kept.
    parties: BTreeSet<Did>,
    /// What this node shows.
    own: Credentials,
}

/// See the module. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gate {
    state: Arc<RwLock<State>>,
    needs: Arc<BTreeMap<Kind, Need>>,
    clock: SharedClock,
}

impl Gate {
    /// The gate of a node that trusts itself and whom it is told to, each to do both and to let in nobody else; until
    /// it takes the books.
    pub fn new(me: Did, network: &str, trust: &Trust, clock: SharedClock) -> Self {
        let root = Root { abilities: Role::Member.abilities(), depth: 0 };
        let given = trust.peers.iter().map(|did| (*did, root.clone())).collect();
        let authority = Authority::new(me, network, trust.is_open, given);
        let state = State { authority, parties: BTreeSet::new(), own: Credentials::default() };
        Self {
            state: Arc::new(RwLock::new(state)),
            needs: Arc::new(needs::table().into_iter().collect()),
            clock,
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Whoever panicked held it for one look or one change that is whole.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
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

    /// Takes what somebody has shown.
    pub fn show(&self, holder: Did, credentials: &Credentials) {
        if credentials.is_empty() {
            return;
        }
        let now = self.clock.now();
        for error in self.write().authority.show(holder, credentials, now) {
            tracing::debug!(peer = %holder, error = &error as &dyn std::error::Error, "a token counts for nothing");
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
    pub fn may(&self, who: Did, ability: &'static str, topic: Option<&str>) -> Result<(), Missing> {
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
    }

    /// Whether a word of this kind is taken from `sender`.
    fn check(&self, sender: Did, kind: &Kind) -> Result<(), Refusal> {
        let refused = |text: String| Err(Refusal::new(RefusalCode::NotTrusted, text));
        match self.needs.get(kind) {
            Some(Need::Nothing) => Ok(()),
            Some(Need::Ability(ability)) => {
                self.may(sender, ability, None).or_else(|missing| refused(missing.to_string()))
            }
            Some(Need::Acquaintance) => {
                let state = self.read();
                if state.parties.contains(&sender) || state.authority.is_known(sender, self.clock.now()) {
                    return Ok(());
                }
                refused("there is nothing between us".to_owned())
            }
            None => refused("nobody may say this here".to_owned()),
        }
    }
}

impl Policy for Gate {
    fn admit(&self, sender: Did, _: &ActorPath, kind: &Kind) -> Result<(), Refusal> {
        self.check(sender, kind)
    }

    fn credentials(&self) -> Vec<u8> {
        to_canonical(&self.own()).unwrap_or_default()
    }

    fn introduce(&self, peer: Did, credentials: &[u8]) -> Result<(), Refusal> {
        if credentials.is_empty() {
            return Ok(());
        }
        let shown = from_canonical::<Credentials>(credentials);
        let shown = shown.map_err(|error| Refusal::new(RefusalCode::Malformed, error.to_string()))?;
        self.show(peer, &shown);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use dms_storage::books::TrustEvent;
    use dms_storage::{Entry, Event};

    use super::*;
    use crate::network::NODE_PATH;
    use crate::testing::tokens::{NETWORK, NOW, Sign};
    use crate::testing::{StillClock, did};

    fn gate(is_open: bool) -> Gate {
        let clock: SharedClock = Arc::new(StillClock::default());
        Gate::new(did(1), NETWORK, &Trust { is_open, peers: BTreeSet::new() }, clock)
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
    const MATRIX: [(&str, &str); 21] = [
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
        ("dms.reconcile/1", ".yyyyy"),
        ("dms.join/1", "yyyyyy"),
        ("dms.renew/1", "yyyyyy"),
        ("dms.admitted/1", "yyyyyy"),
        ("dms.not-admitted/1", "yyyyyy"),
        ("dms.revocations/1", "yyyyyy"),
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
        for (kind, _) in needs::table() {
            assert!(MATRIX.iter().any(|(text, _)| *text == kind.to_string()), "{kind} is not in the matrix");
        }
        let refusal = admits(&gate, did(10), "dms.bid-request/1").unwrap_err();
        assert_eq!(refusal.text, "it needs /dms/request/bids");
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
}
