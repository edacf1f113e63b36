//! What tokens a node signs, and when they are due to be signed anew.

use std::collections::BTreeSet;
use std::time::Duration;

use dms_actors::signed::MAX_LIFETIME;
use dms_messages::{Did, Invite, NotAdmittedReason, Role, Signed, Timestamp, Token};
use dms_storage::books::{Grant, InviteRow, Root, TokenRow, TrustBooks};

use super::commands::GrantToken;
use crate::signer::Signer;

/// How long a token holds. Renewed at half of it, so that a mesh outlives its inviter's absence for half a week.
pub const TOKEN_TTL: Duration = Duration::from_secs(7 * 24 * 3600);
/// Shortest token that is signed: clocks differ by half a minute.
const MIN_TTL: Duration = Duration::from_secs(60);
/// How many tokens may follow on an inviter's word: whoever it lets in, and whom its admins let in.
const INVITER_DEPTH: u8 = 4;

/// What an invite grants: on the word of whoever lets this node let others in, if somebody does for all of that role.
pub fn grant_of(role: Role, books: &TrustBooks, me: Did, now: Timestamp) -> Grant {
    let mut grant =
        Grant { abilities: role.abilities(), topics: None, depth: role.depth(), until: None, via: None };
    let held = books.tokens().values().filter(|row| !row.is_issued).map(|row| &row.token);
    let issuers: BTreeSet<Did> = held.map(Signed::issuer).collect();
    for issuer in issuers {
        let via = Grant { via: Some(issuer), ..grant.clone() };
        if let Some(parent) = parent_of(&via, books, me, now) {
            let depth = grant.depth.min(parent.value().depth - 1);
            grant = Grant { depth, ..via };
            break;
        }
    }
    grant
}

/// The held token that the tokens of a grant follow from now: of those that allow it all the one that ends last. None
/// where this node speaks for itself, or nothing held allows it (any more).
pub fn parent_of<'b>(
    grant: &Grant,
    books: &'b TrustBooks,
    me: Did,
    now: Timestamp,
) -> Option<&'b Signed<Token>> {
    let via = grant.via?;
    let held = books.tokens().values().filter(|row| !row.is_issued).map(|row| &row.token);
    let wanted = Token {
        abilities: grant.abilities.clone(),
        topics: grant.topics.clone(),
        // Whatever its depth: it is cut to what is left.
        depth: 1,
        parent: None,
    };
    let via = books.present_name(via);
    let allows = |token: &&Signed<Token>| {
        books.present_name(token.issuer()) == via
            && token.header().audience == Some(me)
            && token.header().expires_at > now
            && token.value().allows_all_of(&wanted)
    };
    // Of somebody who has a new key what that one has signed first.
    held.filter(allows).max_by_key(|token| (token.issuer() == via, token.header().expires_at))
}

/// As what a node that was invited trusts its inviter: for what the two will do together.
pub fn inviter_root(invite: &Invite) -> Root {
    let abilities = match invite.role {
        // It runs its jobs at the inviter's, and the others'.
        Role::Requester => Role::Provider.abilities(),
        Role::Provider => Role::Requester.abilities(),
        Role::Member | Role::Admin => Role::Member.abilities(),
    };
    Root { abilities, depth: INVITER_DEPTH }
}

/// Whether an invite admits `who` now.
///
/// # Errors
/// Why not.
pub fn admits(row: Option<&InviteRow>, who: Did, now: Timestamp) -> Result<&InviteRow, NotAdmittedReason> {
    let row = row.ok_or(NotAdmittedReason::Unknown)?;
    if row.admitted.contains(&who) {
        return Ok(row);
    }
    if row.expires <= now {
        return Err(NotAdmittedReason::Expired);
    }
    if row.admitted.len() >= usize::from(row.uses) {
        return Err(NotAdmittedReason::Used);
    }
    Ok(row)
}

