//! A key under a passphrase: what lies in the key file instead of the bare secret, and what is exported.
//!
//! ```text
//! Argon2id(passphrase, salt, cost) ──► key of XChaCha20-Poly1305 ──► the secret: 32 bytes, sealed to 48
//!                                      bound to it: form, DID, cost, salt, nonce
//! dms-identity-1-… = base58 with a check sum of canonical CBOR {did, memory_kib, passes, lanes, salt, nonce, sealed}
//! ```
//!
//! The DID stands in the clear, so that who somebody is can be shown without the passphrase; it is bound to the secret
//! twice, as data that the seal authenticates and by being the secret's own. The cost is read from the text, so
//! it is bounded before any work is done: whoever alters the text makes us spend a few seconds at most.

use std::fmt;
use std::str::FromStr;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use dms_actors::identity::SECRET_KEY_LENGTH;
use dms_messages::carried::{CarriedError, Form};
use dms_messages::{Did, Keypair, to_canonical};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use super::passphrase::Passphrase;

/// How a sealed key is carried, and kept.
const FORM: Form = Form { what: "an identity", prefix: "dms-identity-1-", max_length: 512 };
/// Bytes that tell two sealings under one passphrase apart.
const SALT_LENGTH: usize = 16;
/// Bytes of an XChaCha20 nonce: so many that a random one never comes twice.
const NONCE_LENGTH: usize = 24;
/// Bytes of the Poly1305 tag.
const TAG_LENGTH: usize = 16;
/// Bytes of a key of XChaCha20-Poly1305.
const KEY_LENGTH: usize = 32;

/// What one try of a passphrase costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// How often all of it is gone through.
    pub passes: u32,
    /// In how many lanes; they are filled one after another here.
    pub lanes: u32,
}

impl Cost {
    /// What new keys cost: the second recommendation of RFC 9106 in one lane, a quarter of a second on a small machine.
    pub const STANDARD: Self = Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 };
    /// Most that is spent on a key that was read: 256 MiB, a few seconds.
    pub const MAX: Self = Self { memory_kib: 256 * 1024, passes: 16, lanes: 4 };

    /// The parameters, if no more is to be spent than a machine has and fewer than make no sense.
    fn params(self) -> Option<Params> {
        let Self { memory_kib, passes, lanes } = self;
        let is_bounded =
            memory_kib <= Self::MAX.memory_kib && passes <= Self::MAX.passes && lanes <= Self::MAX.lanes;
        is_bounded.then(|| Params::new(memory_kib, passes, lanes, Some(KEY_LENGTH)).ok()).flatten()
    }
}

/// Why a key was not sealed or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// Another passphrase, or another text than was written: the two look the same.
    #[error("the passphrase does not open the key of {did} (or the key was altered)")]
    WrongPassphrase {
        /// Whose key.
        did: Did,
    },
    /// More, or less, is to be spent than is accepted.
    #[error("the cost of {} KiB, {} passes and {} lanes is not accepted", cost.memory_kib, cost.passes, cost.lanes)]
    Cost {
        /// What is to be spent.
        cost: Cost,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// See the module.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedKey {
    did: Did,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    #[serde(with = "serde_bytes")]
    salt: [u8; SALT_LENGTH],
    #[serde(with = "serde_bytes")]
    nonce: [u8; NONCE_LENGTH],
    #[serde(with = "serde_bytes")]
    sealed: [u8; SECRET_KEY_LENGTH + TAG_LENGTH],
}

impl fmt::Debug for SealedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedKey")
            .field("did", &self.did)
            .field("cost", &self.cost())
            .finish_non_exhaustive()
    }
}

impl SealedKey {
    /// Seals a key under a passphrase, for whoever spends `cost` on each try.
    ///
    /// # Errors
    /// `Cost`, `Randomness`.
    pub fn seal(keypair: &Keypair, passphrase: &Passphrase, cost: Cost) -> Result<Self, SealError> {
        let mut key = Self {
            did: keypair.did(),
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: cost.lanes,
            salt: random()?,
            nonce: random()?,
            sealed: [0; SECRET_KEY_LENGTH + TAG_LENGTH],
        };
        let cipher = key.cipher(passphrase)?;
        let mut secret = keypair.secret();
        let nonce = XNonce::from(key.nonce);
        let tag = cipher.encrypt_in_place_detached(&nonce, &key.bound(), secret.as_mut());
        let tag = tag.expect("a secret is short enough to be sealed");
        let (sealed, of_tag) = key.sealed.split_at_mut(SECRET_KEY_LENGTH);
        sealed.copy_from_slice(secret.as_ref());
        of_tag.copy_from_slice(&tag);
        Ok(key)
    }

