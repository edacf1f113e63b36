//! What the owner tells the Node about trust: whom it trusts and lets in, tokens, invites, and meshes to come into.
//!
//! Each is answered when it is on disk.

use std::time::Duration;

use dms_actors::{Answer, Context, Did, Handler, Message};
use dms_messages::carried::CarriedError;
use dms_messages::{Admitted, ContentId, Invite, InviteSecret, Join, Revocation, Signed, Timestamp, Token};
use dms_storage::books::{Grant, Root, TrustEvent};

use crate::commands::CommandError;
use crate::handlers::membership::take_tokens;
use crate::listings::Noun;
use crate::node::Node;
use crate::trust::commands::{
    BeginJoin, DistrustPeer, EndInvite, GetInvites, GetTokens, GetTrust, GrantToken, GrantView, GrantedToken,
    InviteMade, InviteView, JoinView, KeepTokens, MakeInvite, RevokeToken, RootView, TokenView, TrustPeer,
    TrustView,
};
use crate::trust::{chain, issue};
use crate::word::{Addressed, Word};

/// Most of each kind that the owner's books hold; far more than people name one by one.
const MAX_NAMED: usize = 4_096;
/// Most nodes that one invite admits.
const MAX_USES: u16 = 1_000;
/// Longest life of an invite.
const MAX_INVITE_TTL: Duration = Duration::from_secs(30 * 24 * 3600);

type Outcome<M> = Answer<<M as Message>::Reply>;

fn refused<T>(why: impl Into<String>) -> Result<T, CommandError> {
    Err(CommandError::InvalidTrust(why.into()))
}

/// The one of `ids` that begins or ends so.
fn find(
    ids: impl Iterator<Item = ContentId>,
    noun: Noun,
    beginning: &str,
) -> Result<ContentId, CommandError> {
    // CIDs begin alike and end apart: tables show their ends.
    let mut found = ids.filter(|id| {
        let text = id.to_string();
        text.starts_with(beginning) || text.ends_with(beginning)
    });
    let id = beginning.to_owned();
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(CommandError::AmbiguousId { noun, id }),
        (None, _) => Err(CommandError::UnknownId { noun, id }),
    }
}

/// What the books record of revocations.
pub(crate) fn recorded(revoked: &[Signed<Revocation>]) -> impl Iterator<Item = TrustEvent> {
    revoked.iter().map(|revocation| TrustEvent::TokenRevoked { revocation: revocation.clone() })
}

impl Node {
    /// Records changes of the owner's, and answers with `reply` once they are on disk.
    pub(super) fn change_as_owner<T: Send + 'static>(
        &mut self,
        changes: Vec<TrustEvent>,
        ctx: &mut Context<'_, Self>,
        reply: impl FnOnce(&mut Self, &mut Context<'_, Self>) -> T + 'static,
    ) -> Answer<Result<T, CommandError>> {
        if let Err(error) = self.check_serving() {
            return Err(error).into();
        }
        let (responder, answer) = Answer::later();
        self.change_trust(ctx, changes, move |node, outcome, ctx| {
            let reply = outcome.map(|()| reply(node, ctx)).map_err(CommandError::from);
            responder.reply(reply);
        });
        answer
    }

    fn token_view(&self, token: &Signed<Token>, is_issued: bool) -> TokenView {
        let is_revoked = self.parts.gate.with_authority(|authority| authority.is_token_revoked(token));
        TokenView::of(token, is_issued, is_revoked)
    }

    /// Our word that a token holds no longer.
    fn revocation(&self, token: &Signed<Token>) -> Option<Signed<Revocation>> {
        let left = token.header().expires_at.saturating_since(self.now()) + 2 * dms_actors::signed::SKEW;
        let value = Revocation { token: token.content_id() };
        let signed = self.parts.signer.sign(value, None, left.min(dms_actors::signed::MAX_LIFETIME));
        signed.inspect_err(|error| tracing::error!(%error, "a revocation could not be signed")).ok()
    }

