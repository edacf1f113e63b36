//! How a node comes into a mesh, and stays: whoever is invited says [`Join`], is answered [`Admitted`] or
//! [`NotAdmitted`], and says [`Renew`] before its tokens end, which is answered likewise. [`Revocations`] says on
//! link-up which tokens hold no longer.
//!
//! Frames, all direct: the link proves who speaks. An [`Invite`] is one line of text that a person carries from one
//! machine to the other; it is a secret, worth what it admits to, until it is used or expires.

use std::fmt;
use std::str::FromStr;

use dms_actors::clock::Timestamp;
use dms_actors::{ContentId, Did};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::ability::Role;
use crate::advert::check_addresses;
use crate::bounded;
use crate::carried::{CarriedError, Form};
use crate::token::{Credentials, MAX_TOKEN_LENGTH};

/// How an invite is carried.
const FORM: Form = Form { what: "an invite", prefix: "dms-invite-1-", max_length: 4096 };
/// Most revocations in one word.
pub const MAX_REVOCATIONS: usize = 32;
/// Longest revocation in bytes; it has about 300.
const MAX_REVOCATION_LENGTH: usize = MAX_TOKEN_LENGTH;

/// What an invited node knows and nobody else: 128 random bits. Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteSecret(#[serde(with = "serde_bytes")] [u8; 16]);

impl InviteSecret {
    /// A secret of these random bits.
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(bits)
    }

    /// The name of the invite: what the inviter keeps, and from which nobody learns the secret.
    pub fn invite(&self) -> ContentId {
        ContentId::of_bytes(&self.0)
    }
}

impl fmt::Debug for InviteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteSecret(…)")
    }
}

/// Everything that a machine needs to come into a mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// Whose mesh: the node that admits.
    pub inviter: Did,
    /// The mesh's name.
    pub network: String,
    /// Where the inviter can be dialled.
    pub addresses: Vec<String>,
    /// The secret.
    pub secret: InviteSecret,
    /// As what; the inviter's books decide.
    pub role: Role,
    /// Until when, by the inviter's clock.
    pub expires: Timestamp,
    /// The key of a private mesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre_shared_key: Option<PreSharedKey>,
}

/// The key without which nobody connects to any node of a private mesh: 256 random bits. Not shown by `Debug`.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreSharedKey(#[serde(with = "serde_bytes")] pub [u8; 32]);

impl fmt::Debug for PreSharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PreSharedKey(…)")
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&FORM.write(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Invite {
    type Err = CarriedError;

    fn from_str(text: &str) -> Result<Self, CarriedError> {
        let invite: Self = FORM.read(text)?;
        check_addresses(&invite.addresses).map_err(|why| FORM.wrong(why))?;
        crate::check_text("network", &invite.network).map_err(|why| FORM.wrong(why))?;
        Ok(invite)
    }
}

/// An invited node asks to be admitted. Said again on every link-up until it is answered; the same node is admitted
/// again by the invite that it has used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// What only an invited node knows.
    pub secret: InviteSecret,
}
dms_actors::wire_message!(Join, "dms.join", 1);

/// A node asks for fresh tokens in the place of those that will end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {}
dms_actors::wire_message!(Renew, "dms.renew", 1);

/// Here are your tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Admitted {
    /// The invite, if one was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<ContentId>,
    /// What the receiver may show from now on: the new token, and those that it follows from.
    pub credentials: Credentials,
}
dms_actors::wire_message!(Admitted, "dms.admitted", 1);

/// You get none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotAdmitted {
    /// The invite, if one was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invite: Option<ContentId>,
    /// Why.
    pub reason: NotAdmittedReason,
}
dms_actors::wire_message!(NotAdmitted, "dms.not-admitted", 1);

/// Why a node is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NotAdmittedReason {
    /// No such invite, or it was withdrawn.
    #[error("there is no such invite (any more)")]
    Unknown,
    /// It was used by as many as it admits.
    #[error("the invite was used already")]
    Used,
    /// It has expired.
    #[error("the invite has expired")]
    Expired,
    /// The node was trusted, and is no longer; or never was.
    #[error("this node is not trusted (any more)")]
    NotTrusted,
    /// A reason of a later version.
    #[serde(other)]
    #[error("for a reason of a later version")]
    Other,
}

