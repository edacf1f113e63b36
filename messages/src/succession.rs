//! `Succession`: somebody has a new key; and `Successions`, all that led to the key that somebody has now.
//!
//! Signed by the old key, for everybody. The new key says it over its own links, and so agrees to it: on link-up, before
//! anything else. Whoever trusted the old name trusts the new one from then on, as far as the old one was trusted. It
//! proves that the old key said so, and no more: a thief of that key can say the same, so it is for keys that are
//! renewed, and not for keys that were stolen.

use std::fmt;
use std::str::FromStr;

use dms_actors::Did;
use dms_actors::signed::{Document, Signed};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use crate::bounded;
use crate::carried::{CarriedError, Form};

/// How successions are carried: as many as are said.
const FORM: Form = Form { what: "a succession", prefix: "dms-succession-1-", max_length: 12 * 1024 };
/// Most keys, one after another, that somebody speaks of.
pub const MAX_SUCCESSIONS: usize = 16;
/// Longest succession in bytes; it has about 300.
const MAX_SUCCESSION_LENGTH: usize = 512;

/// From now on the issuer has this name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succession {
    /// The new DID.
    pub new: Did,
}

impl Document for Succession {
    const KIND: &'static str = "dms.succession";
    const VERSION: u16 = 1;
}

/// The successions that led to somebody's present name, the oldest first, as the bytes that were signed. Bounded when
/// they are read: at most [`MAX_SUCCESSIONS`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Successions {
    /// Each is signed by whom the one before it names.
    #[serde(deserialize_with = "bounded::documents::<_, MAX_SUCCESSIONS, MAX_SUCCESSION_LENGTH>")]
    pub successions: Vec<ByteBuf>,
}
dms_actors::wire_message!(Successions, "dms.successions", 1);

impl Successions {
    /// What there is to say of these; the newest, if they are too many.
    pub fn of<'s>(successions: impl IntoIterator<Item = &'s Signed<Succession>>) -> Self {
        let mut successions: Vec<ByteBuf> =
            successions.into_iter().map(|one| ByteBuf::from(one.bytes())).collect();
        successions.drain(..successions.len().saturating_sub(MAX_SUCCESSIONS));
        Self { successions }
    }
}

impl fmt::Display for Successions {
    /// One word, for people to carry.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&FORM.write(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for Successions {
    type Err = CarriedError;

    fn from_str(text: &str) -> Result<Self, CarriedError> {
        FORM.read(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_successions_than_are_said_are_not_read() {
        let read = |count: usize, length: usize| {
            let word = Successions { successions: vec![ByteBuf::from(vec![0; length]); count] };
            crate::from_canonical::<Successions>(&crate::to_canonical(&word).unwrap()).is_ok()
        };
        assert!(read(0, 0) && read(MAX_SUCCESSIONS, MAX_SUCCESSION_LENGTH));
        assert!(!read(MAX_SUCCESSIONS + 1, 1) && !read(1, MAX_SUCCESSION_LENGTH + 1));
    }

    #[test]
    fn they_are_carried_as_one_line_and_a_changed_letter_is_noticed() {
        let whole = Successions { successions: vec![ByteBuf::from(vec![7; MAX_SUCCESSION_LENGTH]); 16] };
        let text = whole.to_string();
        assert_eq!(text.parse(), Ok(whole));
        let short = Successions { successions: vec![ByteBuf::from(vec![7; 40])] }.to_string();
        for place in 0..short.len() {
            let mut letters: Vec<char> = short.chars().collect();
            letters[place] = if letters[place] == 'a' { 'b' } else { 'a' };
            let changed: String = letters.into_iter().collect();
            assert!(changed.parse::<Successions>().is_err(), "letter {place}");
        }
    }
}
