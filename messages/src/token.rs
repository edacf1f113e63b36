//! `Token`: its issuer lets its audience do something; `Revocation`: and now no longer.
//!
//! Both are signed. A token names the one that it follows from, so that a chain of them proves to whoever trusts the
//! first issuer what the last audience may do. A holder shows its tokens ([`Credentials`]) when a link opens and with
//! what it gossips; a revocation is gossiped, and told to every peer on link-up. A token ends at its expiry and is
//! renewed before by whoever issued it, as long as that node trusts its holder; a revocation is kept as long as its
//! token would have held.

use std::collections::BTreeSet;

use dms_actors::ContentId;
use dms_actors::signed::{Document, Signed};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::ability::{Ability, any_covers};
use crate::carried::{CarriedError, Form};

/// Most abilities in a token.
const MAX_ABILITIES: usize = 16;
/// Most topics that a token names.
const MAX_TOPICS: usize = 8;
/// Longest name of a topic in bytes.
const MAX_TOPIC_LENGTH: usize = 64;
/// Most tokens that may follow on one another.
pub const MAX_TOKEN_DEPTH: u8 = 7;
/// Most tokens that are shown at a time.
pub const MAX_SHOWN_TOKENS: usize = 16;
/// Longest token in bytes that is shown; sixteen of them fit beside an advert into a gossiped message.
pub const MAX_TOKEN_LENGTH: usize = 1024;

/// What an issuer lets its audience do.
///
/// The signed header has the rest: who ([`Signed::issuer`]) lets whom (the audience, which every token has), in which
/// mesh, from when until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// What is allowed; 1 to 16.
    pub abilities: BTreeSet<Ability>,
    /// The gossip topics on which it may be done, by their last name (`advert`); none for all, and for what is said
    /// directly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<BTreeSet<String>>,
    /// How many tokens may follow on this one; 0: its audience lets nobody else.
    pub depth: u8,
    /// The token that lets the issuer; none if the issuer speaks for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ContentId>,
}

impl Document for Token {
    const KIND: &'static str = "dms.token";
    const VERSION: u16 = 1;

    fn check(&self) -> Result<(), String> {
        if self.abilities.is_empty() || self.abilities.len() > MAX_ABILITIES {
            return Err(format!("a token has between 1 and {MAX_ABILITIES} abilities"));
        }
        if self.depth > MAX_TOKEN_DEPTH {
            return Err(format!("at most {MAX_TOKEN_DEPTH} tokens follow on one"));
        }
        let topics = self.topics.iter().flatten();
        if topics.clone().count() > MAX_TOPICS {
            return Err(format!("a token names at most {MAX_TOPICS} topics"));
        }
        for topic in topics {
            let is_name = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
            if topic.is_empty() || topic.len() > MAX_TOPIC_LENGTH || !topic.bytes().all(is_name) {
                return Err(format!("a topic's name is 1 to {MAX_TOPIC_LENGTH} letters, digits and dashes"));
            }
        }
        Ok(())
    }
}

impl Token {
    /// True if it allows all that `other` does.
    pub fn allows_all_of(&self, other: &Self) -> bool {
        let is_on_topic = match (&self.topics, &other.topics) {
            (None, _) => true,
            (Some(topics), Some(others)) => others.is_subset(topics),
            (Some(_), None) => false,
        };
        is_on_topic
            && self.depth >= other.depth
            && other.abilities.iter().all(|ability| any_covers(&self.abilities, ability.as_str()))
    }

    /// True if it allows this, as far as abilities and topics go; a topic of none is what is said directly.
    pub fn allows(&self, ability: &str, topic: Option<&str>) -> bool {
        let is_there = match (&self.topics, topic) {
            (None, _) => true,
            (Some(topics), Some(topic)) => topics.contains(topic),
            (Some(_), None) => false,
        };
        is_there && any_covers(&self.abilities, ability)
    }
}

/// A token holds no longer. Signed by its issuer, or by the issuer of one that it follows from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    /// The token; those that follow from it fall with it.
    pub token: ContentId,
}

impl Document for Revocation {
    const KIND: &'static str = "dms.revocation";
    const VERSION: u16 = 1;
}

/// The tokens that somebody shows, in any order, as the bytes that were signed: whoever reads them checks each once
/// and remembers it. Bounded when they are read: at most [`MAX_SHOWN_TOKENS`] of [`MAX_TOKEN_LENGTH`] bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<ByteBuf>")]
pub struct Credentials(Vec<ByteBuf>);

/// More, or longer, tokens than may be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("at most {MAX_SHOWN_TOKENS} tokens of {MAX_TOKEN_LENGTH} bytes are shown at a time")]
pub struct CredentialsError;

impl Credentials {
    /// Credentials of these tokens; what is too long or too much is left out.
    pub fn of<'a>(tokens: impl IntoIterator<Item = &'a Signed<Token>>) -> Self {
        let mut shown: Vec<ByteBuf> = Vec::new();
        for token in tokens {
            let is_new = shown.iter().all(|other| other.as_slice() != token.bytes());
            if token.bytes().len() <= MAX_TOKEN_LENGTH && is_new && shown.len() < MAX_SHOWN_TOKENS {
                shown.push(ByteBuf::from(token.bytes()));
            }
        }
        Self(shown)
    }

    /// True if nothing is shown.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes of each token.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|bytes| bytes.as_slice())
    }
}

