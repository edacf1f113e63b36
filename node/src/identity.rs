//! The key file: the one secret of a node, and the only file whose loss cannot be repaired.
//!
//! [`crate::cli`] creates it, [`crate::startup`] loads it. A key that is missing may be made; one that is
//! damaged, or that others can read, stops everything: a new key would be another node, and its owner's
//! capacity, jobs and name would silently be gone.
//!
//! The file is text of three lines: the version, the secret in hex, and the DID that belongs to it. The
//! DID is derived from the secret, so a file that was cut or altered anywhere does not agree with itself.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use did_key::DIDCore;
use dms_messages::{Did, Keypair};
use zeroize::Zeroizing;

/// The file's name in the data directory.
pub const FILE_NAME: &str = "key";
/// Where the books lie in the data directory; they belong to the key.
pub const BOOKS: &str = "db";
/// The first line: the form and its version.
const HEADER: &str = "dms-secret-key-1";
/// Longest file that is looked at; a key file has 150 bytes.
const MAX_FILE_BYTES: u64 = 1024;

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
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// Who this node is: its key pair, read from or written to disk.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The key pair; its secret is wiped when dropped.
    pub keypair: Keypair,
}

impl Identity {
    /// The public name.
    pub fn did(&self) -> Did {
        self.keypair.did()
    }

    /// The identity in `directory`; makes one if there is none.
    pub fn load_or_create(directory: &Path) -> Result<Self, IdentityError> {
        match Self::load(directory) {
            Err(IdentityError::Missing { .. }) if directory.join(BOOKS).exists() => {
                Err(IdentityError::Lost { directory: directory.to_path_buf() })
            }
            Err(IdentityError::Missing { .. }) => match Self::create(directory) {
                // Somebody else made it between the two.
                Err(IdentityError::AlreadyExists { .. }) => Self::load(directory),
                created => created,
            },
            loaded => loaded,
        }
    }

    /// The identity in `directory`.
    ///
    /// Errors: `Missing`, `Unreadable`, `TooOpen`, `Corrupt`.
    pub fn load(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(FILE_NAME);
        let unreadable = |source| IdentityError::Unreadable { path: path.clone(), source };
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing { directory: directory.to_path_buf() });
            }
            metadata => metadata.map_err(unreadable)?,
        };
        let corrupt = |what| IdentityError::Corrupt { path: path.clone(), what };
        if !metadata.is_file() {
            return Err(corrupt("it is not a file"));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::TooOpen { path, mode });
        }
        check_directory(directory)?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err(corrupt("it is too long"));
        }
        let text = Zeroizing::new(fs::read(&path).map_err(unreadable)?);
        decode(&text).map(|keypair| Self { keypair }).map_err(corrupt)
    }

    /// Makes a new identity in `directory`, which is made too if need be (mode 0700).
    ///
    /// The key is on disk, whole, when this returns, or not at all. Errors: `AlreadyExists`, `Unreadable`,
    /// `TooOpen`, `Randomness`.
    pub fn create(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(FILE_NAME);
        let unusable = |source| IdentityError::Unreadable { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
        check_directory(directory)?;
        let keypair = Keypair::generate().map_err(|error| IdentityError::Randomness(error.to_string()))?;
        crate::files::write_new(&path, &encode(&keypair)).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => IdentityError::AlreadyExists { path: path.clone() },
            _ => unusable(error),
        })?;
        Ok(Self { keypair })
    }
}

/// Refuses a directory in which others could put another key in the place of ours.
fn check_directory(directory: &Path) -> Result<(), IdentityError> {
    let metadata = fs::metadata(directory)
        .map_err(|source| IdentityError::Unreadable { path: directory.to_path_buf(), source })?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o022 != 0 {
        return Err(IdentityError::TooOpen { path: directory.to_path_buf(), mode });
    }
    Ok(())
}

/// The file's text. Sized in advance, so that no copy of the secret is left behind by growing.
fn encode(keypair: &Keypair) -> Zeroizing<Vec<u8>> {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut text = Zeroizing::new(Vec::with_capacity(256));
    text.extend_from_slice(HEADER.as_bytes());
    text.extend_from_slice(b"\nsecret ");
    for byte in keypair.secret().iter() {
        text.push(HEX[usize::from(byte >> 4)]);
        text.push(HEX[usize::from(byte & 0x0f)]);
    }
    text.extend_from_slice(b"\ndid ");
    text.extend_from_slice(keypair.did().to_string().as_bytes());
    text.push(b'\n');
    text
}

/// Reads the file's text, or says what is wrong without saying what it holds.
fn decode(text: &[u8]) -> Result<Keypair, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    let body = text.strip_suffix('\n').ok_or("its end is missing")?;
    let mut lines = body.split('\n');
    if lines.next() != Some(HEADER) {
        return Err("its first line is not that of a key file of this version");
    }
    let hex =
        lines.next().and_then(|line| line.strip_prefix("secret ")).ok_or("its secret is missing")?.as_bytes();
    let did = lines.next().and_then(|line| line.strip_prefix("did ")).ok_or("its DID is missing")?;
    if lines.next().is_some() {
        return Err("it has more lines than a key file");
    }
    let mut secret = Zeroizing::new([0u8; dms_actors::identity::SECRET_KEY_LENGTH]);
    if hex.len() != 2 * secret.len() {
        return Err("its secret has a wrong length");
    }
    for (byte, pair) in secret.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err("its secret is not lower-case hex"),
        };
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    let keypair = Keypair::from_secret(&secret);
    if did.parse() == Ok(keypair.did()) { Ok(keypair) } else { Err("its DID does not belong to its secret") }
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
    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_stays_the_same() {
        let base = directory();
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
    fn a_cut_or_altered_file_is_a_hard_stop_wherever_it_is_cut_or_altered() {
        let text = encode(&Keypair::from_secret(&[7; 32]));
        assert!(decode(&text).is_ok());
        for length in 0..text.len() {
            assert!(decode(&text[..length]).is_err(), "cut at {length}");
        }
        for place in 0..text.len() {
            for change in [0x01, 0x20, 0x80] {
                let mut altered = text.to_vec();
                altered[place] ^= change;
                assert!(decode(&altered).is_err(), "byte {place} changed by {change:#x}");
            }
        }
        assert!(decode(&[&text[..], b"\n"].concat()).is_err());
        let data = directory();
        Identity::create(data.path()).unwrap();
        fs::write(data.path().join(FILE_NAME), "").unwrap();
        assert!(matches!(Identity::load_or_create(data.path()), Err(IdentityError::Corrupt { .. })));
        assert_eq!(fs::read(data.path().join(FILE_NAME)).unwrap(), b"", "it is not overwritten");
    }

    #[test]
    fn a_key_that_others_can_get_at_is_refused() {
        let data = directory();
        Identity::create(data.path()).unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let key = data.path().join(FILE_NAME);
        for mode in [0o640, 0o604, 0o620, 0o666] {
            set(&key, mode);
            assert!(
                matches!(Identity::load(data.path()), Err(IdentityError::TooOpen { mode: m, .. }) if m == mode)
            );
        }
        set(&key, 0o600);
        set(data.path(), 0o777);
        assert!(matches!(Identity::load(data.path()), Err(IdentityError::TooOpen { mode: 0o777, .. })));
        set(data.path(), 0o755);
        assert!(Identity::load(data.path()).is_ok());
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
