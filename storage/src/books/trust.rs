//! Whom the node trusts, by what right, and whom it lets in: the part of the books that its owner writes.
//!
//! Plain rows and no decision: what a chain of tokens allows is judged by the node.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{
    Ability, ContentId, Did, Invite, NotAdmittedReason, Revocation, Role, Signed, Succession, Timestamp,
    Token,
};
use serde::{Deserialize, Serialize};

use super::BooksError;
use crate::rows::Row;
use crate::rows::trust::TrustKey;

/// Most keys of somebody, one after another, that are followed: whoever records them lets nobody have more.
const MAX_FOLLOWED: usize = 64;

/// A change to this part of the books.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustEvent {
    /// The owner trusts somebody by name.
    RootTrusted {
        /// Whom.
        did: Did,
        /// How far.
        root: Root,
    },
    /// And no longer.
    RootDistrusted {
        /// Whom.
        did: Did,
    },
    /// Somebody is let in: its tokens are renewed from now on.
    Granted {
        /// Who.
        to: Did,
        /// What it may do.
        grant: Grant,
    },
    /// And no longer.
    GrantEnded {
        /// Who.
        to: Did,
    },
    /// A token was signed for another, or given to this node.
    TokenKept {
        /// The token.
        token: Signed<Token>,
        /// True if this node has signed it.
        is_issued: bool,
    },
    /// A token is not kept any more.
    TokenDropped {
        /// The token.
        token: ContentId,
    },
    /// A token holds no longer.
    TokenRevoked {
        /// Who says so.
        revocation: Signed<Revocation>,
    },
    /// An invite was made.
    InviteMade {
        /// The CID of its secret.
        invite: ContentId,
        /// As what it admits.
        role: Role,
        /// How many nodes it admits.
        uses: u16,
        /// Until when.
        expires: Timestamp,
    },
    /// An invite has admitted somebody.
    InviteUsed {
        /// The CID of its secret.
        invite: ContentId,
        /// Whom.
        by: Did,
    },
    /// An invite admits nobody any more.
    InviteEnded {
        /// The CID of its secret.
        invite: ContentId,
    },
    /// A person wants this node to come into a mesh.
    JoinBegun {
        /// The invite, without the mesh's key.
        invite: Box<Invite>,
    },
    /// Whoever has invited this node does not admit it.
    JoinRefused {
        /// Who.
        inviter: Did,
        /// Why.
        reason: NotAdmittedReason,
    },
    /// It was admitted, or a person gave up.
    JoinEnded {
        /// By whom it was invited.
        inviter: Did,
    },
    /// Somebody, or this node itself, has a new key. What the old name was trusted for is moved by events of its own.
    Succeeded {
        /// Who says so: the old key.
        succession: Signed<Succession>,
        /// As what the old name was trusted by name until then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        root: Option<Root>,
    },
}

impl TrustEvent {
    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RootTrusted { .. } => "root_trusted",
            Self::RootDistrusted { .. } => "root_distrusted",
            Self::Granted { .. } => "granted",
            Self::GrantEnded { .. } => "grant_ended",
            Self::TokenKept { .. } => "token_kept",
            Self::TokenDropped { .. } => "token_dropped",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::InviteMade { .. } => "invite_made",
            Self::InviteUsed { .. } => "invite_used",
            Self::InviteEnded { .. } => "invite_ended",
            Self::JoinBegun { .. } => "join_begun",
            Self::JoinRefused { .. } => "join_refused",
            Self::JoinEnded { .. } => "join_ended",
            Self::Succeeded { .. } => "succeeded",
        }
    }
}

/// Somebody who is trusted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What it may do here.
    pub abilities: BTreeSet<Ability>,
    /// How many tokens may follow on its word: 0, and it lets in nobody else.
    pub depth: u8,
}

