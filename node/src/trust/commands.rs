//! What the owner asks and tells the Node about trust; the forms that the API speaks.

use std::collections::BTreeSet;

use dms_messages::{
    Ability, ContentId, Did, Message, Millis, NotAdmittedReason, Role, Signed, Timestamp, Token,
};
use serde::{Deserialize, Serialize};

use crate::commands::CommandError;

/// Asks whom the node trusts, and whom it lets in.
#[derive(Debug)]
pub struct GetTrust;

impl Message for GetTrust {
    type Reply = TrustView;
}

/// Whom the node trusts, and whom it lets in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustView {
    /// True if strangers may ask and bid.
    pub is_open: bool,
    /// Who is trusted by name.
    pub roots: Vec<RootView>,
    /// Who gets tokens from this node.
    pub grants: Vec<GrantView>,
    /// The meshes that it wants to come into.
    pub joins: Vec<JoinView>,
}

/// Somebody who is trusted by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootView {
    /// Who.
    pub did: Did,
    /// What it may do here.
    pub abilities: BTreeSet<Ability>,
    /// How many tokens may follow on its word.
    pub depth: u8,
    /// True if it is in the books; otherwise it was named at the start (`--trust`, or the configuration).
    pub is_kept: bool,
}

/// Somebody who gets tokens from this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantView {
    /// Who.
    pub did: Did,
    /// What it may do.
    pub abilities: BTreeSet<Ability>,
    /// On which topics; none for all.
    pub topics: Option<BTreeSet<String>>,
    /// How many tokens may follow.
    pub depth: u8,
    /// Until when its tokens are renewed; none for as long as it is trusted.
    pub until: Option<Timestamp>,
    /// When its newest token ends; none if it has none now.
    pub token_ends: Option<Timestamp>,
}

/// A mesh that the node wants to come into.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinView {
    /// Who has invited it.
    pub inviter: Did,
    /// As what.
    pub role: Role,
    /// Since when it tries.
    pub since: Timestamp,
    /// What the inviter said, if it was no.
    pub refused: Option<NotAdmittedReason>,
}

/// Takes it that somebody has a new key, by hand: what the old name was trusted for, the new one is. Answered when it
/// is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SucceedPeer {
    /// The successions, as they were carried.
    pub text: String,
}

impl Message for SucceedPeer {
    type Reply = Result<SuccessionView, CommandError>;
}

/// Who has a new key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuccessionView {
    /// Who was trusted.
    pub old: Did,
    /// Who is in its place.
    pub new: Did,
}

/// Asks for the tokens that are kept.
#[derive(Debug)]
pub struct GetTokens;

impl Message for GetTokens {
    type Reply = Vec<TokenView>;
}

/// A token, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its CID.
    pub id: ContentId,
    /// Who lets.
    pub issuer: Did,
    /// Whom; none only in one that holds nowhere.
    pub audience: Option<Did>,
    /// What it may do.
    pub abilities: BTreeSet<Ability>,
    /// On which topics; none for all, and for what is said directly.
    pub topics: Option<BTreeSet<String>>,
    /// How many tokens may follow.
    pub depth: u8,
    /// The token that it follows from.
    pub parent: Option<ContentId>,
    /// The mesh.
    pub network: String,
    /// From when, by the issuer's clock.
    pub issued_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// True if this node has signed it.
    pub is_issued: bool,
    /// True if it was revoked by whoever may.
    pub is_revoked: bool,
}

impl TokenView {
    /// What there is to see of a token.
    pub fn of(token: &Signed<Token>, is_issued: bool, is_revoked: bool) -> Self {
        let (header, value) = (token.header(), token.value());
        Self {
            id: token.content_id(),
            issuer: header.issuer,
            audience: header.audience,
            abilities: value.abilities.clone(),
            topics: value.topics.clone(),
            depth: value.depth,
            parent: value.parent,
            network: header.network.clone(),
            issued_at: header.issued_at,
            expires_at: header.expires_at,
            is_issued,
            is_revoked,
        }
    }
}

