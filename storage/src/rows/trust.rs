//! Whom the node trusts, by what right, and whom it lets in; few rows of several kinds in one family.
//!
//! ```text
//! key    | kind: u8 | name |
//!        0 root        public key: 32 bytes
//!        1 grant       public key: 32 bytes
//!        2 token       CID: 36 bytes
//!        3 revocation  CID of the token: 36 bytes; public key of who says so: 32 bytes
//!        4 invite      CID of its secret: 36 bytes
//!        5 join        public key of the inviter: 32 bytes
//!        6 succession  old public key: 32 bytes
//! value  | version: u8 = 1 | CBOR of `TrustRow` |
//! ```

use dms_messages::{ContentId, Did};

use crate::books::{Books, TrustRow};
use crate::rows::{Current, Index, OrderedKey};
use crate::schema::Family;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TrustKey {
    /// Somebody who is trusted by name.
    Root(Did),
    /// Somebody who is let in.
    Grant(Did),
    /// A token.
    Token(ContentId),
    /// The revocation of a token, and who says so.
    Revocation(ContentId, Did),
    /// An invite that was made here.
    Invite(ContentId),
    /// An inviter whose mesh this node wants to come into.
    Join(Did),
    /// The old name of somebody who has a new key.
    Succession(Did),
}

impl OrderedKey for TrustKey {
    fn to_bytes(&self) -> Vec<u8> {
        let (kind, name) = match self {
            Self::Root(did) => (0, did.to_bytes()),
            Self::Grant(did) => (1, did.to_bytes()),
            Self::Token(id) => (2, id.to_bytes()),
            Self::Revocation(token, issuer) => (3, [token.to_bytes(), issuer.to_bytes()].concat()),
            Self::Invite(id) => (4, id.to_bytes()),
            Self::Join(did) => (5, did.to_bytes()),
            Self::Succession(did) => (6, did.to_bytes()),
        };
        [&[kind], name.as_slice()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (kind, name) = bytes.split_first()?;
        let did = || <Did as OrderedKey>::from_bytes(name);
        let id = || <ContentId as OrderedKey>::from_bytes(name);
        match kind {
            0 => did().map(Self::Root),
            1 => did().map(Self::Grant),
            2 => id().map(Self::Token),
            3 => {
                let (token, issuer) = name.split_at_checked(name.len().checked_sub(32)?)?;
                let token = <ContentId as OrderedKey>::from_bytes(token)?;
                <Did as OrderedKey>::from_bytes(issuer).map(|issuer| Self::Revocation(token, issuer))
            }
            4 => id().map(Self::Invite),
            5 => did().map(Self::Join),
            6 => did().map(Self::Succession),
            _ => None,
        }
    }

    fn to_text(&self) -> String {
        match self {
            Self::Root(did) => format!("root {did}"),
            Self::Grant(did) => format!("grant {did}"),
            Self::Token(id) => format!("token {id}"),
            Self::Revocation(token, issuer) => format!("revocation {token} {issuer}"),
            Self::Invite(id) => format!("invite {id}"),
            Self::Join(did) => format!("join {did}"),
            Self::Succession(did) => format!("succession {did}"),
        }
    }
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub enum Trust {}

impl Index for Trust {
    const FAMILY: Family = Family::Trust;
    type Key = TrustKey;
    type Value = TrustRow;
}

impl Current for Trust {
    fn bytes(books: &Books, key: &TrustKey) -> Option<Vec<u8>> {
        books.trust().row(key).map(|row| Self::encode(&row))
    }

    fn keys(books: &Books) -> Vec<TrustKey> {
        books.trust().keys()
    }
}