/// What this node lets somebody do, with tokens that are renewed as long as this row is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What.
    pub abilities: BTreeSet<Ability>,
    /// On which topics; none for all, and for what is said directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<BTreeSet<String>>,
    /// How many tokens may follow.
    pub depth: u8,
    /// Until when it is renewed; none for as long as it is not ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Whose tokens, held here, its tokens follow from; none where this node speaks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<Did>,
}

/// A token that is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TokenRow {
    /// The token.
    pub token: Signed<Token>,
    /// True if this node has signed it, for another; otherwise it was given to this node, or one of its own follows from
    /// it.
    pub is_issued: bool,
    /// Since when it is kept.
    pub at: Timestamp,
}

/// An invite that was made here. Its secret is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteRow {
    /// As what it admits.
    pub role: Role,
    /// How many nodes it admits.
    pub uses: u16,
    /// Until when.
    pub expires: Timestamp,
    /// Whom it has admitted.
    pub admitted: BTreeSet<Did>,
}

/// A mesh that this node was invited to, and is not in yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinRow {
    /// The invite, without the mesh's key.
    pub invite: Invite,
    /// Since when it tries.
    pub at: Timestamp,
    /// What the inviter said last, if it was no.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<NotAdmittedReason>,
}

/// A key that somebody had.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SuccessionRow {
    /// Who says which key follows: the old one.
    pub succession: Signed<Succession>,
    /// As what the old name was trusted by name until then: so far what it signed before holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Root>,
}

/// One row of any kind.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustRow {
    /// By the name of who is trusted.
    Root(Root),
    /// By the name of who is let in.
    Grant(Grant),
    /// By its CID.
    Token(Box<TokenRow>),
    /// By the token's CID and who says so.
    Revocation(Signed<Revocation>),
    /// By the CID of its secret.
    Invite(InviteRow),
    /// By the inviter's name.
    Join(Box<JoinRow>),
    /// By the old name.
    Succession(Box<SuccessionRow>),
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct TrustBooks {
    pub(super) roots: BTreeMap<Did, Root>,
    pub(super) grants: BTreeMap<Did, Grant>,
    pub(super) tokens: BTreeMap<ContentId, TokenRow>,
    pub(super) revocations: BTreeMap<(ContentId, Did), Signed<Revocation>>,
    pub(super) invites: BTreeMap<ContentId, InviteRow>,
    pub(super) joins: BTreeMap<Did, JoinRow>,
    pub(super) successions: BTreeMap<Did, SuccessionRow>,
}

impl TrustBooks {
    /// Who is trusted by name.
    #[doc(alias = "root anchor")]
    pub fn roots(&self) -> &BTreeMap<Did, Root> {
        &self.roots
    }

    /// Who is let in.
    #[doc(alias = "require anchor")]
    pub fn grants(&self) -> &BTreeMap<Did, Grant> {
        &self.grants
    }

    /// The tokens that are kept, issued and held.
    #[doc(alias = "provide anchor")]
    pub fn tokens(&self) -> &BTreeMap<ContentId, TokenRow> {
        &self.tokens
    }

    /// The tokens that hold no longer, and who says so: whether it may is for the reader to judge.
    pub fn revocations(&self) -> &BTreeMap<(ContentId, Did), Signed<Revocation>> {
        &self.revocations
    }

    /// The invites that were made.
    pub fn invites(&self) -> &BTreeMap<ContentId, InviteRow> {
        &self.invites
    }

    /// The meshes that this node wants to come into, by who has invited it.
    pub fn joins(&self) -> &BTreeMap<Did, JoinRow> {
        &self.joins
    }

    /// Who has a new key, by the old names.
    pub fn successions(&self) -> &BTreeMap<Did, SuccessionRow> {
        &self.successions
    }

    /// The name that somebody has now.
    pub fn present_name(&self, did: Did) -> Did {
        let next = |did: &Did| self.successions.get(did).map(|row| row.succession.value().new);
        std::iter::successors(Some(did), next).take(MAX_FOLLOWED).last().unwrap_or(did)
    }