/// Whether this node can use an invite.
///
/// # Errors
/// Why not, for people.
pub fn may_join(invite: &Invite, me: Did, network: &str, now: Timestamp) -> Result<(), String> {
    if invite.inviter == me {
        return Err("the invite was made by this node; it is for another machine".to_owned());
    }
    if invite.network != network {
        return Err(format!(
            "the invite is to the mesh `{}`, and this node is in `{network}`: a node is in one mesh",
            invite.network
        ));
    }
    if invite.expires <= now {
        return Err("the invite has expired; ask for a new one".to_owned());
    }
    Ok(())
}

/// A token that is to be signed, and for how long it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// The token.
    pub token: Token,
    /// How long.
    pub ttl: Duration,
}

/// The token that a grant is worth now, as it follows from `parent`; none if it has ended, or what it is to follow from
/// is not there.
pub fn draft(grant: &Grant, parent: Option<&Signed<Token>>, ttl: Duration, now: Timestamp) -> Option<Draft> {
    if grant.via.is_some() != parent.is_some() {
        return None;
    }
    let until = grant.until.map(|until| until.saturating_since(now));
    // Signing rounds an expiry up to whole seconds, and no token outlives the one before it.
    let of_parent = parent.map(|parent| parent.header().expires_at.saturating_since(now));
    let of_parent = of_parent.map(|left| left.saturating_sub(Duration::from_secs(2)));
    let ttl = [until, of_parent].into_iter().flatten().fold(ttl.min(MAX_LIFETIME), Duration::min);
    let token = Token {
        abilities: grant.abilities.clone(),
        topics: grant.topics.clone(),
        depth: parent.map_or(grant.depth, |parent| grant.depth.min(parent.value().depth.saturating_sub(1))),
        parent: parent.map(Signed::content_id),
    };
    (ttl >= MIN_TTL).then_some(Draft { token, ttl })
}

/// A token that somebody signs by hand, for itself and once: it follows from none, and nobody renews it.
///
/// # Errors
/// What is wrong with it, for people.
pub fn sign_once(signer: &Signer, grant: &GrantToken) -> Result<Signed<Token>, String> {
    if grant.to == signer.me() {
        return Err("nobody needs a token from themselves".to_owned());
    }
    let ttl = grant.ttl.map_or(MAX_LIFETIME, |ttl| ttl.duration());
    if ttl < MIN_TTL || ttl > MAX_LIFETIME {
        return Err("a token holds between a minute and 400 days".to_owned());
    }
    let GrantToken { abilities, topics, depth, .. } = grant.clone();
    let token = Token { abilities, topics, depth, parent: None };
    signer.sign(token, Some(grant.to), ttl).map_err(|error| error.to_string())
}

/// The token that was signed for `to` under this grant and holds for half of its life yet: it is given again.
pub fn still_fresh<'b>(
    books: &'b TrustBooks,
    me: Did,
    to: Did,
    grant: &Grant,
    parent: Option<&Signed<Token>>,
    now: Timestamp,
) -> Option<&'b Signed<Token>> {
    let parent = parent.map(Signed::content_id);
    let is_same = |token: &Token| {
        (&token.abilities, &token.topics, token.parent) == (&grant.abilities, &grant.topics, parent)
            && token.depth <= grant.depth
    };
    let of_it = books.tokens().values().filter(|row| row.is_issued).map(|row| &row.token);
    let of_it = of_it.filter(|token| {
        token.header().audience == Some(to)
            // What a former key has signed is signed anew.
            && token.issuer() == me
            && is_same(token.value())
            && !is_due(token, now)
            && !books.revocations().contains_key(&(token.content_id(), token.issuer()))
    });
    of_it.max_by_key(|token| token.header().expires_at)
}

/// True once half of a token's life is over.
pub fn is_due(token: &Signed<Token>, now: Timestamp) -> bool {
    let header = token.header();
    let life = header.expires_at.saturating_since(header.issued_at);
    header.issued_at.saturating_add(life / 2) <= now
}

