//! Who somebody is: the key of this node, and of people who use this machine; the secrets whose loss cannot be repaired.
//!
//! [`crate::cli`] creates and opens them, [`crate::startup`] is given the node's. [`key_file`] says how a key lies on
//! disk, [`sealed`] how it is put under a passphrase and carried elsewhere, [`names`] which keys there are beside the
//! node's. A key that is missing may be made; one that is damaged, or that others can read, stops everything: a new
//! key would be another node, and its owner's capacity, jobs and name would silently be gone.

pub mod key_file;
pub mod names;
pub mod passphrase;
pub mod sealed;

use std::io;
use std::path::{Path, PathBuf};

use did_key::DIDCore;
use dms_messages::{Did, Keypair};

pub use self::key_file::{KeyFile, StoredKey};
pub use self::names::{IdentityName, named};
pub use self::passphrase::{Passphrase, PassphraseError};
pub use self::sealed::{Cost, SealError, SealedKey};

/// The name of the node's key file in the data directory.
pub const FILE_NAME: &str = "key";
/// Where the books lie in the data directory; they belong to the key.
pub const BOOKS: &str = "db";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// There is no key file.
    #[error("no identity in {}; make one with `dms onboard`", directory.display())]
    Missing {
        /// The data directory.
        directory: PathBuf,
    },
    /// The file, or its directory, cannot be read or written.
    #[error("cannot use {}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not what was written.
    #[error("the key file {} is damaged: {what}; restore it from a backup (no new key is made)", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong. Never holds a part of the secret.
        what: &'static str,
    },
    /// Others than the owner can get at it.
    #[error("{} is open to others (mode {mode:04o}); close it with `chmod go-rwx {}`", path.display(), path.display())]
    TooOpen {
        /// The file or its directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is a key already; it is never overwritten.
    #[error("{} exists already", path.display())]
    AlreadyExists {
        /// The file.
        path: PathBuf,
    },
    /// The key is gone, and the books of the node that it made are still there.
    #[error(
        "the key in {} is gone but its node's books are there: put the key back, or move the directory away to begin anew",
        directory.display()
    )]
    Lost {
        /// The data directory.
        directory: PathBuf,
    },
    /// The key is under a passphrase, and nobody has said it.
    #[error("the key of {did} is under a passphrase")]
    Sealed {
        /// Whose key.
        did: Did,
    },
    /// The key was not sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is no passphrase.
    #[error(transparent)]
    Passphrase(#[from] PassphraseError),
    /// The key is another's than when it was opened.
    #[error("the key in {} was changed meanwhile", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// Who somebody is: a key pair, opened.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The key pair; its secret is wiped when dropped.
    pub keypair: Keypair,
}

impl Identity {
    /// A new one, which is nowhere yet.
    ///
    /// # Errors
    /// `Randomness`.
    pub fn generate() -> Result<Self, IdentityError> {
        let keypair = Keypair::generate().map_err(|error| IdentityError::Randomness(error.to_string()))?;
        Ok(Self { keypair })
    }

    /// The public name.
    pub fn did(&self) -> Did {
        self.keypair.did()
    }

    /// The node's identity in `directory`; makes one if there is none.
    ///
    /// # Errors
    /// Those of [`Identity::load`] and [`Identity::create`], and `Lost`.
    pub fn load_or_create(directory: &Path) -> Result<Self, IdentityError> {
        stored_or_new(directory)?.bare()
    }

    /// The node's identity in `directory`.
    ///
    /// # Errors
    /// `Missing`, `Unreadable`, `TooOpen`, `Corrupt`, `Sealed`.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        KeyFile::of_node(directory).read()?.bare()
    }

    /// Makes a new identity for the node in `directory`, which is made too if need be (mode 0700).
    ///
    /// The key is on disk, whole, when this returns, or not at all.
    ///
    /// # Errors
    /// `AlreadyExists`, `Unreadable`, `TooOpen`, `Randomness`.
    pub fn create(directory: &Path) -> Result<Self, IdentityError> {
        let identity = Self::generate()?;
        KeyFile::of_node(directory).create(&StoredKey::Bare(identity.clone()))?;
        Ok(identity)
    }
}

/// The node's key in `directory`, under a passphrase or not; makes one if there is none.
///
/// # Errors
/// As [`Identity::load_or_create`], without `Sealed`.
pub fn stored_or_new(directory: &Path) -> Result<StoredKey, IdentityError> {
    let file = KeyFile::of_node(directory);
    match file.read() {
        Err(IdentityError::Missing { .. }) if directory.join(BOOKS).exists() => {
            Err(IdentityError::Lost { directory: directory.to_path_buf() })
        }
        Err(IdentityError::Missing { .. }) => match Identity::create(directory) {
            // Somebody else made it between the two.
            Err(IdentityError::AlreadyExists { .. }) => file.read(),
            created => created.map(StoredKey::Bare),
        },
        read => read,
    }
}

/// The W3C DID document of `did`: its verification keys as JSON Web Keys.
pub fn did_document(did: &Did) -> serde_json::Value {
    // The did-key crate panics on hostile input; a `Did` is a checked Ed25519 key.
    let keys = did_key::from_existing_key::<did_key::Ed25519KeyPair>(did.public_key(), None);
    let document = keys.get_did_document(did_key::CONFIG_JOSE_PUBLIC);
    let mut document = serde_json::to_value(document).expect("a DID document is plain data");
    // `JsonWebKey2020` is defined in a context of its own, which the crate does not name.
    document["@context"] =
        serde_json::json!(["https://www.w3.org/ns/did/v1", "https://w3id.org/security/suites/jws-2020/v1"]);
    document
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_stays_the_same() {
        let base = tempfile::tempdir().unwrap();
        let data = base.path().join("a/b");
        assert!(matches!(Identity::load(&data), Err(IdentityError::Missing { .. })));
        let made = Identity::load_or_create(&data).unwrap();
        assert_eq!(Identity::load_or_create(&data).unwrap().did(), made.did());
        assert!(matches!(Identity::create(&data), Err(IdentityError::AlreadyExists { .. })));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&data), 0o700);
        assert_eq!(mode(&data.join(FILE_NAME)), 0o600);
        assert_eq!(fs::read_dir(&data).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn the_document_names_the_did_and_its_key_and_no_secret() {
        let did = Keypair::from_secret(&[7; 32]).did();
        let document = did_document(&did);
        assert_eq!(document["id"], did.to_string());
        let fragment = did.to_string().replacen("did:key:", "", 1);
        assert_eq!(document["authentication"][0], format!("{did}#{fragment}"));
        assert_eq!(document["verificationMethod"][0]["publicKeyJwk"]["crv"], "Ed25519");
        assert!(!document.to_string().contains("privateKey"));
    }

    #[test]
    fn the_did_key_crate_agrees_with_our_codec() {
        for seed in 0..32u8 {
            let did = Keypair::from_secret(&[seed; 32]).did();
            let keys = did_key::resolve(&did.to_string()).expect("resolves");
            assert_eq!(did_key::KeyMaterial::public_key_bytes(&keys), did.public_key());
        }
    }
}