    /// The successions that led to somebody's name, the oldest first.
    pub fn lineage(&self, did: Did) -> Vec<&Signed<Succession>> {
        let before = |did: Did| {
            self.successions.values().map(|row| &row.succession).find(|one| one.value().new == did)
        };
        let mut lineage: Vec<&Signed<Succession>> =
            std::iter::successors(before(did), |one| before(one.issuer())).take(MAX_FOLLOWED).collect();
        lineage.reverse();
        lineage
    }

    /// One row, if it is there.
    pub(crate) fn row(&self, key: &TrustKey) -> Option<TrustRow> {
        match key {
            TrustKey::Root(did) => self.roots.get(did).cloned().map(TrustRow::Root),
            TrustKey::Grant(did) => self.grants.get(did).cloned().map(TrustRow::Grant),
            TrustKey::Token(id) => self.tokens.get(id).cloned().map(|row| TrustRow::Token(Box::new(row))),
            TrustKey::Revocation(token, issuer) => {
                self.revocations.get(&(*token, *issuer)).cloned().map(TrustRow::Revocation)
            }
            TrustKey::Invite(id) => self.invites.get(id).cloned().map(TrustRow::Invite),
            TrustKey::Join(did) => self.joins.get(did).cloned().map(|row| TrustRow::Join(Box::new(row))),
            TrustKey::Succession(did) => {
                self.successions.get(did).cloned().map(|row| TrustRow::Succession(Box::new(row)))
            }
        }
    }

    /// The key of every row.
    pub(crate) fn keys(&self) -> Vec<TrustKey> {
        let roots = self.roots.keys().copied().map(TrustKey::Root);
        let grants = self.grants.keys().copied().map(TrustKey::Grant);
        let tokens = self.tokens.keys().copied().map(TrustKey::Token);
        let revocations =
            self.revocations.keys().map(|(token, issuer)| TrustKey::Revocation(*token, *issuer));
        let invites = self.invites.keys().copied().map(TrustKey::Invite);
        let joins = self.joins.keys().copied().map(TrustKey::Join);
        let successions = self.successions.keys().copied().map(TrustKey::Succession);
        let named = roots.chain(grants).chain(joins).chain(successions);
        named.chain(tokens).chain(revocations).chain(invites).collect()
    }

    /// Puts back one row as it was written; false if key and row are of two kinds.
    pub(super) fn restore(&mut self, key: TrustKey, row: TrustRow) -> bool {
        match (key, row) {
            (TrustKey::Root(did), TrustRow::Root(row)) => drop(self.roots.insert(did, row)),
            (TrustKey::Grant(did), TrustRow::Grant(row)) => drop(self.grants.insert(did, row)),
            (TrustKey::Token(id), TrustRow::Token(row)) => drop(self.tokens.insert(id, *row)),
            (TrustKey::Revocation(token, issuer), TrustRow::Revocation(row)) => {
                drop(self.revocations.insert((token, issuer), row))
            }
            (TrustKey::Invite(id), TrustRow::Invite(row)) => drop(self.invites.insert(id, row)),
            (TrustKey::Join(did), TrustRow::Join(row)) => drop(self.joins.insert(did, *row)),
            (TrustKey::Succession(did), TrustRow::Succession(row)) => {
                drop(self.successions.insert(did, *row))
            }
            _ => return false,
        }
        true
    }