/// Whom this node asks for fresh tokens now: the issuers of those of its own that are due and have no younger one
/// beside them. A token to or by a key that was followed by another is due.
pub fn due_issuers(books: &TrustBooks, me: Did, now: Timestamp) -> Vec<Did> {
    let is_mine = |row: &&TokenRow| {
        let audience = row.token.header().audience;
        !row.is_issued && audience.is_some_and(|did| books.present_name(did) == me)
    };
    let mine: Vec<&Signed<Token>> = books.tokens().values().filter(is_mine).map(|row| &row.token).collect();
    let is_fresh = |token: &&Signed<Token>, issuer: Did| {
        token.issuer() == issuer && token.header().audience == Some(me) && !is_due(token, now)
    };
    let mut issuers: Vec<Did> = mine
        .iter()
        .map(|token| books.present_name(token.issuer()))
        .filter(|issuer| *issuer != me && !mine.iter().any(|token| is_fresh(token, *issuer)))
        .collect();
    issuers.sort_unstable();
    issuers.dedup();
    issuers
}

#[cfg(test)]
mod tests {
    use dms_messages::InviteSecret;
    use dms_messages::ability::REQUEST;
    use dms_storage::books::TrustEvent;
    use dms_storage::{Books, Entry, Event};

    use super::*;
    use crate::testing::did;
    use crate::testing::tokens::{NETWORK, NOW, Sign};

    fn books(changes: impl IntoIterator<Item = TrustEvent>) -> Books {
        let mut books = Books::default();
        for change in changes {
            books.apply(&Entry { at: NOW, event: Event::Trust { change } }).unwrap();
        }
        books
    }

    fn kept(token: &Signed<Token>, is_issued: bool) -> TrustEvent {
        TrustEvent::TokenKept { token: token.clone(), is_issued }
    }

    fn later(hours: u64) -> Timestamp {
        NOW.saturating_add(Duration::from_secs(hours * 3600))
    }

    fn member() -> Grant {
        Grant { abilities: Role::Member.abilities(), topics: None, depth: 0, until: None, via: None }
    }

    #[test]
    fn an_invite_admits_so_many_in_its_time_and_each_again() {
        let row = InviteRow { role: Role::Member, uses: 2, expires: later(1), admitted: [did(2)].into() };
        let admits = |row: Option<&InviteRow>, who: u8, at| admits(row, did(who), at).map(|_| ());
        assert_eq!(admits(None, 3, NOW), Err(NotAdmittedReason::Unknown));
        assert_eq!(admits(Some(&row), 3, NOW), Ok(()));
        assert_eq!(admits(Some(&row), 3, later(1)), Err(NotAdmittedReason::Expired));
        assert_eq!(admits(Some(&row), 2, later(9)), Ok(()), "it was let in already");
        let full = InviteRow { admitted: [did(2), did(4)].into(), ..row };
        assert_eq!(admits(Some(&full), 3, NOW), Err(NotAdmittedReason::Used));
    }

    #[test]
    fn a_token_lasts_no_longer_than_its_grant_and_than_what_it_follows_from() {
        let day = Duration::from_secs(24 * 3600);
        let ttl = |grant: &Grant, parent: Option<&Signed<Token>>| {
            draft(grant, parent, 7 * day, NOW).map(|draft| draft.ttl)
        };
        assert_eq!(ttl(&member(), None), Some(7 * day));
        let hour = Duration::from_secs(3600);
        assert_eq!(ttl(&Grant { until: Some(later(1)), ..member() }, None), Some(hour));
        assert_eq!(ttl(&Grant { until: Some(NOW), ..member() }, None), None, "it has ended");
        let parent = Sign { hours: 2, ..Sign::new(5, 1).role(Role::Admin) }.sign();
        let via = Grant { via: Some(did(5)), ..member() };
        let under = draft(&via, Some(&parent), 7 * day, NOW).unwrap();
        assert!(under.ttl < 2 * hour && under.ttl > hour);
        assert_eq!(under.token.parent, Some(parent.content_id()));
        assert_eq!(ttl(&via, None), None, "nothing to follow from");
        let deep = Grant { depth: 7, ..via };
        assert_eq!(draft(&deep, Some(&parent), day, NOW).unwrap().token.depth, parent.value().depth - 1);
    }

