//! What becomes of trust in somebody who has a new key: pure, for the Node and the [`super::authority`].
//!
//! What the old name may do here, as a root and by grant, the new one may from then on; the old one may nothing any
//! more. Whoever is trusted for nothing has nothing to hand on, and whom the new name is already trusted as it stays:
//! nobody gains more than the old name had. Each key is followed once.

use std::collections::{BTreeMap, BTreeSet};

use dms_actors::signed::SKEW;
use dms_messages::{Did, Invite, MAX_SUCCESSIONS, Signed, Succession, Successions, Timestamp};
use dms_storage::books::{Grant, JoinRow, Root, TrustBooks, TrustEvent};

/// Most keys that are remembered as followed by another, of everybody: a renewal a year of thousands of members.
const MAX_REMEMBERED: usize = 4_096;

/// Why successions count for nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// One of them is no succession, or its signature does not hold.
    #[error("not a succession: {0}")]
    Malformed(String),
    /// One of them is of another mesh, for a single reader, or not of this time.
    #[error("a succession of {0} does not hold here and now")]
    NotHere(Did),
    /// They do not lead from one name to another.
    #[error("the successions do not follow on one another")]
    Broken,
    /// One of them is about this node, which alone says what its keys are.
    #[error("nobody else says which key this node has")]
    Own,
    /// They do not lead to whoever says them.
    #[error("the successions do not lead to {0}, who says them")]
    Speaker(Did),
    /// The old key has named somebody else before: two of them have it.
    #[error("{0} has named another successor before")]
    Twice(Did),
    /// Nobody among the old names is trusted for anything.
    #[error("nobody of those who have a new key is trusted here")]
    Nobody,
    /// More than are remembered.
    #[error("too many keys were followed by others")]
    TooMany,
}

/// A name that somebody had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Former {
    /// The name that they have now.
    pub now: Did,
    /// Until when it was theirs, by their clock.
    pub until: Timestamp,
    /// As what it was trusted by name.
    pub root: Option<Root>,
}

impl Former {
    /// Everybody's former names.
    pub fn all(books: &TrustBooks) -> BTreeMap<Did, Self> {
        let former = |old: Did| {
            let row = &books.successions()[&old];
            let until = row.succession.header().issued_at;
            Self { now: books.present_name(old), until, root: row.root.clone() }
        };
        books.successions().keys().map(|old| (*old, former(*old))).collect()
    }
}

/// Successions that lead from one name to another.
#[derive(Debug, Clone)]
pub struct Lineage(Vec<Signed<Succession>>);

impl Lineage {
    /// Verifies what was said or carried here.
    ///
    /// # Errors
    /// `Malformed`, `NotHere`, `Broken`.
    pub fn verify(word: &Successions, network: &str, now: Timestamp) -> Result<Self, SuccessionError> {
        let mut lineage: Vec<Signed<Succession>> = Vec::with_capacity(word.successions.len());
        let mut names: BTreeSet<Did> = BTreeSet::new();
        for bytes in &word.successions {
            let one: Signed<Succession> = Signed::verify_offline(bytes)
                .map_err(|error| SuccessionError::Malformed(error.to_string()))?;
            let header = one.header();
            let is_here = header.network == network
                && header.audience.is_none()
                && header.issued_at <= now.saturating_add(SKEW)
                && header.expires_at > now;
            if !is_here {
                return Err(SuccessionError::NotHere(one.issuer()));
            }
            let follows = lineage.last().is_none_or(|before| before.value().new == one.issuer());
            // No name comes twice, so that there is no ring.
            names.insert(one.issuer());
            if !follows || names.contains(&one.value().new) {
                return Err(SuccessionError::Broken);
            }
            lineage.push(one);
        }
        if lineage.is_empty() { Err(SuccessionError::Broken) } else { Ok(Self(lineage)) }
    }

    /// The oldest name.
    pub fn old(&self) -> Option<Did> {
        self.0.first().map(Signed::issuer)
    }

    /// The present name.
    pub fn new_name(&self) -> Option<Did> {
        self.0.last().map(|last| last.value().new)
    }

