//! How a node comes into a mesh and stays: invites are used, tokens come and are renewed, revocations go round.
//!
//! What is granted is in the books before the token leaves. A stranger is answered as rarely as any other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_actors::{Answer, Context, Did, Handler};
use dms_messages::{
    Admitted, ContentId, Credentials, Join, MAX_REVOCATIONS, NotAdmitted, NotAdmittedReason, Renew,
    Revocation, Revocations, Signed, Timestamp, Token,
};
use dms_storage::Event;
use dms_storage::books::{Grant, TrustBooks, TrustEvent};
use serde_bytes::ByteBuf;

use crate::handlers::trust::recorded;
use crate::network::revocation_topic;
use crate::node::{Node, NotRecorded};
use crate::trust::chain;
use crate::trust::conduct::Offence;
use crate::trust::issue;
use crate::word::{Addressed, Word};

/// How often it is looked whether tokens are due.
const RENEWAL_PERIOD: Duration = Duration::from_secs(60);
/// How long whoever does not renew is not asked again.
const NOT_RENEWED_PAUSE: Duration = Duration::from_secs(3600);
/// Most tokens that this node keeps for itself, with those that they follow from.
const MAX_HELD: usize = 64;
/// Most revocations kept of one issuer, and in all.
const MAX_REVOKED: (usize, usize) = (256, 4_096);

impl Node {
    /// Records a change to whom the node trusts; from then on it counts.
    pub(crate) fn change_trust(
        &mut self,
        ctx: &mut Context<'_, Self>,
        changes: Vec<TrustEvent>,
        then: impl FnOnce(&mut Self, Result<(), NotRecorded>, &mut Context<'_, Self>) + 'static,
    ) {
        let events = changes.into_iter().map(|change| Event::Trust { change }).collect();
        self.record(ctx, events, move |node, outcome, ctx| {
            node.parts.gate.take_books(node.me(), &node.books);
            then(node, outcome, ctx);
        });
    }

    /// Looks after this node's own tokens, for ever.
    pub(crate) fn start_renewing(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.every(RENEWAL_PERIOD, |node, ctx| node.renew(ctx));
    }

    fn renew(&mut self, ctx: &mut Context<'_, Self>) {
        let renew =
            self.due_issuers().into_iter().map(|issuer| Addressed::new(issuer, Word::Renew(Renew {})));
        // An inviter that was away may be there now.
        let open = self.books.trust().joins().iter().filter(|(_, row)| row.refused.is_none());
        let join = open
            .map(|(inviter, row)| Addressed::new(*inviter, Word::Join(Join { secret: row.invite.secret })));
        let words = renew.chain(join).collect();
        self.say(ctx, words);
        self.parts.gate.prune();
    }

    /// Whom this node asks for fresh tokens now.
    pub(crate) fn due_issuers(&self) -> Vec<Did> {
        let now = self.parts.clock.monotonic();
        let mut due = issue::due_issuers(self.books.trust(), self.me(), self.now());
        due.retain(|issuer| {
            let said_no = self.not_renewed.get(issuer);
            said_no.is_none_or(|at| now.saturating_sub(*at) >= NOT_RENEWED_PAUSE)
        });
        due
    }

    /// On link-up: what this node wants to be let into, and what holds no longer.
    pub(crate) fn greet_member(&mut self, peer: Did, ctx: &mut Context<'_, Self>) {
        let trust = self.books.trust();
        let join = trust.joins().get(&peer).filter(|row| row.refused.is_none());
        let join = join.map(|row| Word::Join(Join { secret: row.invite.secret }));
        let is_due = self.due_issuers().contains(&peer);
        let renew = is_due.then_some(Word::Renew(Renew {}));
        let revoked: Vec<&Signed<Revocation>> = trust.revocations().values().collect();
        let pages = revoked.chunks(MAX_REVOCATIONS).map(|page| {
            let revocations = page.iter().map(|one| ByteBuf::from(one.bytes())).collect();
            Word::Revocations(Revocations { revocations })
        });
        let words = join.into_iter().chain(renew).chain(pages);
        let words = words.map(|word| Addressed::new(peer, word)).collect();
        self.say(ctx, words);
    }

    /// Gives `to` the token that its grant is worth: the one that it has if that is fresh, or a new one. `changes` are
    /// recorded with it. Without a grant it is turned away.
    fn admit(
        &mut self,
        to: Did,
        grant: Option<Grant>,
        invite: Option<ContentId>,
        mut changes: Vec<TrustEvent>,
        ctx: &mut Context<'_, Self>,
    ) {
        let Some(grant) = grant else {
            return self.turn_away(to, invite, NotAdmittedReason::NotTrusted, ctx);
        };
        let now = self.now();
        let parent = issue::parent_of(&grant, self.books.trust(), self.me(), now);
        let fresh = issue::still_fresh(self.books.trust(), self.me(), to, &grant, parent, now).cloned();
        let token = fresh.or_else(|| {
            let draft = issue::draft(&grant, parent, self.parts.times.token_ttl, now)?;
            let token = self.sign(draft.token, to, draft.ttl)?;
            changes.push(TrustEvent::TokenKept { token: token.clone(), is_issued: true });
            Some(token)
        });
        let Some(token) = token else {
            return self.turn_away(to, invite, NotAdmittedReason::NotTrusted, ctx);
        };
        let credentials = self.with_parents(&token);
        self.change_trust(ctx, changes, move |node, outcome, ctx| {
            if outcome.is_ok() {
                tracing::info!(peer = %to, token = %token.content_id(), "admitted");
                node.say(ctx, vec![Addressed::new(to, Word::Admitted(Admitted { invite, credentials }))]);
            }
        });
    }

    /// What `to` is granted.
    fn grant_to(&self, to: Did) -> Option<Grant> {
        self.books.trust().grants().get(&to).cloned()
    }

    /// A token and those that it follows from, as far as they are kept here.
    pub(crate) fn with_parents(&self, token: &Signed<Token>) -> Credentials {
        let tokens = self.books.trust().tokens();
        let above = |token: &&Signed<Token>| {
            token.value().parent.and_then(|parent| tokens.get(&parent)).map(|row| &row.token)
        };
        Credentials::of(std::iter::successors(Some(token), above))
    }

    fn turn_away(
        &mut self,
        to: Did,
        invite: Option<ContentId>,
        reason: NotAdmittedReason,
        ctx: &mut Context<'_, Self>,
    ) {
        self.parts.gate.note(to, Offence::NotAllowed);
        if self.knows(to) || self.stranger_answers.take() {
            tracing::info!(peer = %to, %reason, "not admitted");
            self.say(ctx, vec![Addressed::new(to, Word::NotAdmitted(NotAdmitted { invite, reason }))]);
        }
    }

    /// Shows everybody what this node may now.
    pub(crate) fn show_to_all(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.system().introduce();
        self.advertise(ctx);
    }

    /// Keeps revocations that count here and are new, and passes them on.
    pub(crate) fn take_revocations(
        &mut self,
        revocations: Vec<Signed<Revocation>>,
        ctx: &mut Context<'_, Self>,
    ) {
        let context = self.decode_context();
        let mut new: Vec<Signed<Revocation>> = Vec::new();
        for revocation in revocations {
            let (header, issuer) = (revocation.header(), revocation.issuer());
            let kept = self.books.trust().revocations();
            let of_issuer = kept.keys().filter(|(_, by)| *by == issuer).count() + new.len();
            let counts = header.check(&context).is_ok()
                && !kept.contains_key(&(revocation.value().token, issuer))
                && self.knows(issuer)
                && of_issuer < MAX_REVOKED.0
                && kept.len() + new.len() < MAX_REVOKED.1;
            if counts {
                new.push(revocation);
            }
        }
        if new.is_empty() {
            return;
        }
        let changes = recorded(&new).collect();
        self.change_trust(ctx, changes, move |node, outcome, ctx| {
            if outcome.is_ok() {
                for revocation in &new {
                    tracing::info!(token = %revocation.value().token, by = %revocation.issuer(), "revoked");
                }
                node.spread(&new, ctx);
            }
        });
    }

    /// Tells whoever gossips what was revoked.
    pub(crate) fn spread(&self, revocations: &[Signed<Revocation>], ctx: &Context<'_, Self>) {
        for revocation in revocations {
            self.network.gossip(revocation_topic(ctx.system().network()), revocation);
        }
    }
}

/// Tokens that are to be kept.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Those of this node.
    pub(crate) mine: Vec<Signed<Token>>,
    /// On whose word, first of all, each of them is.
    pub(crate) roots: BTreeMap<ContentId, Did>,
    /// What is to be recorded.
    pub(crate) changes: Vec<TrustEvent>,
    /// Why one that was shown is no use, if one is not.
    pub(crate) error: Option<String>,
}