    /// Opens it.
    ///
    /// # Errors
    /// `WrongPassphrase`, `Cost`.
    pub fn open(&self, passphrase: &Passphrase) -> Result<Keypair, SealError> {
        let cipher = self.cipher(passphrase)?;
        let (sealed, tag) = self.sealed.split_at(SECRET_KEY_LENGTH);
        let mut secret = Zeroizing::new([0; SECRET_KEY_LENGTH]);
        secret.copy_from_slice(sealed);
        let wrong = SealError::WrongPassphrase { did: self.did };
        let nonce = XNonce::from(self.nonce);
        let opened = cipher.decrypt_in_place_detached(&nonce, &self.bound(), secret.as_mut(), tag.into());
        if opened.is_err() {
            return Err(wrong);
        }
        let keypair = Keypair::from_secret(&secret);
        if keypair.did() == self.did { Ok(keypair) } else { Err(wrong) }
    }

    /// Whose it is.
    pub fn did(&self) -> Did {
        self.did
    }

    /// What one try costs.
    pub fn cost(&self) -> Cost {
        Cost { memory_kib: self.memory_kib, passes: self.passes, lanes: self.lanes }
    }

    /// The cipher whose key the passphrase is worth. Spends the cost.
    fn cipher(&self, passphrase: &Passphrase) -> Result<XChaCha20Poly1305, SealError> {
        let cost = self.cost();
        let params = cost.params().ok_or(SealError::Cost { cost })?;
        // Ours, so that it is wiped.
        let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2
            .hash_password_into_with_memory(
                passphrase.as_bytes(),
                &self.salt,
                key.as_mut(),
                memory.as_mut_slice(),
            )
            .map_err(|_| SealError::Cost { cost })?;
        Ok(XChaCha20Poly1305::new((&*key).into()))
    }

    /// What the seal authenticates beside the secret: everything that is read.
    fn bound(&self) -> Vec<u8> {
        let Self { did, memory_kib, passes, lanes, salt, nonce, .. } = self;
        let parts =
            (FORM.prefix, did, memory_kib, passes, lanes, ByteBuf::from(*salt), ByteBuf::from(*nonce));
        to_canonical(&parts).expect("plain data can be encoded")
    }
}

fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| SealError::Randomness(error.to_string()))?;
    Ok(bytes)
}

impl fmt::Display for SealedKey {
    /// One word, for people to carry and to keep.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&FORM.write(self).map_err(|_| fmt::Error)?)
    }
}

impl FromStr for SealedKey {
    type Err = CarriedError;