/// Revocations that the sender knows, its own and others', as the bytes that were signed: each proves itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    /// At most [`MAX_REVOCATIONS`].
    #[serde(deserialize_with = "bounded::documents::<_, MAX_REVOCATIONS, MAX_REVOCATION_LENGTH>")]
    pub revocations: Vec<ByteBuf>,
}
dms_actors::wire_message!(Revocations, "dms.revocations", 1);

#[cfg(test)]
mod tests {
    use super::*;
    use dms_actors::Keypair;
    use proptest::prelude::*;

    fn invite() -> Invite {
        Invite {
            inviter: Keypair::from_secret(&[1; 32]).did(),
            network: "home".into(),
            addresses: vec!["/ip4/192.168.1.10/tcp/4001".into(), "/ip4/192.168.1.10/udp/4001/quic-v1".into()],
            secret: InviteSecret::from_random([7; 16]),
            role: Role::Member,
            expires: Timestamp(1_800_000_000_000),
            pre_shared_key: None,
        }
    }

    #[test]
    fn an_invite_is_one_line_that_says_itself_again() {
        for invite in [invite(), Invite { pre_shared_key: Some(PreSharedKey([9; 32])), ..invite() }] {
            let text = invite.to_string();
            assert!(text.len() < 500 && !text.contains(char::is_whitespace), "{text}");
            assert_eq!(text.parse(), Ok(invite.clone()));
            assert_eq!(format!(" {text}\n").parse(), Ok(invite), "as it is pasted");
        }
    }

    #[test]
    fn a_changed_letter_is_a_mistyped_invite() {
        let text = invite().to_string();
        for place in FORM.prefix.len()..text.len() {
            let mut letters: Vec<char> = text.chars().collect();
            letters[place] = if letters[place] == 'a' { 'b' } else { 'a' };
            let changed: String = letters.into_iter().collect();
            assert_eq!(changed.parse::<Invite>(), Err(CarriedError::Mistyped(FORM.what)), "{place}");
            assert_eq!(
                text[..place].parse::<Invite>(),
                Err(CarriedError::Mistyped(FORM.what)),
                "cut at {place}"
            );
        }
        assert!(matches!("hello".parse::<Invite>(), Err(CarriedError::Prefix { .. })));
        let long = format!("{}{}", FORM.prefix, "1".repeat(FORM.max_length + 1));
        assert_eq!(long.parse::<Invite>(), Err(CarriedError::Mistyped(FORM.what)));
        let other = format!("{}{}", FORM.prefix, bs58::encode(b"\x80").with_check().into_string());
        assert!(matches!(other.parse::<Invite>(), Err(CarriedError::Content { .. })));
    }

    #[test]
    fn no_secret_is_printed() {
        let invite = Invite { pre_shared_key: Some(PreSharedKey([9; 32])), ..invite() };
        let shown = format!("{invite:?} {:?}", Join { secret: invite.secret });
        assert!(!shown.contains("7, 7") && !shown.contains("9, 9"), "{shown}");
    }

    #[test]
    fn more_revocations_than_are_said_are_not_read() {
        let read = |count: usize, length: usize| {
            let word = Revocations { revocations: vec![ByteBuf::from(vec![0; length]); count] };
            crate::from_canonical::<Revocations>(&crate::to_canonical(&word).unwrap()).is_ok()
        };
        assert!(read(0, 0) && read(MAX_REVOCATIONS, MAX_REVOCATION_LENGTH));
        assert!(!read(MAX_REVOCATIONS + 1, 1) && !read(1, MAX_REVOCATION_LENGTH + 1));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text in "(dms-invite-1-)?[1-9A-Za-z]{0,80}") {
            prop_assert!(text.parse::<Invite>().is_err());
        }
    }
}
