//! Who is trusted, and what has been shown: everything that is needed to say whether a peer may do something.
//!
//! A peer may do what the owner lets everybody do, what it may as a root, and what a chain of tokens proves whose root
//! is trusted for it. Chains are proven when they are shown and remembered; what is trusted is asked each time, so that
//! a root that is removed or a token that is revoked counts with the very next word.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dms_actors::signed::SKEW;
use dms_messages::ability::{Ability, PROVIDE, REQUEST, any_covers, covers};
use dms_messages::{ContentId, Credentials, Did, Signed, Timestamp, Token};
use dms_storage::books::{Root, TrustBooks};

use super::succession::Former;

use super::chain::{ChainError, Proven, prove};

/// Most holders whose chains are remembered: members that were heard of, far more than are connected.
const MAX_HOLDERS: usize = 4_096;
/// Most chains remembered of one holder.
const MAX_CHAINS: usize = 8;
/// Most tokens remembered as verified: a few kilobytes each at most, mostly three hundred bytes.
const MAX_VERIFIED: usize = 8_192;

/// What a peer lacks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it needs {ability}{}", on(.topic.as_deref()))]
pub struct Missing {
    /// The ability.
    pub ability: String,
    /// On which topic, if it was gossiped.
    pub topic: Option<String>,
}

fn on(topic: Option<&str>) -> String {
    topic.map(|topic| format!(" on {topic}")).unwrap_or_default()
}

/// Why a token that was shown counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShowError {
    /// It is no token, or its signature does not hold.
    #[error("not a token: {0}")]
    Malformed(String),
    /// It expired, or does not hold yet.
    #[error("token {0} does not hold now")]
    NotNow(ContentId),
    /// It does not follow from those before it.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// See the module. One owner: the [`super::Gate`].
#[derive(Debug, Clone)]
pub struct Authority {
    me: Did,
    network: String,
    /// True if everybody may ask and bid.
    is_open: bool,
    /// Trusted for as long as this process runs (`--trust`).
    given: BTreeMap<Did, Root>,
    /// The same by the names that they have now, where those are others.
    given_anew: BTreeMap<Did, Root>,
    /// Trusted in the books.
    roots: BTreeMap<Did, Root>,
    /// Who had which name before.
    former: BTreeMap<Did, Former>,
    /// Tokens that need not be shown, because they are kept here.
    kept: BTreeMap<ContentId, Signed<Token>>,
    /// Tokens that hold no longer, and who says so.
    revoked: BTreeSet<(ContentId, Did)>,
    verified: BTreeMap<ContentId, Signed<Token>>,
    held: BTreeMap<Did, Vec<Arc<Proven>>>,
}

impl Authority {
    /// The authority of a node that trusts itself, whom it was told to trust, and everybody if `is_open`.
    pub fn new(me: Did, network: &str, is_open: bool, given: BTreeMap<Did, Root>) -> Self {
        Self {
            me,
            network: network.to_owned(),
            is_open,
            given,
            given_anew: BTreeMap::new(),
            roots: BTreeMap::new(),
            former: BTreeMap::new(),
            kept: BTreeMap::new(),
            revoked: BTreeSet::new(),
            verified: BTreeMap::new(),
            held: BTreeMap::new(),
        }
    }

    /// Takes what the books say now.
    pub fn take_books(&mut self, books: &TrustBooks) {
        self.roots = books.roots().clone();
        self.former = Former::all(books);
        let anew = |(did, root): (&Did, &Root)| Some((self.former.get(did)?.now, root.clone()));
        self.given_anew = self.given.iter().filter_map(anew).collect();
        self.revoked = books.revocations().keys().copied().collect();
        self.kept = books.tokens().iter().map(|(id, row)| (*id, row.token.clone())).collect();
    }

    /// True if everybody may ask and bid.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Who was trusted at the start of the process.
    pub fn given(&self) -> &BTreeMap<Did, Root> {
        &self.given
    }