    /// Refuses those that lead to another than who says them: by saying them the new key agrees to be it.
    ///
    /// # Errors
    /// `Speaker`.
    pub fn said_by(&self, speaker: Did) -> Result<(), SuccessionError> {
        if self.new_name() == Some(speaker) { Ok(()) } else { Err(SuccessionError::Speaker(speaker)) }
    }
}

/// What is to be recorded of a lineage; nothing if all of it was heard before. `given` are trusted beside the books.
///
/// # Errors
/// `Own`, `Twice`, `Nobody`, `TooMany`.
pub fn follow(
    lineage: &Lineage,
    books: &TrustBooks,
    given: &BTreeMap<Did, Root>,
    me: Did,
) -> Result<Vec<TrustEvent>, SuccessionError> {
    let is_mine = |did: Did| books.present_name(did) == me;
    let mut changes = Vec::new();
    let mut is_known = false;
    // What the name that is looked at may, handed on to it by those before it.
    let mut held = Held::default();
    for one in &lineage.0 {
        let (old, new) = (one.issuer(), one.value().new);
        if is_mine(old) || is_mine(new) {
            return Err(SuccessionError::Own);
        }
        if let Some(before) = books.successions().get(&old) {
            if before.succession.value().new != new {
                return Err(SuccessionError::Twice(old));
            }
            is_known = true;
            held = Held::default();
            continue;
        }
        held = held.and_of(old, books, &mut changes);
        let speaks = |issuer: Did| books.tokens().values().any(|row| row.token.issuer() == issuer);
        if !held.is_anything() && !given.contains_key(&old) && !speaks(old) && !is_known {
            continue;
        }
        is_known = true;
        let followed = changes.iter().filter(|change| matches!(change, TrustEvent::Succeeded { .. })).count();
        let is_long = books.lineage(old).len() + followed >= MAX_SUCCESSIONS;
        if is_long || books.successions().len() + followed >= MAX_REMEMBERED {
            return Err(SuccessionError::TooMany);
        }
        changes.push(TrustEvent::Succeeded { succession: one.clone(), root: held.root.clone() });
    }
    if !is_known {
        return Err(SuccessionError::Nobody);
    }
    if let Some(new) = lineage.new_name() {
        changes.extend(held.given_to(new, books));
    }
    Ok(changes)
}

/// What somebody may here, while it is handed on.
#[derive(Debug, Clone, Default)]
struct Held {
    root: Option<Root>,
    grant: Option<Grant>,
    join: Option<JoinRow>,
}

impl Held {
    fn is_anything(&self) -> bool {
        self.root.is_some() || self.grant.is_some() || self.join.is_some()
    }

    /// What `did` may: what it may by its own name, or else what was handed on to it. Its own is taken from it.
    fn and_of(self, did: Did, books: &TrustBooks, changes: &mut Vec<TrustEvent>) -> Self {
        let (root, grant) = (books.roots().get(&did), books.grants().get(&did));
        let join = books.joins().get(&did);
        changes.extend(root.map(|_| TrustEvent::RootDistrusted { did }));
        changes.extend(grant.map(|_| TrustEvent::GrantEnded { to: did }));
        changes.extend(join.map(|_| TrustEvent::JoinEnded { inviter: did }));
        Self {
            root: root.cloned().or(self.root),
            grant: grant.cloned().or(self.grant),
            join: join.cloned().or(self.join),
        }
    }