    #[test]
    fn the_same_token_is_given_until_half_of_it_is_over() {
        let token = Sign::new(1, 2).role(Role::Member).sign();
        let issued = books([kept(&token, true)]);
        let fresh = |books: &Books, to: u8, grant: &Grant, at| {
            still_fresh(books.trust(), did(1), did(to), grant, None, at).map(Signed::content_id)
        };
        let id = Some(token.content_id());
        assert_eq!(fresh(&issued, 2, &member(), later(11)), id);
        assert_eq!(fresh(&issued, 2, &member(), later(12)), None);
        assert_eq!(fresh(&issued, 3, &member(), NOW), None, "it is another's");
        let narrower = Grant { abilities: Role::Requester.abilities(), ..member() };
        assert_eq!(fresh(&issued, 2, &narrower, NOW), None, "the grant has changed");
        assert_eq!(fresh(&books([kept(&token, false)]), 2, &member(), NOW), None, "not of this node");
    }

    #[test]
    fn a_token_that_is_signed_by_hand_holds_where_its_signer_is_trusted_and_for_as_long_as_was_said() {
        use crate::testing::StillClock;
        use crate::trust::chain::prove;
        let clock: dms_actors::clock::SharedClock = std::sync::Arc::new(StillClock::default());
        let person = Signer::new(std::sync::Arc::new(crate::testing::tokens::key(5)), clock, NETWORK);
        let grant = |ttl| GrantToken {
            to: did(2),
            abilities: Role::Member.abilities(),
            topics: None,
            depth: 1,
            parent: None,
            ttl: Some(dms_messages::Millis(ttl)),
        };
        let token = sign_once(&person, &grant(3_600_000)).unwrap();
        assert_eq!((token.issuer(), token.header().audience), (did(5), Some(did(2))));
        let chain = prove(&token, NETWORK, |_| None).unwrap();
        assert_eq!((chain.root, chain.holder), (did(5), did(2)));
        for ttl in [0, 59_999, 401 * 24 * 3_600_000, u64::MAX] {
            assert!(sign_once(&person, &grant(ttl)).unwrap_err().contains("between a minute"), "{ttl}");
        }
        let own = GrantToken { to: did(5), ..grant(3_600_000) };
        assert!(sign_once(&person, &own).unwrap_err().contains("from themselves"));
        let nothing = GrantToken { abilities: BTreeSet::new(), ..grant(3_600_000) };
        assert!(sign_once(&person, &nothing).unwrap_err().contains("abilities"));
    }

    #[test]
    fn who_is_asked_for_fresh_tokens_is_whoever_has_signed_those_that_are_half_over() {
        let old = Sign::new(5, 1).role(Role::Member).sign();
        let other = Sign { hours: 48, ..Sign::new(6, 1).role(Role::Member) }.sign();
        let anothers = Sign::new(7, 2).role(Role::Member).sign();
        let all = [kept(&old, false), kept(&other, false), kept(&anothers, false)];
        let due = |books: &Books, at| due_issuers(books.trust(), did(1), at);
        assert_eq!(due(&books(all.clone()), later(11)), []);
        assert_eq!(due(&books(all.clone()), later(12)), [did(5)]);
        let younger = Sign { at: later(12), ..Sign::new(5, 1).role(Role::Member) }.sign();
        let renewed = books(all.into_iter().chain([kept(&younger, false)]));
        assert_eq!(due(&renewed, later(13)), []);
    }

