//! The secret half of an identity: an Ed25519 key that signs documents.

use std::fmt;

use ed25519_dalek::{Signer, SigningKey};
use zeroize::Zeroizing;

use super::Did;

/// Length of a secret key in bytes.
pub const SECRET_KEY_LENGTH: usize = 32;

/// An Ed25519 key pair. Its secret is wiped when dropped and is never printed or serialised.
#[derive(Clone)]
pub struct Keypair {
    key: SigningKey,
    /// Kept: every signature names it, and checking a point costs as much as signing.
    did: Did,
}

impl Keypair {
    /// Draws a new key from the operating system's randomness.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = Zeroizing::new([0; SECRET_KEY_LENGTH]);
        getrandom::fill(secret.as_mut())?;
        Ok(Self::from_secret(&secret))
    }

    /// The key pair of a stored secret.
    pub fn from_secret(secret: &[u8; SECRET_KEY_LENGTH]) -> Self {
        let key = SigningKey::from_bytes(secret);
        // A key derived from a secret is a valid point of full order by construction.
        let did = Did::from_public_key(key.verifying_key().as_bytes())
            .expect("a derived public key is a valid point");
        Self { key, did }
    }

    /// The secret, for the key file and for the transport that proves this key to peers.
    pub fn secret(&self) -> Zeroizing<[u8; SECRET_KEY_LENGTH]> {
        Zeroizing::new(self.key.to_bytes())
    }

    /// The public name of this key.
    pub fn did(&self) -> Did {
        self.did
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keypair").field(&self.did).finish()
    }
}
