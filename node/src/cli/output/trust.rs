//! Prints whom the node trusts, tokens and invites.

use std::collections::BTreeSet;

use dms_messages::{Ability, ContentId, Timestamp};

use super::{age, count, escaped, fields, table};
use crate::cli::join::Joined;
use crate::time_text::to_the_second;
use crate::trust::commands::{
    GrantedToken, InviteMade, InviteView, SuccessionView, TokenView, TrustPeer, TrustView,
};

fn abilities(abilities: &BTreeSet<Ability>) -> String {
    abilities.iter().map(Ability::as_str).collect::<Vec<_>>().join(" ")
}

/// The part of a CID that tables show and commands accept: CIDs begin alike.
fn end_of(id: &ContentId) -> String {
    let text = id.to_string();
    text[text.len().saturating_sub(12)..].to_owned()
}

/// How long until then, or that it is past.
fn left(until: Timestamp, now: Timestamp) -> String {
    if until <= now { "over".to_owned() } else { format!("in {}", age(now, until)) }
}

fn lets_in(depth: u8) -> String {
    if depth == 0 { "nobody".to_owned() } else { format!("{depth} deep") }
}

/// An invite, with its line alone where it can be copied, and as a QR code.
pub(in crate::cli) fn invite(made: &InviteMade, now: Timestamp) -> String {
    let machines = count(usize::from(made.uses), "machine");
    let mut text = format!(
        "on the other machine, within {} ({machines}, as {}):\n\n",
        age(now, made.expires),
        made.role
    );
    text.push_str(&format!("  dms join {}\n", made.invite));
    if let Some(code) = qr_code(&made.invite) {
        text.push_str(&format!("\n{code}\n"));
    }
    text
}

/// The text as a QR code of half blocks; none if it is too long for one that fits a terminal.
fn qr_code(text: &str) -> Option<String> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    let size = code.width();
    let is_dark = |x: usize, y: usize| x < size && y < size && code[(x, y)] == qrcode::Color::Dark;
    let mut lines = String::new();
    // A quiet zone of two, light; terminals are dark, so light is what is drawn.
    let margin = 2;
    let cell = |x: usize, y: usize| x < margin || y < margin || !is_dark(x - margin, y - margin);
    let whole = size + 2 * margin;
    for y in (0..whole).step_by(2) {
        let line: String = (0..whole)
            .map(|x| match (cell(x, y), y + 1 >= whole || cell(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            })
            .collect();
        lines.push_str(&format!("  {line}\n"));
    }
    Some(lines)
}

/// Every invite.
pub(in crate::cli) fn invites(invites: &[InviteView], now: Timestamp) -> String {
    if invites.is_empty() {
        return "no invites (`dms invite` makes one)\n".to_owned();
    }
    let rows: Vec<Vec<String>> = invites
        .iter()
        .map(|invite| {
            let admitted: Vec<String> = invite.admitted.iter().map(|did| did.short()).collect();
            vec![
                end_of(&invite.id),
                invite.role.to_string(),
                format!("{} of {}", invite.admitted.len(), invite.uses),
                left(invite.expires, now),
                admitted.join(" "),
            ]
        })
        .collect();
    table(&["ID", "AS", "USED", "ENDS", "LET IN"], &rows)
}

/// That this machine is in the mesh.
pub(in crate::cli) fn joined(joined: &Joined) -> String {
    let shares = match joined.is_onboarded {
        true => "; it shares capacity (`dms capability`)",
        false => "",
    };
    format!(
        "joined `{}` as {}: this machine and {} trust each other{shares}\n",
        escaped(&joined.network),
        joined.role,
        joined.inviter.short()
    )
}