    /// The token that `grant` asks for, and the books' side of it.
    fn draft_grant(&self, grant: &GrantToken) -> Result<(Grant, Signed<Token>), CommandError> {
        let trust = self.books.trust();
        let now = self.now();
        if grant.to == self.me() {
            return refused("a node needs no token from itself");
        }
        let parent = match &grant.parent {
            Some(id) => {
                let held = trust.tokens().iter().filter(|(_, row)| !row.is_issued).map(|(id, _)| *id);
                Some(&trust.tokens()[&find(held, Noun::Token, id)?].token)
            }
            None => None,
        };
        let until = grant.ttl.map(|ttl| now.saturating_add(ttl.duration()));
        let kept = Grant {
            abilities: grant.abilities.clone(),
            topics: grant.topics.clone(),
            depth: grant.depth,
            until,
            via: parent.map(Signed::issuer),
        };
        // What a person asks for once holds for as long as it was asked for.
        let ttl = grant.ttl.map_or(self.parts.times.token_ttl, |ttl| ttl.duration());
        let Some(draft) = issue::draft(&kept, parent, ttl, now) else {
            return refused("it would end within a minute");
        };
        if draft.token.depth < grant.depth {
            return refused(format!("at most {} tokens may follow on it", draft.token.depth));
        }
        let token = self.parts.signer.sign(draft.token, Some(grant.to), draft.ttl);
        let token = token.map_err(|error| CommandError::InvalidTrust(error.to_string()))?;
        if let Some(parent) = parent {
            let known = |id: &ContentId| trust.tokens().get(id).map(|row| &row.token);
            if parent.header().audience != Some(self.me()) {
                return refused("the token that it would follow from is not for this node");
            }
            if let Err(error) = chain::prove(&token, self.parts.network.system.network(), known) {
                return refused(error.to_string());
            }
        }
        Ok((kept, token))
    }
}

impl Handler<GetTrust> for Node {
    fn handle(&mut self, _: GetTrust, _: &mut Context<'_, Self>) -> Answer<TrustView> {
        let trust = self.books.trust();
        let view = |did: Did, root: &Root, is_kept: bool| RootView {
            did,
            abilities: root.abilities.clone(),
            depth: root.depth,
            is_kept,
        };
        let given = self.parts.gate.with_authority(|authority| authority.given().clone());
        let given = given.iter().map(|(did, root)| view(*did, root, false));
        let kept = trust.roots().iter().map(|(did, root)| view(*did, root, true));
        let newest = |to: Did| -> Option<Timestamp> {
            let issued = trust.tokens().values().filter(|row| row.is_issued).map(|row| &row.token);
            let his = issued.filter(|token| token.header().audience == Some(to));
            his.map(|token| token.header().expires_at).max()
        };
        let grants = trust.grants().iter().map(|(did, grant)| GrantView {
            did: *did,
            abilities: grant.abilities.clone(),
            topics: grant.topics.clone(),
            depth: grant.depth,
            until: grant.until,
            token_ends: newest(*did),
        });
        let joins = trust.joins().iter().map(|(inviter, row)| JoinView {
            inviter: *inviter,
            role: row.invite.role,
            since: row.at,
            refused: row.refused,
        });
        TrustView {
            is_open: self.parts.gate.with_authority(|authority| authority.is_open()),
            roots: kept.chain(given).collect(),
            grants: grants.collect(),
            joins: joins.collect(),
        }
        .into()
    }
}

impl Handler<GetTokens> for Node {
    fn handle(&mut self, _: GetTokens, _: &mut Context<'_, Self>) -> Answer<Vec<TokenView>> {
        let rows = self.books.trust().tokens().values();
        rows.map(|row| self.token_view(&row.token, row.is_issued)).collect::<Vec<_>>().into()
    }
}

impl Handler<TrustPeer> for Node {
    fn handle(&mut self, trust: TrustPeer, ctx: &mut Context<'_, Self>) -> Outcome<TrustPeer> {
        if trust.did == self.me() {
            return refused("a node trusts itself anyway").into();
        }
        if trust.abilities.is_empty() {
            return refused("say what it may do").into();
        }
        let roots = self.books.trust().roots();
        if roots.len() >= MAX_NAMED && !roots.contains_key(&trust.did) {
            return refused(format!("at most {MAX_NAMED} nodes are trusted by name")).into();
        }
        let root = Root { abilities: trust.abilities, depth: trust.depth };
        let did = trust.did;
        self.change_as_owner(vec![TrustEvent::RootTrusted { did, root }], ctx, move |node, _| {
            node.parts.gate.forgive(did);
        })
    }
}

