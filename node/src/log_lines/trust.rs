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
        TrustEvent::Succeeded { succession, .. } => {
            format!("{} has a new key: {}", succession.issuer().short(), succession.value().new.short())
        }
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
        TrustRow::Succession(row) => format!("is {} now", row.succession.value().new.short()),
    }
}

fn may(abilities: &BTreeSet<Ability>) -> String {
    abilities.iter().map(Ability::as_str).collect::<Vec<_>>().join(" ")
}

fn lets_in(depth: u8) -> String {
    if depth == 0 { String::new() } else { format!(", and let others in {depth} deep") }
}

#[cfg(test)]
mod tests {
    use dms_actors::signed::MAX_LIFETIME;
    use dms_messages::{ContentId, NotAdmittedReason, Role, Succession};
    use dms_storage::books::{Grant, Root};

    use super::*;
    use crate::testing::tokens::{NOW, Sign};
    use crate::testing::{did, signer};

    #[test]
    fn every_change_is_a_sentence() {
        let token = Sign::new(1, 2).role(Role::Member).sign();
        let kept = |is_issued| TrustEvent::TokenKept { token: token.clone(), is_issued };
        let invite = ContentId::of_bytes(b"secret");
        let root = Root { abilities: Role::Provider.abilities(), depth: 2 };
        let grant = Grant {
            abilities: Role::Requester.abilities(),
            topics: None,
            depth: 0,
            until: Some(token.header().expires_at),
            via: None,
        };
        let succession = signer(2, &Default::default()).sign(Succession { new: did(3) }, None, MAX_LIFETIME);
        let succession = succession.unwrap();
        let table = [
            (
                TrustEvent::RootTrusted { did: did(2), root: root.clone() },
                "is trusted: it may /dms/provide, and let others in 2 deep",
            ),
            (TrustEvent::RootDistrusted { did: did(2) }, "is not trusted any more"),
            (
                TrustEvent::Granted { to: did(2), grant: grant.clone() },
                "is let in for 24 h: it may /dms/request",
            ),
            (TrustEvent::GrantEnded { to: did(2) }, "gets no tokens any more"),
            (kept(true), "was signed, holds for 24 h"),
            (kept(false), "is kept, holds for 24 h"),
            (TrustEvent::TokenDropped { token: token.content_id() }, "is not kept any more"),
            (
                TrustEvent::InviteMade {
                    invite,
                    role: Role::Admin,
                    uses: 3,
                    expires: token.header().expires_at,
                },
                "was made: 3 as admin, holds for 24 h",
            ),
            (TrustEvent::InviteUsed { invite, by: did(2) }, "let z6Mk"),
            (TrustEvent::InviteEnded { invite }, "was withdrawn"),
            (
                TrustEvent::JoinRefused { inviter: did(2), reason: NotAdmittedReason::Used },
                "does not: the invite was used already",
            ),
            (TrustEvent::JoinEnded { inviter: did(2) }, "no more"),
            (TrustEvent::Succeeded { succession, root: None }, "has a new key: z6Mk"),
        ];
        for (change, words) in table {
            let text = text_of(&change, NOW);
            assert!(text.contains(words), "{text:?} does not say {words:?}");
        }
        assert_eq!(row_text(&TrustRow::Root(root)), "may /dms/provide, and let others in 2 deep");
        assert_eq!(row_text(&TrustRow::Grant(grant)), "may /dms/request");
    }
}