/// What there is to keep of tokens for this node: from `issuer`, or from anybody. They replace older ones from the same
/// issuer.
pub(crate) fn take_tokens(
    trust: &TrustBooks,
    me: Did,
    issuer: Option<Did>,
    credentials: &Credentials,
    network: &str,
    now: Timestamp,
) -> Taken {
    let mut taken = Taken::default();
    let mut shown: Vec<Signed<Token>> = Vec::new();
    for bytes in credentials.iter() {
        match Signed::verify_offline(bytes) {
            Ok(token) if Signed::<Token>::header(&token).expires_at > now => shown.push(token),
            Ok(token) => taken.error = Some(format!("token {} has expired", token.content_id())),
            Err(error) => taken.error = Some(format!("not a token: {error}")),
        }
    }
    let find = |id: &ContentId| {
        let shown = shown.iter().find(|token| token.content_id() == *id);
        shown.or_else(|| trust.tokens().get(id).map(|row| &row.token))
    };
    for token in &shown {
        if token.header().audience != Some(me) || issuer.is_some_and(|issuer| token.issuer() != issuer) {
            continue;
        }
        match chain::prove(token, network, find) {
            Ok(proven) => {
                taken.roots.insert(token.content_id(), proven.root);
                taken.mine.push(token.clone());
            }
            Err(error) => taken.error = Some(error.to_string()),
        }
    }
    let is_mine = |id: &ContentId| taken.mine.iter().any(|token| token.content_id() == *id);
    let held = || trust.tokens().values().filter(|row| !row.is_issued).map(|row| &row.token);
    // An older one goes only if the new one allows all that it did.
    let is_replaced = |old: &&Signed<Token>| {
        let by = |new: &Signed<Token>| {
            new.issuer() == old.issuer()
                && new.header().expires_at >= old.header().expires_at
                && new.value().allows_all_of(old.value())
        };
        old.header().audience == Some(me) && !is_mine(&old.content_id()) && taken.mine.iter().any(by)
    };
    let old: BTreeSet<ContentId> = held().filter(is_replaced).map(Signed::content_id).collect();
    let room = (MAX_HELD + old.len()).saturating_sub(held().count());
    let new = shown.iter().filter(|token| !trust.tokens().contains_key(&token.content_id())).take(room);
    taken.changes.extend(new.map(|token| TrustEvent::TokenKept { token: token.clone(), is_issued: false }));
    taken.changes.extend(old.into_iter().map(|token| TrustEvent::TokenDropped { token }));
    taken
}

