//! What tokens a node signs, and when they are due to be signed anew.

use std::collections::BTreeSet;
use std::time::Duration;

use dms_actors::signed::MAX_LIFETIME;
use dms_messages::ability::any_covers;
use dms_messages::{Did, Invite, NotAdmittedReason, Role, Signed, Timestamp, Token};
use dms_storage::books::{Grant, InviteRow, Root, TokenRow, TrustBooks};

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
    let allows = |token: &&Signed<Token>| {
        let value = token.value();
        let is_on_topic = match (&value.topics, &grant.topics) {
            (None, _) => true,
            (Some(may), Some(wants)) => wants.is_subset(may),
            (Some(_), None) => false,
        };
        token.issuer() == via
            && token.header().audience == Some(me)
            && token.header().expires_at > now
            && value.depth > 0
            && is_on_topic
            && grant.abilities.iter().all(|ability| any_covers(&value.abilities, ability.as_str()))
    };
    held.filter(allows).max_by_key(|token| token.header().expires_at)
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

/// The token that was signed for `to` under this grant and holds for half of its life yet: it is given again.
pub fn still_fresh<'b>(
    books: &'b TrustBooks,
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
/// beside them.
pub fn due_issuers(books: &TrustBooks, me: Did, now: Timestamp) -> Vec<Did> {
    let is_mine = |row: &&TokenRow| !row.is_issued && row.token.header().audience == Some(me);
    let mine: Vec<&Signed<Token>> = books.tokens().values().filter(is_mine).map(|row| &row.token).collect();
    let mut issuers: Vec<Did> = mine
        .iter()
        .filter(|token| is_due(token, now))
        .map(|token| token.issuer())
        .filter(|issuer| !mine.iter().any(|other| other.issuer() == *issuer && !is_due(other, now)))
        .collect();
    issuers.sort_unstable();
    issuers.dedup();
    issuers
}