    #[test]
    fn a_token_to_or_by_a_key_that_was_followed_is_asked_for_anew() {
        use dms_messages::{DocumentId, SignOptions, Succession};
        let followed = |old: u8, new: u8| {
            let options = SignOptions {
                network: NETWORK.to_owned(),
                audience: None,
                issued_at: NOW,
                ttl: Duration::from_secs(3600),
                id: DocumentId([old; 16]),
            };
            let value = Succession { new: did(new) };
            let succession = Signed::sign(value, &crate::testing::tokens::key(old), options).unwrap();
            TrustEvent::Succeeded { succession, root: None }
        };
        let due = |books: &Books, me: u8| due_issuers(books.trust(), did(me), NOW);
        let token = kept(&Sign::new(5, 1).role(Role::Admin).sign(), false);
        assert_eq!(due(&books([token.clone()]), 1), []);
        assert_eq!(due(&books([token.clone(), followed(1, 2)]), 2), [did(5)], "mine by my former name");
        let both = [token.clone(), followed(5, 6), followed(1, 2)];
        assert_eq!(due(&books(both.clone()), 2), [did(6)]);
        let anew = kept(&Sign::new(6, 2).role(Role::Admin).sign(), false);
        assert_eq!(due(&books(both.into_iter().chain([anew.clone()])), 2), []);
        // What follows from a token of the old key's follows from one of the new key's once there is one.
        let via = Grant { via: Some(did(5)), depth: 1, ..member() };
        let parent = |books: &Books, me: u8| parent_of(&via, books.trust(), did(me), NOW).map(Signed::issuer);
        assert_eq!(parent(&books([token.clone(), followed(5, 6)]), 1), Some(did(5)));
        let mine = kept(&Sign::new(6, 1).role(Role::Admin).sign(), false);
        assert_eq!(parent(&books([token, followed(5, 6), mine]), 1), Some(did(6)));
        // Nobody is given again what a former key has signed.
        let issued = books([kept(&Sign::new(1, 3).role(Role::Member).sign(), true), followed(1, 2)]);
        assert!(still_fresh(issued.trust(), did(2), did(3), &member(), None, NOW).is_none());
    }

    #[test]
    fn an_admin_lets_in_on_the_word_of_whoever_let_it_in_and_a_member_on_its_own() {
        let admin = Sign::new(5, 1).role(Role::Admin).sign();
        let held = books([kept(&admin, false)]);
        let grant = grant_of(Role::Member, held.trust(), did(1), NOW);
        assert_eq!((grant.via, grant.depth), (Some(did(5)), 0));
        let below = grant_of(Role::Admin, held.trust(), did(1), NOW);
        assert_eq!(below.depth, Role::Admin.depth() - 1, "an admin of an admin's goes less deep");
        let parent = parent_of(&grant, held.trust(), did(1), NOW).map(Signed::content_id);
        assert_eq!(parent, Some(admin.content_id()));
        assert!(parent_of(&grant, held.trust(), did(1), later(24)).is_none(), "it has ended");
        let member = books([kept(&Sign::new(5, 1).role(Role::Member).sign(), false)]);
        assert_eq!(grant_of(Role::Member, member.trust(), did(1), NOW).via, None);
        let some = Sign::new(5, 1).abilities(&[REQUEST]).depth(2).sign();
        let some = books([kept(&some, false)]);
        assert_eq!(grant_of(Role::Member, some.trust(), did(1), NOW).via, None, "not for all of it");
        assert_eq!(grant_of(Role::Requester, some.trust(), did(1), NOW).via, Some(did(5)));
    }

    #[test]
    fn an_invite_is_for_another_machine_of_the_same_mesh_in_its_time() {
        let invite = Invite {
            inviter: did(5),
            network: NETWORK.into(),
            addresses: vec![],
            secret: InviteSecret::from_random([1; 16]),
            role: Role::Requester,
            expires: later(1),
            pre_shared_key: None,
        };
        let may = |me: u8, network: &str, at| may_join(&invite, did(me), network, at);
        assert_eq!(may(1, NETWORK, NOW), Ok(()));
        assert!(may(5, NETWORK, NOW).unwrap_err().contains("made by this node"));
        assert!(may(1, "other", NOW).unwrap_err().contains("a node is in one mesh"));
        assert!(may(1, NETWORK, later(1)).unwrap_err().contains("expired"));
        assert_eq!(inviter_root(&invite).abilities, Role::Provider.abilities());
    }
}