    /// True if a token was revoked by whoever may.
    pub fn is_token_revoked(&self, token: &Signed<Token>) -> bool {
        let find = |id: &ContentId| self.kept.get(id).or_else(|| self.verified.get(id));
        match prove(token, &self.network, find) {
            Ok(chain) => self.is_revoked(&chain),
            Err(_) => self.revoked.contains(&(token.content_id(), token.issuer())),
        }
    }

    /// Everybody who is trusted by name.
    pub fn named(&self) -> BTreeSet<Did> {
        self.given.keys().chain(self.given_anew.keys()).chain(self.roots.keys()).copied().collect()
    }

    /// True if somebody is trusted by name, or has shown a chain that holds now and is trusted for anything.
    pub fn is_known(&self, who: Did, now: Timestamp) -> bool {
        self.is_open || self.is_trusted(who, now)
    }

    /// The same, and not only because everybody may.
    pub fn is_trusted(&self, who: Did, now: Timestamp) -> bool {
        let chains = || self.held.get(&who).into_iter().flatten();
        who == self.me
            || self.root(who).next().is_some()
            || chains().any(|chain| self.trusts_chain(chain, now))
    }

    /// Takes what somebody has shown, by itself or with what it gossips. A token that was verified before is not
    /// again; one that does not hold is left out, and said.
    pub fn show(&mut self, holder: Did, credentials: &Credentials, now: Timestamp) -> Vec<ShowError> {
        let mut errors = Vec::new();
        let mut leaves = Vec::new();
        for bytes in credentials.iter() {
            match self.verify(bytes, now) {
                Ok(token) if token.header().audience == Some(holder) => leaves.push(token),
                Ok(_) => {}
                Err(error) => errors.push(error),
            }
        }
        for leaf in leaves {
            match prove(&leaf, &self.network, |id| self.verified.get(id).or_else(|| self.kept.get(id))) {
                Ok(proven) => self.remember(proven, now),
                Err(error) => errors.push(error.into()),
            }
        }
        errors
    }

    /// A token of these bytes, verified now or before.
    fn verify(&mut self, bytes: &[u8], now: Timestamp) -> Result<Signed<Token>, ShowError> {
        let id = ContentId::of_document(bytes);
        let token = match self.verified.get(&id) {
            Some(token) => token.clone(),
            None => {
                let token = Signed::<Token>::verify_offline(bytes)
                    .map_err(|error| ShowError::Malformed(error.to_string()))?;
                if self.verified.len() >= MAX_VERIFIED {
                    self.forget_verified(now);
                }
                self.verified.insert(id, token.clone());
                token
            }
        };
        let header = token.header();
        if header.issued_at > now.saturating_add(SKEW) || header.expires_at.saturating_add(SKEW) <= now {
            return Err(ShowError::NotNow(id));
        }
        Ok(token)
    }

    /// Makes room: what expired goes; if nothing did, everything does and is verified once more.
    fn forget_verified(&mut self, now: Timestamp) {
        self.verified.retain(|_, token| token.header().expires_at.saturating_add(SKEW) > now);
        if self.verified.len() >= MAX_VERIFIED {
            self.verified.clear();
        }
    }

    /// Remembers a chain: the newest few of each holder, and of so many holders those who are trusted.
    fn remember(&mut self, proven: Proven, now: Timestamp) {
        let holder = proven.holder;
        let is_trusted = self.trusts_chain(&proven, now);
        if !self.held.contains_key(&holder) && self.held.len() >= MAX_HOLDERS {
            self.prune(now);
            if self.held.len() >= MAX_HOLDERS && !is_trusted {
                return;
            }
            if self.held.len() >= MAX_HOLDERS {
                // Strangers first: whoever is nobody's member here.
                let stranger = self
                    .held
                    .iter()
                    .find(|(_, chains)| !chains.iter().any(|chain| self.trusts_chain(chain, now)));
                let out = stranger.or_else(|| self.held.iter().next()).map(|(did, _)| *did);
                out.map(|did| self.held.remove(&did));
            }
        }
        let chains = self.held.entry(holder).or_default();
        chains.retain(|known| known.tokens != proven.tokens && known.expires.saturating_add(SKEW) > now);
        if chains.len() >= MAX_CHAINS {
            // What ends first goes first.
            let first = chains.iter().enumerate().min_by_key(|(_, chain)| chain.expires);
            first.map(|(index, _)| index).map(|index| chains.remove(index));
        }
        chains.push(Arc::new(proven));
    }