    fn from_str(text: &str) -> Result<Self, CarriedError> {
        let key: Self = FORM.read(text)?;
        let cost = key.cost();
        match cost.params() {
            Some(_) => Ok(key),
            None => Err(FORM.wrong(SealError::Cost { cost }.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As little as Argon2 takes: the tests are about what is refused, not about how long it takes.
    const LITTLE: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.to_owned())).unwrap()
    }

    fn sealed() -> (Keypair, SealedKey) {
        let keypair = Keypair::from_secret(&[7; 32]);
        let key = SealedKey::seal(&keypair, &passphrase("correct horse"), LITTLE).unwrap();
        (keypair, key)
    }

    #[test]
    fn what_was_sealed_is_opened_by_its_passphrase_alone() {
        let (keypair, key) = sealed();
        let text = key.to_string();
        assert!(text.len() < 400 && !text.contains(char::is_whitespace), "{text}");
        let read: SealedKey = text.parse().unwrap();
        assert_eq!((&read, read.did()), (&key, keypair.did()));
        assert_eq!(read.open(&passphrase("correct horse")).unwrap().secret(), keypair.secret());
        let wrong = Err(SealError::WrongPassphrase { did: keypair.did() });
        for other in ["correct horse ", "Correct horse", "x"] {
            assert_eq!(read.open(&passphrase(other)).map(|keys| keys.did()), wrong);
        }
        let (_, again) = sealed();
        assert!(again.salt != key.salt && again.nonce != key.nonce && again.sealed != key.sealed);
    }

    #[test]
    fn a_changed_letter_is_noticed_wherever_it_is() {
        let text = sealed().1.to_string();
        for place in 0..text.len() {
            let mut letters: Vec<char> = text.chars().collect();
            letters[place] = if letters[place] == 'a' { 'b' } else { 'a' };
            let changed: String = letters.into_iter().collect();
            assert!(changed.parse::<SealedKey>().is_err(), "letter {place}");
            assert!(text[..place].parse::<SealedKey>().is_err(), "cut at {place}");
        }
    }

    /// Whoever writes the check sum anew has changed no less.
    #[test]
    fn a_field_that_was_altered_with_care_is_refused_by_the_seal() {
        let (_, key) = sealed();
        let other = Keypair::from_secret(&[8; 32]).did();
        let mut altered = vec![
            SealedKey { did: other, ..key.clone() },
            SealedKey { memory_kib: 16, ..key.clone() },
            SealedKey { passes: 2, ..key.clone() },
            SealedKey { lanes: 2, memory_kib: 16, ..key.clone() },
        ];
        let flipped = |length: usize, flip: &dyn Fn(&mut SealedKey, usize)| {
            let flip = |place| {
                let mut key = key.clone();
                flip(&mut key, place);
                key
            };
            (0..length).map(flip).collect::<Vec<_>>()
        };
        altered.extend(flipped(SALT_LENGTH, &|key, place| key.salt[place] ^= 1));
        altered.extend(flipped(NONCE_LENGTH, &|key, place| key.nonce[place] ^= 1));
        altered.extend(flipped(key.sealed.len(), &|key, place| key.sealed[place] ^= 1));
        for key in altered {
            let read: SealedKey = key.to_string().parse().unwrap();
            let opened = read.open(&passphrase("correct horse")).map(|keys| keys.did());
            assert_eq!(opened, Err(SealError::WrongPassphrase { did: key.did }), "{key:?}");
        }
    }

    #[test]
    fn what_would_cost_too_much_is_refused_before_it_is_spent() {
        let (keypair, key) = sealed();
        let table = [
            Cost { memory_kib: u32::MAX, ..LITTLE },
            Cost { memory_kib: 64 * 1024 * 1024, ..LITTLE },
            Cost { memory_kib: Cost::MAX.memory_kib + 1, ..LITTLE },
            Cost { memory_kib: 7, ..LITTLE },
            Cost { memory_kib: 0, ..LITTLE },
            Cost { passes: 0, ..LITTLE },
            Cost { passes: u32::MAX, ..LITTLE },
            Cost { lanes: 0, ..LITTLE },
            Cost { lanes: 5, memory_kib: 64, ..LITTLE },
        ];
        for cost in table {
            let Cost { memory_kib, passes, lanes } = cost;
            let key = SealedKey { memory_kib, passes, lanes, ..key.clone() };
            let refused = key.to_string().parse::<SealedKey>().unwrap_err().to_string();
            assert!(refused.contains("is not accepted"), "{cost:?}: {refused}");
            let opened = key.open(&passphrase("correct horse")).map(|keys| keys.did());
            assert_eq!(opened, Err(SealError::Cost { cost }));
            assert_eq!(
                SealedKey::seal(&keypair, &passphrase("correct horse"), cost),
                Err(SealError::Cost { cost })
            );
        }
        assert!(Cost::STANDARD.params().is_some() && Cost::MAX.params().is_some());
    }

    #[test]
    fn nothing_of_the_secret_is_printed() {
        let (_, key) = sealed();
        assert_eq!(format!("{key:?}"), format!("SealedKey {{ did: {:?}, cost: {LITTLE:?}, .. }}", key.did()),);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(dms-identity-1-)?[1-9A-Za-z]{0,80}") {
            proptest::prop_assert!(text.parse::<SealedKey>().is_err());
        }
    }
}
