//! What a person carries from one machine to another: one word that says what it is and notices a changed letter.
//!
//! A prefix with a version, then canonical CBOR in base58 with a check sum.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{CborError, from_canonical, to_canonical};

/// How one thing is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    /// What it is, for people: `an invite`.
    pub what: &'static str,
    /// What the text begins with: what it is, and the version of its form.
    pub prefix: &'static str,
    /// Longest text after the prefix that is looked at, in bytes: base58 takes time that grows with the square.
    pub max_length: usize,
}

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CarriedError {
    /// It does not begin as such.
    #[error("{what} begins with {prefix}")]
    Prefix {
        /// What it should be.
        what: &'static str,
        /// What it would begin with.
        prefix: &'static str,
    },
    /// Letters were changed, added or lost on the way.
    #[error("{0} that was not copied whole, or mistyped")]
    Mistyped(&'static str),
    /// It is whole, and does not say what it should.
    #[error("not {what} of this version: {why}")]
    Content {
        /// What it should be.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl Form {
    /// `value` as text.
    ///
    /// # Errors
    /// [`CborError`], if it cannot be encoded.
    pub fn write(&self, value: &impl Serialize) -> Result<String, CborError> {
        let body = bs58::encode(to_canonical(value)?).with_check().into_string();
        Ok(format!("{}{body}", self.prefix))
    }

    /// What a text says; white space around it is what pasting leaves.
    ///
    /// # Errors
    /// [`CarriedError`].
    pub fn read<T: DeserializeOwned>(&self, text: &str) -> Result<T, CarriedError> {
        let Self { what, prefix, max_length } = *self;
        let body = text.trim().strip_prefix(prefix).ok_or(CarriedError::Prefix { what, prefix })?;
        if body.len() > max_length {
            return Err(CarriedError::Mistyped(what));
        }
        let bytes = bs58::decode(body).with_check(None).into_vec();
        let bytes = bytes.map_err(|_| CarriedError::Mistyped(what))?;
        from_canonical(&bytes).map_err(|error| self.wrong(error.to_string()))
    }

    /// The error of a text that is whole and says something wrong.
    pub fn wrong(&self, why: impl Into<String>) -> CarriedError {
        CarriedError::Content { what: self.what, why: why.into() }
    }
}