/// Whom the node trusts.
pub(in crate::cli) fn trust(trust: &TrustView, now: Timestamp) -> String {
    let mut text = String::new();
    if trust.is_open {
        text.push_str("open: strangers may ask for bids here, and are asked\n\n");
    }
    if trust.roots.is_empty() && trust.grants.is_empty() && trust.joins.is_empty() {
        text.push_str("nobody but its owner is trusted (`dms invite`, `dms trust add`)\n");
        return text;
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    for root in &trust.roots {
        let by = if root.is_kept { "name" } else { "name, until this node stops" };
        rows.push(vec![root.did.to_string(), abilities(&root.abilities), lets_in(root.depth), by.to_owned()]);
    }
    for grant in &trust.grants {
        let until = match (grant.token_ends, grant.until) {
            (None, _) => "a token that has ended".to_owned(),
            (Some(ends), Some(_)) => format!("a token that ends {}", left(ends, now)),
            (Some(ends), None) => format!("a token, renewed before it ends {}", left(ends, now)),
        };
        rows.push(vec![grant.did.to_string(), abilities(&grant.abilities), lets_in(grant.depth), until]);
    }
    if !rows.is_empty() {
        text.push_str(&table(&["NODE", "MAY", "LETS IN", "BY"], &rows));
    }
    for join in &trust.joins {
        let how = match join.refused {
            Some(reason) => format!("not let in: {reason}"),
            None => format!("asking for {}", age(join.since, now)),
        };
        text.push_str(&format!("joining {} as {}: {how}\n", join.inviter, join.role));
    }
    text
}

/// That somebody is trusted from now on.
pub(in crate::cli) fn trusted(trust: &TrustPeer) -> String {
    format!("{} may {}\n", trust.did, abilities(&trust.abilities))
}

/// That somebody has a new key.
pub(in crate::cli) fn succeeded(view: &SuccessionView) -> String {
    format!("{} is {} now, and may what it could before\n", view.old, view.new)
}

/// Every token.
pub(in crate::cli) fn tokens(tokens: &[TokenView], now: Timestamp) -> String {
    if tokens.is_empty() {
        return "no tokens (`dms token grant`, `dms invite`)\n".to_owned();
    }
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            let other = if token.is_issued { token.audience } else { Some(token.issuer) };
            let other = other.map(|did| did.short()).unwrap_or_default();
            let ends = if token.is_revoked { "revoked".to_owned() } else { left(token.expires_at, now) };
            vec![
                end_of(&token.id),
                if token.is_issued { format!("to {other}") } else { format!("from {other}") },
                abilities(&token.abilities),
                lets_in(token.depth),
                ends,
            ]
        })
        .collect();
    table(&["TOKEN", "", "MAY", "LETS IN", "ENDS"], &rows)
}

/// Tokens with everything that they say.
pub(in crate::cli) fn token_details(tokens: &[TokenView], now: Timestamp) -> String {
    let one = |token: &TokenView| {
        let topics = token.topics.as_ref().map_or_else(
            || "all, and what is said directly".to_owned(),
            |topics| topics.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
        );
        fields(&[
            ("token", token.id.to_string()),
            ("issuer", token.issuer.to_string()),
            ("audience", token.audience.map_or_else(|| "nobody".to_owned(), |did| did.to_string())),
            ("abilities", abilities(&token.abilities)),
            ("topics", topics),
            ("lets in", lets_in(token.depth)),
            ("follows from", token.parent.map_or_else(|| "-".to_owned(), |id| id.to_string())),
            ("mesh", escaped(&token.network)),
            ("from", to_the_second(token.issued_at)),
            ("until", format!("{} ({})", to_the_second(token.expires_at), left(token.expires_at, now))),
        ])
    };
    tokens.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// A token that a person's key has signed: nobody is told of it.
pub(in crate::cli) fn granted_by_hand(granted: &GrantedToken) -> String {
    let token = &granted.token;
    format!(
        "{} may {} until {}, wherever {} is trusted\n\non that machine:\n\n  dms token keep {}\n",
        token.audience.map_or_else(String::new, |did| did.to_string()),
        abilities(&token.abilities),
        to_the_second(token.expires_at),
        token.issuer.short(),
        granted.text
    )
}

/// A token that was signed, with its text alone where it can be copied.
pub(in crate::cli) fn granted(granted: &GrantedToken) -> String {
    let token = &granted.token;
    format!(
        "{} may {} until {} ({})\n\nit is told; where it cannot be reached, on that machine:\n\n  dms token keep {}\n",
        token.audience.map_or_else(String::new, |did| did.to_string()),
        abilities(&token.abilities),
        to_the_second(token.expires_at),
        end_of(&token.id),
        granted.text
    )
}