    /// Forgets chains that have ended.
    pub fn prune(&mut self, now: Timestamp) {
        self.held.retain(|_, chains| {
            chains.retain(|chain| chain.expires.saturating_add(SKEW) > now);
            !chains.is_empty()
        });
    }

    /// Whether somebody may do this now; a topic of none is what is said directly.
    ///
    /// # Errors
    /// [`Missing`], with what it lacks.
    pub fn may(&self, who: Did, ability: &str, topic: Option<&str>, now: Timestamp) -> Result<(), Missing> {
        let is_common = || self.is_open && [REQUEST, PROVIDE].iter().any(|common| covers(common, ability));
        let is_named = || self.root(who).any(|root| any_covers(&root.abilities, ability));
        let is_proven = || {
            let chains = self.held.get(&who).into_iter().flatten();
            chains.filter(|chain| chain.token.allows(ability, topic)).any(|chain| {
                self.holds_now(chain, now)
                    && self.trusts_root(chain, |abilities| any_covers(abilities, ability))
            })
        };
        if who == self.me || is_common() || is_named() || is_proven() {
            return Ok(());
        }
        Err(Missing { ability: ability.to_owned(), topic: topic.map(str::to_owned) })
    }

    /// As what somebody is trusted by name.
    fn root(&self, did: Did) -> impl Iterator<Item = &Root> {
        [&self.given, &self.given_anew, &self.roots].into_iter().filter_map(move |roots| roots.get(&did))
    }

    fn holds_now(&self, chain: &Proven, now: Timestamp) -> bool {
        chain.starts <= now.saturating_add(SKEW)
            && chain.expires.saturating_add(SKEW) > now
            && !self.is_revoked(chain)
    }

    /// True if one of its tokens was revoked by whoever has signed it, or one that it follows from.
    fn is_revoked(&self, chain: &Proven) -> bool {
        if self.revoked.is_empty() {
            return false;
        }
        let mut above = Vec::with_capacity(chain.tokens.len());
        chain.tokens.iter().any(|(token, issuer)| {
            above.push(*issuer);
            above.iter().any(|issuer| {
                let by = |issuer: Did| self.revoked.contains(&(*token, issuer));
                by(*issuer) || self.former.get(issuer).is_some_and(|former| by(former.now))
            })
        })
    }

    /// Whether the word of a chain's root counts for so many tokens, and for what `is_for` asks of it.
    fn trusts_root(&self, chain: &Proven, is_for: impl Fn(&BTreeSet<Ability>) -> bool) -> bool {
        let length = chain.tokens.len();
        let counts = |root: &Root| usize::from(root.depth) >= length && is_for(&root.abilities);
        // What was signed by a key before it was followed by another holds as far as it did.
        let counts_still = |former: &Former| {
            let is_before = chain.rooted <= former.until.saturating_add(SKEW);
            let is_trusted =
                self.root(former.now).next().is_some() && former.root.as_ref().is_some_and(counts);
            is_before && (former.now == self.me || is_trusted)
        };
        chain.root == self.me
            || self.root(chain.root).any(counts)
            || self.former.get(&chain.root).is_some_and(counts_still)
    }