impl Handler<Join> for Node {
    fn handle(&mut self, join: Join, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let (who, invite) = (ctx.sender(), join.secret.invite());
        let row = self.books.trust().invites().get(&invite);
        match issue::admits(row, who, self.now()) {
            Ok(row) => {
                if row.admitted.contains(&who) {
                    let grant = self.grant_to(who);
                    self.admit(who, grant, Some(invite), Vec::new(), ctx);
                } else {
                    let grant = issue::grant_of(row.role, self.books.trust(), self.me(), self.now());
                    let used = TrustEvent::InviteUsed { invite, by: who };
                    let granted = TrustEvent::Granted { to: who, grant: grant.clone() };
                    self.admit(who, Some(grant), Some(invite), vec![used, granted], ctx);
                }
            }
            Err(reason) => self.turn_away(who, Some(invite), reason, ctx),
        }
        ().into()
    }
}

impl Handler<Renew> for Node {
    fn handle(&mut self, _: Renew, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let grant = self.grant_to(ctx.sender());
        self.admit(ctx.sender(), grant, None, Vec::new(), ctx);
        ().into()
    }
}

impl Handler<Admitted> for Node {
    fn handle(&mut self, admitted: Admitted, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let (me, issuer, now) = (self.me(), ctx.sender(), self.now());
        let trust = self.books.trust();
        let join =
            trust.joins().get(&issuer).filter(|row| admitted.invite == Some(row.invite.secret.invite()));
        let network = self.parts.network.system.network();
        // Whoever is nobody here has no work done for it.
        if join.is_none() && !self.knows(issuer) {
            return ().into();
        }
        let taken = take_tokens(trust, me, Some(issuer), &admitted.credentials, network, now);
        if taken.mine.is_empty() {
            tracing::info!(peer = %issuer, error = taken.error, "tokens that are no use here");
            return ().into();
        }
        let mut changes: Vec<TrustEvent> = Vec::new();
        if let Some(join) = join {
            // The inviter, and whoever lets it let others in: its members are met too.
            let roots = taken.mine.iter().flat_map(|token| taken.roots.get(&token.content_id())).copied();
            for did in std::iter::once(issuer).chain(roots).collect::<BTreeSet<Did>>() {
                changes.push(TrustEvent::RootTrusted { did, root: issue::inviter_root(&join.invite) });
            }
            changes.push(TrustEvent::JoinEnded { inviter: issuer });
        }
        changes.extend(taken.changes);
        let is_joined = join.is_some();
        self.change_trust(ctx, changes, move |node, outcome, ctx| {
            if outcome.is_ok() {
                tracing::info!(peer = %issuer, is_joined, "tokens were taken");
                node.show_to_all(ctx);
            }
        });
        ().into()
    }
}

impl Handler<NotAdmitted> for Node {
    fn handle(&mut self, word: NotAdmitted, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let inviter = ctx.sender();
        let is_issuer = self.books.trust().tokens().values().any(|row| row.token.issuer() == inviter);
        if word.invite.is_none() && is_issuer {
            tracing::warn!(peer = %inviter, reason = %word.reason, "tokens are not renewed");
            self.not_renewed.insert(inviter, self.parts.clock.monotonic());
        }
        let join = self.books.trust().joins().get(&inviter);
        if join.is_some_and(|row| row.refused.is_none() && word.invite == Some(row.invite.secret.invite())) {
            tracing::warn!(peer = %inviter, reason = %word.reason, "not admitted");
            let change = TrustEvent::JoinRefused { inviter, reason: word.reason };
            self.change_trust(ctx, vec![change], |_, _, _| {});
        }
        ().into()
    }
}

impl Handler<Revocations> for Node {
    fn handle(&mut self, word: Revocations, ctx: &mut Context<'_, Self>) -> Answer<()> {
        let read = |bytes: &ByteBuf| Signed::verify_offline(bytes).ok();
        let revocations = word.revocations.iter().filter_map(read).collect();
        self.take_revocations(revocations, ctx);
        ().into()
    }
}