    /// Gives it to the present name, where that has nothing of the kind.
    fn given_to(self, new: Did, books: &TrustBooks) -> impl Iterator<Item = TrustEvent> {
        let root = self.root.filter(|_| !books.roots().contains_key(&new));
        let grant = self.grant.filter(|_| !books.grants().contains_key(&new));
        let join = self.join.filter(|row| row.refused.is_none() && !books.joins().contains_key(&new));
        let join =
            join.map(|row| TrustEvent::JoinBegun { invite: Box::new(Invite { inviter: new, ..row.invite }) });
        let root = root.map(|root| TrustEvent::RootTrusted { did: new, root });
        let grant = grant.map(|grant| TrustEvent::Granted { to: new, grant });
        root.into_iter().chain(grant).chain(join)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dms_messages::{DocumentId, Role, SignOptions};
    use dms_storage::{Books, Entry, Event};
    use serde_bytes::ByteBuf;

    use super::*;
    use crate::testing::did;
    use crate::testing::tokens::{NETWORK, NOW, Sign, key};

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    fn options() -> SignOptions {
        SignOptions {
            network: NETWORK.to_owned(),
            audience: None,
            issued_at: NOW,
            ttl: YEAR,
            id: DocumentId([1; 16]),
        }
    }

    fn signed(old: u8, new: u8, options: SignOptions) -> Signed<Succession> {
        Signed::sign(Succession { new: did(new) }, &key(old), options).unwrap()
    }

    /// The successions from each of these to the next.
    fn word(names: &[u8]) -> Successions {
        let all: Vec<_> = names.windows(2).map(|pair| signed(pair[0], pair[1], options())).collect();
        Successions::of(&all)
    }

    fn lineage(names: &[u8]) -> Lineage {
        Lineage::verify(&word(names), NETWORK, NOW).unwrap()
    }

    /// Node 1, which trusts 5 as a root, and lets 5 in.
    struct Story(Books);

    impl Story {
        fn new() -> Self {
            let mut story = Self(Books::default());
            story.happens(root_trusted(5));
            story.happens(TrustEvent::Granted { to: did(5), grant: grant() });
            story
        }

        fn happens(&mut self, change: TrustEvent) {
            self.0.apply(&Entry { at: NOW, event: Event::Trust { change } }).unwrap();
        }

        fn follow(&mut self, names: &[u8]) -> Result<usize, SuccessionError> {
            let changes = follow(&lineage(names), self.0.trust(), &BTreeMap::new(), did(1))?;
            let count = changes.len();
            changes.into_iter().for_each(|change| self.happens(change));
            Ok(count)
        }

        /// Who is trusted as a root, and who is let in.
        fn trusts(&self) -> (Vec<Did>, Vec<Did>) {
            let trust = self.0.trust();
            (trust.roots().keys().copied().collect(), trust.grants().keys().copied().collect())
        }
    }

    fn root_trusted(who: u8) -> TrustEvent {
        let root = Root { abilities: Role::Member.abilities(), depth: 2 };
        TrustEvent::RootTrusted { did: did(who), root }
    }

    fn grant() -> Grant {
        Grant { abilities: Role::Requester.abilities(), topics: None, depth: 0, until: None, via: None }
    }

    #[test]
    fn what_the_old_name_may_the_new_one_may_and_the_old_one_nothing() {
        let mut story = Story::new();
        assert_eq!(story.follow(&[5, 6]), Ok(5));
        assert_eq!(story.trusts(), (vec![did(6)], vec![did(6)]));
        assert_eq!(story.0.trust().present_name(did(5)), did(6));
        assert_eq!(story.follow(&[5, 6]), Ok(0), "once");
        // Its owner trusts it no more, and it says so again.
        story.happens(TrustEvent::RootDistrusted { did: did(6) });
        story.happens(TrustEvent::GrantEnded { to: did(6) });
        assert_eq!(story.follow(&[5, 6]), Ok(0));
        assert_eq!(story.trusts(), (vec![], vec![]));
    }

    #[test]
    fn a_chain_is_followed_whole_and_from_wherever_it_was_heard() {
        let mut story = Story::new();
        story.follow(&[5, 6, 7, 8]).unwrap();
        assert_eq!(story.trusts(), (vec![did(8)], vec![did(8)]));
        for known in [&[5, 6][..], &[5, 6, 7]] {
            let mut story = Story::new();
            story.follow(known).unwrap();
            story.follow(&[5, 6, 7, 8]).unwrap();
            assert_eq!(story.trusts(), (vec![did(8)], vec![did(8)]));
        }
        // What was before whom we know.
        let mut story = Story::new();
        story.follow(&[3, 4, 5, 6]).unwrap();
        assert_eq!(story.trusts(), (vec![did(6)], vec![did(6)]));
        assert_eq!(story.0.trust().successions().len(), 1, "nothing of those who were never trusted");
    }

    #[test]
    fn nobody_gains_more_than_the_old_name_had_and_nobody_loses() {
        let mut story = Story::new();
        let admin = Root { abilities: Role::Admin.abilities(), depth: 4 };
        story.happens(TrustEvent::RootTrusted { did: did(6), root: admin.clone() });
        story.follow(&[5, 6]).unwrap();
        assert_eq!(story.0.trust().roots()[&did(6)], admin);
        let former = &Former::all(story.0.trust())[&did(5)];
        assert_eq!(former.root.as_ref().map(|root| root.depth), Some(2), "what 5 signed counts as it did");
    }

    #[test]
    fn what_does_not_count_changes_nothing_and_says_why() {
        let mut story = Story::new();
        assert_eq!(story.follow(&[7, 8]), Err(SuccessionError::Nobody));
        assert_eq!(story.follow(&[5, 1]), Err(SuccessionError::Own));
        assert_eq!(story.follow(&[1, 5]), Err(SuccessionError::Own));
        assert_eq!(story.follow(&[7, 1, 5]), Err(SuccessionError::Own));
        assert_eq!(story.trusts(), (vec![did(5)], vec![did(5)]));
        story.follow(&[5, 6]).unwrap();
        assert_eq!(story.follow(&[5, 9]), Err(SuccessionError::Twice(did(5))));
        assert_eq!(story.follow(&[7, 5]), Err(SuccessionError::Nobody), "7 has nothing to hand on");
        assert_eq!(lineage(&[5, 6]).said_by(did(9)), Err(SuccessionError::Speaker(did(9))));
        assert_eq!(lineage(&[5, 6]).said_by(did(6)), Ok(()));
    }

    #[test]
    fn what_is_no_lineage_of_this_mesh_and_time_is_refused() {
        let verify = |word: &Successions| Lineage::verify(word, NETWORK, NOW).map(drop);
        assert_eq!(verify(&Successions::default()), Err(SuccessionError::Broken));
        for ring in [&[5, 5][..], &[5, 6, 5], &[5, 6, 7, 6]] {
            assert_eq!(verify(&word(ring)), Err(SuccessionError::Broken), "{ring:?}");
        }
        let gap = Successions::of(&[signed(5, 6, options()), signed(7, 8, options())]);
        assert_eq!(verify(&gap), Err(SuccessionError::Broken));
        let later = NOW.saturating_add(Duration::from_secs(120));
        let table = [
            SignOptions { network: "other".to_owned(), ..options() },
            SignOptions { audience: Some(did(1)), ..options() },
            SignOptions { issued_at: later, ..options() },
        ];
        for options in table {
            let word = Successions::of(&[signed(5, 6, options)]);
            assert_eq!(verify(&word), Err(SuccessionError::NotHere(did(5))));
        }
        let after = NOW.saturating_add(YEAR + Duration::from_secs(5));
        assert!(Lineage::verify(&word(&[5, 6]), NETWORK, after).is_err());
        let good = word(&[5, 6]);
        for place in 0..good.successions[0].len() {
            let mut bytes = good.successions[0].to_vec();
            bytes[place] ^= 1;
            let forged = Successions { successions: vec![ByteBuf::from(bytes)] };
            assert!(matches!(verify(&forged), Err(SuccessionError::Malformed(_))), "byte {place}");
        }
        let token = Sign::new(5, 6).role(Role::Member).sign();
        let other = Successions { successions: vec![ByteBuf::from(token.bytes())] };
        assert!(matches!(verify(&other), Err(SuccessionError::Malformed(_))), "of another kind");
    }

    #[test]
    fn nobody_fills_the_books_with_keys() {
        let mut story = Story::new();
        for number in 0..MAX_SUCCESSIONS as u8 {
            let pair = if number == 0 { [5, 100] } else { [99 + number, 100 + number] };
            assert!(story.follow(&pair).is_ok(), "{number}");
        }
        let last = 99 + MAX_SUCCESSIONS as u8;
        assert_eq!(story.follow(&[last, last + 1]), Err(SuccessionError::TooMany));
        assert_eq!(story.trusts().0, [did(last)]);
    }
}