impl Handler<DistrustPeer> for Node {
    fn handle(
        &mut self,
        DistrustPeer { did }: DistrustPeer,
        ctx: &mut Context<'_, Self>,
    ) -> Outcome<DistrustPeer> {
        let trust = self.books.trust();
        let root = trust.roots().contains_key(&did).then_some(TrustEvent::RootDistrusted { did });
        let grant = trust.grants().contains_key(&did).then_some(TrustEvent::GrantEnded { to: did });
        let join = trust.joins().contains_key(&did).then_some(TrustEvent::JoinEnded { inviter: did });
        let its = trust.tokens().values().filter(|row| row.is_issued).map(|row| &row.token);
        let its = its.filter(|token| {
            let revocation = (token.content_id(), token.issuer());
            token.header().audience == Some(did)
                && token.header().expires_at > self.now()
                && !trust.revocations().contains_key(&revocation)
        });
        let revoked: Vec<Signed<Revocation>> = its.filter_map(|token| self.revocation(token)).collect();
        let changes: Vec<TrustEvent> =
            root.into_iter().chain(grant).chain(join).chain(recorded(&revoked)).collect();
        if changes.is_empty() {
            let id = did.to_string();
            return Err(CommandError::UnknownId { noun: Noun::TrustedPeer, id }).into();
        }
        self.change_as_owner(changes, ctx, move |node, ctx| node.spread(&revoked, ctx))
    }
}

impl Handler<GrantToken> for Node {
    fn handle(&mut self, grant: GrantToken, ctx: &mut Context<'_, Self>) -> Outcome<GrantToken> {
        let (kept, token) = match self.draft_grant(&grant) {
            Ok(drafted) => drafted,
            Err(error) => return Err(error).into(),
        };
        if self.books.trust().tokens().len() >= MAX_NAMED {
            return refused(format!("at most {MAX_NAMED} tokens are kept")).into();
        }
        let credentials = self.with_parents(&token);
        let signed = TrustEvent::TokenKept { token: token.clone(), is_issued: true };
        // One that ends when it was said to is not renewed, and leaves what is.
        let renewed = grant.ttl.is_none().then_some(TrustEvent::Granted { to: grant.to, grant: kept });
        let changes = renewed.into_iter().chain([signed]).collect();
        self.change_as_owner(changes, ctx, move |node, ctx| {
            let admitted = Admitted { invite: None, credentials: credentials.clone() };
            node.say(ctx, vec![Addressed::new(grant.to, Word::Admitted(admitted))]);
            GrantedToken { token: node.token_view(&token, true), text: credentials.to_string() }
        })
    }
}

impl Handler<KeepTokens> for Node {
    fn handle(&mut self, keep: KeepTokens, ctx: &mut Context<'_, Self>) -> Outcome<KeepTokens> {
        let credentials = match keep.text.parse() {
            Ok(credentials) => credentials,
            Err(error) => return refused(CarriedError::to_string(&error)).into(),
        };
        let network = self.parts.network.system.network();
        let taken = take_tokens(self.books.trust(), self.me(), None, &credentials, network, self.now());
        if taken.mine.is_empty() {
            let why = taken.error.unwrap_or_else(|| "none of them is for this node".to_owned());
            return refused(why).into();
        }
        let mine = taken.mine;
        self.change_as_owner(taken.changes, ctx, move |node, ctx| {
            node.show_to_all(ctx);
            mine.iter().map(|token| node.token_view(token, false)).collect()
        })
    }
}

impl Handler<RevokeToken> for Node {
    fn handle(
        &mut self,
        RevokeToken { id }: RevokeToken,
        ctx: &mut Context<'_, Self>,
    ) -> Outcome<RevokeToken> {
        let tokens = self.books.trust().tokens();
        let issued = tokens.iter().filter(|(_, row)| row.is_issued).map(|(id, _)| *id);
        let token = match find(issued, Noun::Token, &id) {
            Ok(id) => tokens[&id].token.clone(),
            Err(error) => return Err(error).into(),
        };
        let Some(revocation) = self.revocation(&token) else {
            return refused("it cannot be signed").into();
        };
        let revoked = vec![revocation];
        // A grant would be renewed; the token was meant.
        let to = token.header().audience;
        let grant = to.filter(|to| self.books.trust().grants().contains_key(to));
        let ended = grant.map(|to| TrustEvent::GrantEnded { to });
        let changes = recorded(&revoked).chain(ended).collect();
        self.change_as_owner(changes, ctx, move |node, ctx| {
            node.spread(&revoked, ctx);
            node.token_view(&token, true)
        })
    }
}