/// Trusts somebody by name. Answered when it is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "root anchor")]
pub struct TrustPeer {
    /// Whom.
    pub did: Did,
    /// What it may do here.
    pub abilities: BTreeSet<Ability>,
    /// How many tokens may follow on its word; 0: it speaks for itself alone.
    #[serde(default)]
    pub depth: u8,
}

impl Message for TrustPeer {
    type Reply = Result<(), CommandError>;
}

/// Trusts somebody no longer, by name or by grant, and revokes the tokens that it got here.
#[derive(Debug)]
pub struct DistrustPeer {
    /// Whom.
    pub did: Did,
}

impl Message for DistrustPeer {
    type Reply = Result<(), CommandError>;
}

/// Signs a token for somebody. It is told to it, if it can be reached, and given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantToken {
    /// For whom.
    pub to: Did,
    /// What it may do.
    pub abilities: BTreeSet<Ability>,
    /// On which topics; none for all.
    #[serde(default)]
    pub topics: Option<BTreeSet<String>>,
    /// How many tokens may follow.
    #[serde(default)]
    pub depth: u8,
    /// The held token that it follows from (its CID, or its end); none if this node speaks for itself.
    #[serde(default)]
    pub parent: Option<String>,
    /// How long it may be used. None for as long as the receiver is trusted: then it is renewed, in the place of what
    /// was renewed before.
    #[serde(default)]
    pub ttl: Option<Millis>,
}

impl Message for GrantToken {
    type Reply = Result<GrantedToken, CommandError>;
}

/// A token that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedToken {
    /// The token.
    pub token: TokenView,
    /// It, and those that it follows from, as a word to be carried by hand.
    pub text: String,
}

/// Keeps tokens that were carried here by hand; gives those of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[doc(alias = "provide anchor")]
pub struct KeepTokens {
    /// The tokens, as they were carried.
    pub text: String,
}

impl Message for KeepTokens {
    type Reply = Result<Vec<TokenView>, CommandError>;
}

/// Revokes a token that this node has signed, or one that follows from such a one.
#[derive(Debug)]
pub struct RevokeToken {
    /// Its CID, or its end.
    pub id: String,
}

impl Message for RevokeToken {
    type Reply = Result<TokenView, CommandError>;
}

/// Makes an invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MakeInvite {
    /// As what it admits.
    pub role: Role,
    /// How many nodes; at least 1.
    pub uses: u16,
    /// How long.
    pub ttl: Millis,
}

impl Message for MakeInvite {
    type Reply = Result<InviteMade, CommandError>;
}

/// An invite that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteMade {
    /// What is carried to the other machine. A secret until it is used.
    pub invite: String,
    /// The CID of its secret, by which it can be withdrawn.
    pub id: ContentId,
    /// As what it admits.
    pub role: Role,
    /// How many nodes.
    pub uses: u16,
    /// Until when.
    pub expires: Timestamp,
    /// The mesh.
    pub network: String,
    /// Where the other machine will dial this one.
    pub addresses: Vec<String>,
}

/// Asks which invites there are.
#[derive(Debug)]
pub struct GetInvites;

impl Message for GetInvites {
    type Reply = Vec<InviteView>;
}

/// An invite, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteView {
    /// The CID of its secret.
    pub id: ContentId,
    /// As what it admits.
    pub role: Role,
    /// How many nodes.
    pub uses: u16,
    /// Until when.
    pub expires: Timestamp,
    /// Whom it has admitted.
    pub admitted: BTreeSet<Did>,
}

/// Withdraws an invite.
#[derive(Debug)]
pub struct EndInvite {
    /// The CID of its secret, or its end.
    pub id: String,
}

impl Message for EndInvite {
    type Reply = Result<InviteView, CommandError>;
}

/// Comes into a mesh: asks the inviter to be admitted, now or as soon as it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginJoin {
    /// The invite, as it was carried.
    pub invite: String,
}

impl Message for BeginJoin {
    type Reply = Result<(), CommandError>;
}