/// How tokens are carried: a chain of as many as may follow on one another.
const FORM: Form = Form { what: "a token", prefix: "dms-token-1-", max_length: 8 * 1024 };

impl std::fmt::Display for Credentials {
    /// One word, for people to carry.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&FORM.write(self).map_err(|_| std::fmt::Error)?)
    }
}

impl std::str::FromStr for Credentials {
    type Err = CarriedError;

    fn from_str(text: &str) -> Result<Self, CarriedError> {
        FORM.read(text)
    }
}

impl TryFrom<Vec<ByteBuf>> for Credentials {
    type Error = CredentialsError;

    fn try_from(tokens: Vec<ByteBuf>) -> Result<Self, CredentialsError> {
        let is_bounded =
            tokens.len() <= MAX_SHOWN_TOKENS && tokens.iter().all(|token| token.len() <= MAX_TOKEN_LENGTH);
        is_bounded.then_some(Self(tokens)).ok_or(CredentialsError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ability::{PROVIDE_BID, REQUEST_BIDS, Role};

    fn token() -> Token {
        Token { abilities: Role::Requester.abilities(), topics: None, depth: 0, parent: None }
    }

    #[test]
    fn a_token_that_breaks_a_rule_is_named() {
        assert_eq!(token().check(), Ok(()));
        let many = (0..17).map(|n| format!("/a{n}").parse().unwrap()).collect();
        let topics = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let table = [
            (Token { abilities: BTreeSet::new(), ..token() }, "between 1 and 16"),
            (Token { abilities: many, ..token() }, "between 1 and 16"),
            (Token { depth: 8, ..token() }, "at most 7"),
            (
                Token { topics: topics(&["a", "b", "c", "d", "e", "f", "g", "h", "i"]), ..token() },
                "at most 8",
            ),
            (Token { topics: topics(&["/dms/x"]), ..token() }, "a topic's name"),
            (Token { topics: topics(&[""]), ..token() }, "a topic's name"),
            (Token { topics: topics(&[&"a".repeat(65)]), ..token() }, "a topic's name"),
        ];
        for (token, reason) in table {
            let refused = token.check().unwrap_err();
            assert!(refused.contains(reason), "{token:?}: {refused}");
        }
    }

    #[test]
    fn a_topic_binds_what_is_gossiped_and_allows_nothing_that_is_said_directly() {
        let everywhere = token();
        assert!(
            everywhere.allows(REQUEST_BIDS, None) && everywhere.allows(REQUEST_BIDS, Some("bid-request"))
        );
        assert!(!everywhere.allows(PROVIDE_BID, None));
        let bound = Token { topics: Some(["bid-request".to_owned()].into()), ..token() };
        assert!(bound.allows(REQUEST_BIDS, Some("bid-request")));
        assert!(!bound.allows(REQUEST_BIDS, Some("advert")));
        assert!(!bound.allows(REQUEST_BIDS, None));
    }

    #[test]
    fn what_allows_all_of_another_may_take_its_place() {
        let topics = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        let wide = Token { abilities: Role::Member.abilities(), ..token() };
        assert!(wide.allows_all_of(&token()) && !token().allows_all_of(&wide));
        assert!(!wide.allows_all_of(&Token { depth: 1, ..token() }));
        let bound = Token { topics: topics(&["advert", "bid-request"]), ..token() };
        assert!(token().allows_all_of(&bound) && !bound.allows_all_of(&token()));
        assert!(bound.allows_all_of(&Token { topics: topics(&["advert"]), ..token() }));
        assert!(!bound.allows_all_of(&Token { topics: topics(&["status"]), ..token() }));
    }

    #[test]
    fn tokens_are_carried_as_one_word_and_a_changed_letter_is_noticed() {
        let credentials = Credentials(vec![ByteBuf::from([1; 300]), ByteBuf::from([2; 200])]);
        let text = credentials.to_string();
        assert!(!text.contains(char::is_whitespace));
        assert_eq!(format!("{text}\n").parse(), Ok(credentials));
        for place in (FORM.prefix.len()..text.len()).step_by(7) {
            let mut letters: Vec<char> = text.chars().collect();
            letters[place] = if letters[place] == 'a' { 'b' } else { 'a' };
            let changed: String = letters.into_iter().collect();
            assert_eq!(changed.parse::<Credentials>(), Err(CarriedError::Mistyped(FORM.what)), "{place}");
        }
        assert!(matches!("dms-invite-1-x".parse::<Credentials>(), Err(CarriedError::Prefix { .. })));
        let long = format!("{}{}", FORM.prefix, "1".repeat(FORM.max_length + 1));
        assert_eq!(long.parse::<Credentials>(), Err(CarriedError::Mistyped(FORM.what)));
    }

    #[test]
    fn too_many_or_too_long_tokens_are_not_read() {
        let read = |tokens: Vec<ByteBuf>| {
            let bytes = crate::to_canonical(&tokens).unwrap();
            crate::from_canonical::<Credentials>(&bytes).map(|it| it.iter().count())
        };
        assert_eq!(read(vec![]), Ok(0));
        assert_eq!(read(vec![ByteBuf::from([0; MAX_TOKEN_LENGTH]); MAX_SHOWN_TOKENS]), Ok(MAX_SHOWN_TOKENS));
        assert!(read(vec![ByteBuf::from([0; MAX_TOKEN_LENGTH + 1])]).is_err());
        assert!(read(vec![ByteBuf::new(); MAX_SHOWN_TOKENS + 1]).is_err());
    }
}