    fn trusts_chain(&self, chain: &Proven, now: Timestamp) -> bool {
        let of_token = &chain.token.abilities;
        let is_for = |abilities: &BTreeSet<Ability>| {
            of_token.iter().any(|ability| any_covers(abilities, ability.as_str()))
                || abilities.iter().any(|ability| any_covers(of_token, ability.as_str()))
        };
        self.holds_now(chain, now) && self.trusts_root(chain, is_for)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use dms_messages::ability::{PROVIDE_BID, REQUEST_BIDS, REQUEST_INVOKE};
    use dms_messages::{Keypair, Revocation, Role};
    use dms_storage::books::TrustEvent;
    use dms_storage::{Books, Entry, Event};

    use super::*;
    use crate::testing::tokens::{NETWORK, NOW, Sign, key};

    /// The authority of node 1.
    struct Story {
        books: Books,
        authority: Authority,
    }

    impl Story {
        fn new() -> Self {
            let authority = Authority::new(did(1), NETWORK, false, BTreeMap::new());
            Self { books: Books::default(), authority }
        }

        fn happens(&mut self, change: TrustEvent) -> &mut Self {
            self.books.apply(&Entry { at: NOW, event: Event::Trust { change } }).unwrap();
            self.authority.take_books(self.books.trust());
            self
        }

        fn trusts(&mut self, who: u8, role: Role, depth: u8) -> &mut Self {
            let root = Root { abilities: role.abilities(), depth };
            self.happens(TrustEvent::RootTrusted { did: did(who), root })
        }

        fn revoked(&mut self, token: &Signed<Token>, by: u8) -> &mut Self {
            let options = dms_actors::signed::SignOptions {
                network: NETWORK.to_owned(),
                audience: None,
                issued_at: NOW,
                ttl: Duration::from_secs(3600),
                id: dms_messages::DocumentId([by; 16]),
            };
            let value = Revocation { token: token.content_id() };
            let revocation = Signed::sign(value, &key(by), options).unwrap();
            self.happens(TrustEvent::TokenRevoked { revocation })
        }

        fn show(&mut self, who: u8, tokens: &[&Signed<Token>]) -> Vec<ShowError> {
            self.authority.show(did(who), &Credentials::of(tokens.iter().copied()), NOW)
        }

        fn may(&self, who: u8, ability: &'static str) -> bool {
            self.authority.may(did(who), ability, None, NOW).is_ok()
        }
    }

    fn did(seed: u8) -> Did {
        key(seed).did()
    }

    fn later(hours: u64) -> Timestamp {
        NOW.saturating_add(Duration::from_secs(hours * 3600))
    }

    #[test]
    fn a_fresh_node_lets_its_owner_do_all_and_strangers_nothing() {
        let story = Story::new();
        for ability in [REQUEST_BIDS, REQUEST_INVOKE, PROVIDE_BID, "/dms/admin"] {
            assert!(story.may(1, ability));
            let missing = story.authority.may(did(2), ability, None, NOW).unwrap_err();
            assert_eq!(missing.to_string(), format!("it needs {ability}"));
        }
        let open = Authority::new(did(1), NETWORK, true, BTreeMap::new());
        assert!(open.may(did(2), REQUEST_INVOKE, None, NOW).is_ok());
        assert!(open.may(did(2), PROVIDE_BID, None, NOW).is_ok());
        assert!(open.may(did(2), "/dms/admin", None, NOW).is_err(), "open is for asking and bidding");
        assert!(open.may(did(2), "/dms/requests", None, NOW).is_err());
    }

    #[test]
    fn the_same_root_passes_and_another_does_not() {
        let mut story = Story::new();
        let token = Sign::new(5, 2).role(Role::Member).sign();
        assert_eq!(story.show(2, &[&token]), []);
        assert!(!story.may(2, REQUEST_BIDS), "nobody trusts 5");
        story.trusts(5, Role::Member, 0);
        assert!(story.may(5, REQUEST_BIDS));
        assert!(!story.may(2, REQUEST_BIDS), "5 speaks for itself alone");
        story.trusts(5, Role::Member, 1);
        assert!(story.may(2, REQUEST_BIDS) && story.may(2, PROVIDE_BID));
        assert!(!story.may(3, REQUEST_BIDS));
        story.happens(TrustEvent::RootDistrusted { did: did(5) });
        assert!(!story.may(2, REQUEST_BIDS), "with the next word");
    }

    #[test]
    fn a_root_gives_no_more_than_it_has() {
        let mut story = Story::new();
        let token = Sign::new(5, 2).abilities(&["/"]).sign();
        story.trusts(5, Role::Provider, 1).show(2, &[&token]);
        assert!(story.may(2, PROVIDE_BID));
        assert!(!story.may(2, REQUEST_BIDS) && !story.may(2, "/dms/admin"));
    }

    #[test]
    fn delegation_goes_as_deep_as_the_root_allows() {
        let bob_alice = Sign::new(5, 6).abilities(&["/dms"]).depth(3).sign();
        let alice_joe = Sign::new(6, 2).role(Role::Member).after(&bob_alice).sign();
        let mut story = Story::new();
        story.trusts(5, Role::Member, 1).show(2, &[&bob_alice, &alice_joe]);
        assert!(!story.may(2, REQUEST_BIDS), "a chain of two where one may follow");
        story.trusts(5, Role::Member, 2);
        assert!(story.may(2, REQUEST_BIDS));
        assert!(!story.may(6, REQUEST_BIDS), "she has shown nothing");
        story.show(6, &[&bob_alice]);
        assert!(story.may(6, REQUEST_BIDS));
    }

    #[test]
    fn a_token_of_this_node_needs_no_root_and_lets_in_whom_its_holder_lets_in() {
        let mut story = Story::new();
        let admin = Sign::new(1, 6).role(Role::Admin).sign();
        let member = Sign::new(6, 2).role(Role::Member).after(&admin).sign();
        story.show(2, &[&member, &admin]);
        assert!(story.may(2, REQUEST_BIDS));
        // What is kept here need not be shown.
        let mut story = Story::new();
        story.happens(TrustEvent::TokenKept { token: admin.clone(), is_issued: true });
        assert_eq!(story.show(2, &[&member]), []);
        assert!(story.may(2, REQUEST_BIDS));
    }

    #[test]
    fn what_is_shown_for_another_is_no_use() {
        let mut story = Story::new();
        story.trusts(5, Role::Member, 1);
        let token = Sign::new(5, 2).role(Role::Member).sign();
        assert_eq!(story.show(3, &[&token]), [], "it may be on the way to somebody else's chain");
        assert!(!story.may(3, REQUEST_BIDS) && !story.may(2, REQUEST_BIDS));
    }

    #[test]
    fn a_token_holds_in_its_time_give_or_take_the_skew() {
        let mut story = Story::new();
        story.trusts(5, Role::Member, 1);
        let token = Sign { hours: 1, ..Sign::new(5, 2).role(Role::Member) }.sign();
        assert_eq!(story.show(2, &[&token]), []);
        let at = |story: &Story, at: Timestamp| story.authority.may(did(2), REQUEST_BIDS, None, at).is_ok();
        let just = |hours: u64, seconds: u64| later(hours).saturating_add(Duration::from_secs(seconds));
        assert!(at(&story, just(1, 29)));
        assert!(at(&story, Timestamp(just(1, 30).0 - 1)), "the last instant");
        assert!(!at(&story, just(1, 30)) && !at(&story, just(1, 31)));
        // One that has ended, or is to begin, is not even remembered.
        let credentials = Credentials::of([&token]);
        let mut fresh = Story::new();
        fresh.trusts(5, Role::Member, 1);
        for (at, holds) in [(just(1, 31), false), (just(1, 30), false), (just(1, 29), true)] {
            let errors = fresh.authority.show(did(2), &credentials, at);
            assert_eq!(errors.is_empty(), holds, "{errors:?}");
        }
        let future = Sign { at: just(0, 31), ..Sign::new(5, 2).role(Role::Member) }.sign();
        assert_eq!(story.show(2, &[&future]), [ShowError::NotNow(future.content_id())]);
        let soon = Sign { at: just(0, 30), ..Sign::new(5, 2).role(Role::Member) }.sign();
        assert_eq!(story.show(2, &[&soon]), [], "by a clock that is just so far ahead");
    }

    #[test]
    fn a_revoked_token_takes_those_that_follow_from_it_along_if_whoever_revokes_may() {
        let first = Sign::new(5, 6).abilities(&["/dms"]).depth(3).sign();
        let second = Sign::new(6, 2).role(Role::Member).after(&first).sign();
        let story = || {
            let mut story = Story::new();
            story.trusts(5, Role::Member, 4).show(2, &[&first, &second]);
            assert!(story.may(2, REQUEST_BIDS));
            story
        };
        for (token, by, holds) in [
            (&first, 5, false),
            (&second, 6, false),
            (&second, 5, false),
            (&first, 6, true),
            (&first, 2, true),
            (&second, 2, true),
            (&second, 9, true),
        ] {
            assert_eq!(story().revoked(token, by).may(2, REQUEST_BIDS), holds, "by {by}");
        }
        // Revoked first, shown later.
        let mut early = Story::new();
        early.trusts(5, Role::Member, 4).revoked(&first, 5).show(2, &[&first, &second]);
        assert!(!early.may(2, REQUEST_BIDS));
    }

    #[test]
    fn a_tampered_token_is_left_out_and_the_others_count() {
        let mut story = Story::new();
        story.trusts(5, Role::Member, 1);
        let good = Sign::new(5, 2).role(Role::Member).sign();
        for place in 0..good.bytes().len() {
            let mut bytes = good.bytes().to_vec();
            bytes[place] ^= 1;
            let shown = [serde_bytes::ByteBuf::from(bytes)].to_vec();
            let errors = story.authority.show(did(2), &Credentials::try_from(shown).unwrap(), NOW);
            assert!(!errors.is_empty() || !story.may(2, REQUEST_BIDS), "{place}");
            assert!(!story.may(2, REQUEST_BIDS), "{place}");
        }
        assert_eq!(story.show(2, &[&good]), []);
        assert!(story.may(2, REQUEST_BIDS));
    }

    /// 5 is followed by 6.
    fn followed(story: &mut Story, root: Option<Root>) {
        let options = dms_actors::signed::SignOptions {
            network: NETWORK.to_owned(),
            audience: None,
            issued_at: NOW,
            ttl: Duration::from_secs(3600),
            id: dms_messages::DocumentId([5; 16]),
        };
        let value = dms_messages::Succession { new: did(6) };
        let succession = Signed::sign(value, &key(5), options).unwrap();
        story.happens(TrustEvent::Succeeded { succession, root });
    }

    #[test]
    fn what_a_key_signed_before_it_was_followed_holds_as_far_as_it_did() {
        let mut story = Story::new();
        story.trusts(5, Role::Requester, 1);
        let before = Sign::new(5, 2).role(Role::Member).sign();
        let after = Sign { at: later(1), ..Sign::new(5, 3).role(Role::Member) }.sign();
        let anew = Sign::new(6, 4).role(Role::Member).sign();
        followed(&mut story, Some(Root { abilities: Role::Requester.abilities(), depth: 1 }));
        story.happens(TrustEvent::RootDistrusted { did: did(5) });
        // The new name is an admin, and what the old one signed gains nothing by that.
        story.trusts(6, Role::Admin, 3);
        story.show(2, &[&before]);
        story.show(4, &[&anew]);
        assert!(story.may(2, REQUEST_BIDS) && !story.may(2, PROVIDE_BID));
        assert!(story.may(4, REQUEST_BIDS) && story.may(4, PROVIDE_BID));
        assert!(!story.may(5, REQUEST_BIDS), "the old name itself may nothing");
        story.authority.show(did(3), &Credentials::of([&after]), later(1));
        assert!(story.authority.may(did(3), REQUEST_BIDS, None, later(1)).is_err(), "signed after it");
        // The new key takes back what the old one gave.
        story.revoked(&before, 6);
        assert!(!story.may(2, REQUEST_BIDS));
        let other = Sign { at: NOW, hours: 23, ..Sign::new(5, 7).role(Role::Member) }.sign();
        story.show(7, &[&other]);
        assert!(story.may(7, REQUEST_BIDS));
        story.happens(TrustEvent::RootDistrusted { did: did(6) });
        assert!(!story.may(7, REQUEST_BIDS), "nobody trusts it by any name");
    }

    #[test]
    fn what_this_node_signed_by_a_former_key_is_its_own_and_can_be_taken_back() {
        let mut story = Story::new();
        story.authority.me = did(6);
        followed(&mut story, None);
        let token = Sign::new(5, 2).role(Role::Member).sign();
        story.show(2, &[&token]);
        assert!(story.may(2, REQUEST_BIDS));
        story.revoked(&token, 6);
        assert!(!story.may(2, REQUEST_BIDS));
    }

    #[test]
    fn who_is_trusted_for_as_long_as_the_process_runs_is_by_the_new_name_too() {
        let mut story = Story::new();
        let root = Root { abilities: Role::Member.abilities(), depth: 0 };
        story.authority = Authority::new(did(1), NETWORK, false, [(did(5), root)].into());
        assert!(story.may(5, REQUEST_BIDS) && !story.may(6, REQUEST_BIDS));
        followed(&mut story, None);
        assert!(story.may(6, REQUEST_BIDS));
        assert!(story.authority.named().contains(&did(6)));
    }

    #[test]
    fn a_topic_binds_what_is_gossiped() {
        let mut story = Story::new();
        story.trusts(5, Role::Member, 1);
        let token = Sign::new(5, 2).role(Role::Requester).topics(&["bid-request"]).sign();
        story.show(2, &[&token]);
        let may = |topic: Option<&str>| story.authority.may(did(2), REQUEST_BIDS, topic, NOW);
        assert!(may(Some("bid-request")).is_ok());
        let missing = may(Some("advert")).unwrap_err();
        assert_eq!(missing.to_string(), "it needs /dms/request/bids on advert");
        assert!(may(None).is_err());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_members_stay() {
        let mut story = Story::new();
        story.trusts(5, Role::Member, 1);
        let member = Sign::new(5, 2).role(Role::Member).sign();
        story.show(2, &[&member]);
        // Strangers vouch for each other.
        for number in 0..MAX_HOLDERS as u32 + 100 {
            let mut secret = [7; 32];
            secret[..4].copy_from_slice(&number.to_be_bytes());
            let stranger = Keypair::from_secret(&secret);
            let proven = Proven {
                holder: stranger.did(),
                root: did(9),
                rooted: NOW,
                token: member.value().clone(),
                starts: NOW,
                expires: later(24),
                tokens: vec![(ContentId::of_bytes(&secret), did(9))],
            };
            story.authority.remember(proven, NOW);
        }
        assert_eq!(story.authority.held.len(), MAX_HOLDERS);
        assert!(story.may(2, REQUEST_BIDS));
        // Another member finds room all the same.
        let other = Sign::new(5, 3).role(Role::Member).sign();
        story.show(3, &[&other]);
        assert!(story.may(3, REQUEST_BIDS) && story.may(2, REQUEST_BIDS));
        for hours in 1..=20 {
            story.show(3, &[&Sign { hours, ..Sign::new(5, 3).role(Role::Member) }.sign()]);
        }
        assert_eq!(story.authority.held[&did(3)].len(), MAX_CHAINS);
        story.authority.prune(later(25));
        assert!(story.authority.held.is_empty());
    }
}