    /// Changes this part of the books by one event; gives the row that changes with it.
    pub(super) fn apply(&mut self, event: &TrustEvent, at: Timestamp) -> Result<Row, BooksError> {
        let name = event.name();
        let known = |is_known: bool, what: &dyn std::fmt::Display, key: TrustKey| {
            let unknown = || BooksError::Unknown { event: name, what: what.to_string() };
            is_known.then_some(Row::Trust(key)).ok_or_else(unknown)
        };
        match event {
            TrustEvent::RootTrusted { did, root } => {
                self.roots.insert(*did, root.clone());
                Ok(Row::Trust(TrustKey::Root(*did)))
            }
            TrustEvent::RootDistrusted { did } => {
                known(self.roots.remove(did).is_some(), did, TrustKey::Root(*did))
            }
            TrustEvent::Granted { to, grant } => {
                self.grants.insert(*to, grant.clone());
                Ok(Row::Trust(TrustKey::Grant(*to)))
            }
            TrustEvent::GrantEnded { to } => {
                known(self.grants.remove(to).is_some(), to, TrustKey::Grant(*to))
            }
            TrustEvent::TokenKept { token, is_issued } => {
                let id = token.content_id();
                self.tokens.insert(id, TokenRow { token: token.clone(), is_issued: *is_issued, at });
                Ok(Row::Trust(TrustKey::Token(id)))
            }
            TrustEvent::TokenDropped { token } => {
                known(self.tokens.remove(token).is_some(), token, TrustKey::Token(*token))
            }
            TrustEvent::TokenRevoked { revocation } => {
                let (token, issuer) = (revocation.value().token, revocation.issuer());
                self.revocations.insert((token, issuer), revocation.clone());
                Ok(Row::Trust(TrustKey::Revocation(token, issuer)))
            }
            TrustEvent::InviteMade { invite, role, uses, expires } => {
                let row =
                    InviteRow { role: *role, uses: *uses, expires: *expires, admitted: BTreeSet::new() };
                self.invites.insert(*invite, row);
                Ok(Row::Trust(TrustKey::Invite(*invite)))
            }
            TrustEvent::InviteUsed { invite, by } => {
                let row = self.invites.get_mut(invite);
                let is_known = row.map(|row| row.admitted.insert(*by)).is_some();
                known(is_known, invite, TrustKey::Invite(*invite))
            }
            TrustEvent::InviteEnded { invite } => {
                known(self.invites.remove(invite).is_some(), invite, TrustKey::Invite(*invite))
            }
            TrustEvent::JoinBegun { invite } => {
                let inviter = invite.inviter;
                self.joins.insert(inviter, JoinRow { invite: (**invite).clone(), at, refused: None });
                Ok(Row::Trust(TrustKey::Join(inviter)))
            }
            TrustEvent::JoinRefused { inviter, reason } => {
                let row = self.joins.get_mut(inviter);
                let is_known = row.map(|row| row.refused = Some(*reason)).is_some();
                known(is_known, inviter, TrustKey::Join(*inviter))
            }
            TrustEvent::JoinEnded { inviter } => {
                known(self.joins.remove(inviter).is_some(), inviter, TrustKey::Join(*inviter))
            }
            TrustEvent::Succeeded { succession, root } => {
                let old = succession.issuer();
                let row = SuccessionRow { succession: succession.clone(), root: root.clone() };
                self.successions.insert(old, row);
                Ok(Row::Trust(TrustKey::Succession(old)))
            }
        }
    }

    /// Forgets what ended before `before`; gives what is gone.
    pub(super) fn prune(&mut self, before: Timestamp) -> Vec<Row> {
        let mut gone = Vec::new();
        let mut keep = |holds: bool, key: TrustKey| {
            if !holds {
                gone.push(Row::Trust(key));
            }
            holds
        };
        self.tokens.retain(|id, row| keep(row.token.header().expires_at >= before, TrustKey::Token(*id)));
        self.revocations.retain(|(token, issuer), revocation| {
            keep(revocation.header().expires_at >= before, TrustKey::Revocation(*token, *issuer))
        });
        self.successions.retain(|old, row| {
            keep(row.succession.header().expires_at >= before, TrustKey::Succession(*old))
        });
        self.invites.retain(|id, row| keep(row.expires >= before, TrustKey::Invite(*id)));
        self.grants
            .retain(|to, grant| keep(grant.until.is_none_or(|until| until >= before), TrustKey::Grant(*to)));
        gone
    }
}