impl Handler<MakeInvite> for Node {
    fn handle(&mut self, make: MakeInvite, ctx: &mut Context<'_, Self>) -> Outcome<MakeInvite> {
        if make.uses == 0 || make.uses > MAX_USES {
            return refused(format!("an invite admits between 1 and {MAX_USES} nodes")).into();
        }
        if make.ttl.duration() > MAX_INVITE_TTL || make.ttl.0 == 0 {
            return refused("an invite holds for at most 30 days").into();
        }
        if self.books.trust().invites().len() >= MAX_NAMED {
            return refused(format!("there are {MAX_NAMED} invites already")).into();
        }
        let secret = InviteSecret::from_random(self.parts.clock.random());
        let expires = self.now().saturating_add(make.ttl.duration());
        let invite = secret.invite();
        let event = TrustEvent::InviteMade { invite, role: make.role, uses: make.uses, expires };
        self.change_as_owner(vec![event], ctx, move |node, ctx| {
            let MakeInvite { role, uses, .. } = make;
            let network = ctx.system().network().to_owned();
            let addresses = node.network.own_addresses();
            let invite = Invite {
                inviter: node.me(),
                network: network.clone(),
                addresses: addresses.clone(),
                secret,
                role,
                expires,
                pre_shared_key: node.parts.gate.pre_shared_key(),
            };
            InviteMade {
                invite: invite.to_string(),
                id: secret.invite(),
                role,
                uses,
                expires,
                network,
                addresses,
            }
        })
    }
}

impl Handler<GetInvites> for Node {
    fn handle(&mut self, _: GetInvites, _: &mut Context<'_, Self>) -> Answer<Vec<InviteView>> {
        let invites = self.books.trust().invites().keys();
        invites.filter_map(|id| self.invite_view(*id)).collect::<Vec<_>>().into()
    }
}

impl Node {
    fn invite_view(&self, id: ContentId) -> Option<InviteView> {
        let row = self.books.trust().invites().get(&id)?;
        let (role, uses, expires, admitted) = (row.role, row.uses, row.expires, row.admitted.clone());
        Some(InviteView { id, role, uses, expires, admitted })
    }
}

impl Handler<EndInvite> for Node {
    fn handle(&mut self, EndInvite { id }: EndInvite, ctx: &mut Context<'_, Self>) -> Outcome<EndInvite> {
        let invites = self.books.trust().invites().keys().copied();
        let found = find(invites, Noun::Invite, &id);
        match found.map(|invite| (invite, self.invite_view(invite))) {
            Ok((invite, Some(view))) => {
                self.change_as_owner(vec![TrustEvent::InviteEnded { invite }], ctx, move |_, _| view)
            }
            Ok((_, None)) => Err(CommandError::UnknownId { noun: Noun::Invite, id }).into(),
            Err(error) => Err(error).into(),
        }
    }
}

impl Handler<BeginJoin> for Node {
    fn handle(&mut self, BeginJoin { invite }: BeginJoin, ctx: &mut Context<'_, Self>) -> Outcome<BeginJoin> {
        let invite = match invite.parse::<Invite>() {
            Ok(invite) => invite,
            Err(error) => return refused(error.to_string()).into(),
        };
        if let Err(why) = issue::may_join(&invite, self.me(), self.parts.network.system.network(), self.now())
        {
            return refused(why).into();
        }
        if let Some(key) = invite.pre_shared_key
            && self.parts.gate.pre_shared_key() != Some(key)
        {
            return refused(
                "the invite is to a private mesh, whose key is read when a node starts: stop this one first",
            )
            .into();
        }
        let (inviter, secret) = (invite.inviter, invite.secret);
        self.network.remember(inviter, invite.addresses.clone());
        let invite = Box::new(Invite { pre_shared_key: None, ..invite });
        self.change_as_owner(vec![TrustEvent::JoinBegun { invite }], ctx, move |node, ctx| {
            node.say(ctx, vec![Addressed::new(inviter, Word::Join(Join { secret }))]);
        })
    }
}
