//! Changes to whom the node trusts, in words.

use std::collections::BTreeSet;

use dms_messages::{Ability, Timestamp};
use dms_storage::books::{TrustEvent, TrustRow};

use super::{cid, lasting};

/// What happened, in words.
pub(super) fn text_of(change: &TrustEvent, at: Timestamp) -> String {
    match change {
        TrustEvent::RootTrusted { did, root } => {
            format!("{} is trusted: it may {}{}", did.short(), may(&root.abilities), lets_in(root.depth))
        }
        TrustEvent::RootDistrusted { did } => format!("{} is not trusted any more", did.short()),
        TrustEvent::Granted { to, grant } => {
            let until = grant.until.map(|until| format!(" for {}", lasting(at, until))).unwrap_or_default();
            format!(
                "{} is let in{until}: it may {}{}",
                to.short(),
                may(&grant.abilities),
                lets_in(grant.depth)
            )
        }
        TrustEvent::GrantEnded { to } => format!("{} gets no tokens any more", to.short()),
        TrustEvent::TokenKept { token, is_issued } => {
            let id = cid(&token.content_id());
            let ends = lasting(at, token.header().expires_at);
            match (is_issued, token.header().audience) {
                (true, Some(to)) => format!("token {id} for {} was signed, holds for {ends}", to.short()),
                _ => format!("token {id} from {} is kept, holds for {ends}", token.issuer().short()),
            }
        }
        TrustEvent::TokenDropped { token } => format!("token {} is not kept any more", cid(token)),
        TrustEvent::TokenRevoked { revocation } => {
            format!("token {} is revoked by {}", cid(&revocation.value().token), revocation.issuer().short())
        }
        TrustEvent::InviteMade { invite, role, uses, expires } => {
            format!("invite {} was made: {uses} as {role}, holds for {}", cid(invite), lasting(at, *expires))
        }
        TrustEvent::InviteUsed { invite, by } => format!("invite {} let {} in", cid(invite), by.short()),
        TrustEvent::InviteEnded { invite } => format!("invite {} was withdrawn", cid(invite)),
        TrustEvent::JoinBegun { invite } => {
            format!("asks {} to be let in as {}", invite.inviter.short(), invite.role)
        }
        TrustEvent::JoinRefused { inviter, reason } => format!("{} does not: {reason}", inviter.short()),
        TrustEvent::JoinEnded { inviter } => format!("asks {} no more", inviter.short()),
    }
}

/// What a row says, in words.
pub(crate) fn row_text(row: &TrustRow) -> String {
    match row {
        TrustRow::Root(root) => format!("may {}{}", may(&root.abilities), lets_in(root.depth)),
        TrustRow::Grant(grant) => format!("may {}{}", may(&grant.abilities), lets_in(grant.depth)),
        TrustRow::Token(row) => {
            let (value, how) = (row.token.value(), if row.is_issued { "signed here" } else { "held" });
            format!("{how}: may {}{}", may(&value.abilities), lets_in(value.depth))
        }
        TrustRow::Revocation(revocation) => format!("revoked by {}", revocation.issuer().short()),
        TrustRow::Invite(row) => format!("has let in {} of {} as {}", row.admitted.len(), row.uses, row.role),
        TrustRow::Join(row) => format!("wants to be let in as {}", row.invite.role),
    }
}

fn may(abilities: &BTreeSet<Ability>) -> String {
    abilities.iter().map(Ability::as_str).collect::<Vec<_>>().join(" ")
}

fn lets_in(depth: u8) -> String {
    if depth == 0 { String::new() } else { format!(", and let others in {depth} deep") }
}
