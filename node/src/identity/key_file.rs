//! How a key lies on disk: a file of text, closed to others, written whole or not at all.
//!
//! ```text
//! dms-secret-key-1                       dms-sealed-key-1
//! secret <64 hexadecimal digits>         dms-identity-1-…       (see the module `sealed`)
//! did did:key:…                          did did:key:…
//! ```
//!
//! The DID is derived from the secret, so a file that was cut or altered anywhere does not agree with itself; where the
//! secret is sealed, what was altered with care is noticed when it is opened.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use dms_actors::identity::SECRET_KEY_LENGTH;
use dms_messages::{Did, Keypair};
use zeroize::Zeroizing;

use super::names::{DIRECTORY, IdentityName};
use super::{Cost, FILE_NAME, Identity, IdentityError, Passphrase, SealError, SealedKey};
use crate::files;

/// The first line of a file with a bare secret: the form and its version.
const BARE: &str = "dms-secret-key-1";
/// The first line of a file with a sealed one.
const SEALED: &str = "dms-sealed-key-1";
/// Longest file that is looked at; a key file has 150 bytes, with a sealed key 450.
const MAX_FILE_BYTES: u64 = 1024;

/// A key as it is kept.
#[derive(Debug, Clone)]
pub enum StoredKey {
    /// Whoever has the file has the key.
    Bare(Identity),
    /// Under a passphrase.
    Sealed(SealedKey),
}

impl StoredKey {
    /// A key under a passphrase.
    ///
    /// # Errors
    /// Those of [`SealedKey::seal`].
    pub fn sealed(identity: &Identity, passphrase: &Passphrase, cost: Cost) -> Result<Self, SealError> {
        SealedKey::seal(&identity.keypair, passphrase, cost).map(Self::Sealed)
    }

    /// Whose it is. Needs no passphrase.
    pub fn did(&self) -> Did {
        match self {
            Self::Bare(identity) => identity.did(),
            Self::Sealed(key) => key.did(),
        }
    }

    /// The identity, if it is under no passphrase.
    ///
    /// # Errors
    /// `Sealed`.
    pub fn bare(self) -> Result<Identity, IdentityError> {
        match self {
            Self::Bare(identity) => Ok(identity),
            Self::Sealed(key) => Err(IdentityError::Sealed { did: key.did() }),
        }
    }
}

/// A place where a key is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    directory: PathBuf,
    name: String,
}

impl KeyFile {
    /// That of the node on a data directory.
    pub fn of_node(data: &Path) -> Self {
        Self { directory: data.to_path_buf(), name: FILE_NAME.to_owned() }
    }

    /// That of somebody with a name of their own.
    pub fn of_name(data: &Path, name: &IdentityName) -> Self {
        Self { directory: data.join(DIRECTORY), name: name.file_name() }
    }

    /// Where the node's next key lies while it is put in the place of the one before.
    pub(crate) fn of_successor(data: &Path) -> Self {
        Self { directory: data.to_path_buf(), name: format!("{FILE_NAME}.next") }
    }

    /// Where.
    pub fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }

    /// The key in it.
    ///
    /// # Errors
    /// `Missing`, `Unreadable`, `TooOpen`, `Corrupt`.
    pub fn read(&self) -> Result<StoredKey, IdentityError> {
        let path = self.path();
        let unreadable = |source| IdentityError::Unreadable { path: path.clone(), source };
        let file = match fs::File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(IdentityError::Missing { directory: self.directory.clone() });
            }
            file => file.map_err(unreadable)?,
        };
        let metadata = file.metadata().map_err(unreadable)?;
        let corrupt = |what| IdentityError::Corrupt { path: path.clone(), what };
        if !metadata.is_file() {
            return Err(corrupt("it is not a file"));
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::TooOpen { path, mode });
        }
        check_directory(&self.directory)?;
        if metadata.len() > MAX_FILE_BYTES {
            return Err(corrupt("it is too long"));
        }
        // Sized in advance, so that no copy of the secret is left behind by growing.
        let mut text = Zeroizing::new(Vec::with_capacity(MAX_FILE_BYTES as usize + 1));
        file.take(MAX_FILE_BYTES).read_to_end(&mut text).map_err(unreadable)?;
        decode(&text).map_err(corrupt)
    }

    /// Puts a key where there is none; the directory is made too if need be (mode 0700).
    ///
    /// The key is on disk, whole, when this returns, or not at all.
    ///
    /// # Errors
    /// `AlreadyExists`, `Unreadable`, `TooOpen`.
    pub fn create(&self, key: &StoredKey) -> Result<(), IdentityError> {
        self.open_directory()?;
        let path = self.path();
        files::write_new(&path, &encode(key)).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => IdentityError::AlreadyExists { path },
            _ => IdentityError::Unreadable { path, source },
        })
    }

    /// Puts a key in the place of the one that is there, which is gone then.
    ///
    /// One of the two is on disk at every instant, and the new one when this returns.
    ///
    /// # Errors
    /// `Unreadable`, `TooOpen`.
    pub fn replace(&self, key: &StoredKey) -> Result<(), IdentityError> {
        self.open_directory()?;
        files::replace(&self.path(), &encode(key)).map_err(self.unusable())
    }

    /// Takes the key of another place of the same directory, which holds none then.
    ///
    /// # Errors
    /// `Unreadable`.
    pub(crate) fn take(&self, from: &Self) -> Result<(), IdentityError> {
        fs::rename(from.path(), self.path()).map_err(self.unusable())?;
        files::sync_directory_of(&self.path()).map_err(self.unusable())
    }

    /// Removes the key, for ever.
    ///
    /// # Errors
    /// `Unreadable`.
    pub(crate) fn remove(&self) -> Result<(), IdentityError> {
        fs::remove_file(self.path()).map_err(self.unusable())?;
        files::sync_directory_of(&self.path()).map_err(self.unusable())
    }

    /// Makes the directory if there is none, and refuses one in which others could put another key.
    fn open_directory(&self) -> Result<(), IdentityError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.directory);
        made.map_err(self.unusable())?;
        check_directory(&self.directory)
    }

    fn unusable(&self) -> impl FnOnce(io::Error) -> IdentityError + use<> {
        let path = self.path();
        move |source| IdentityError::Unreadable { path, source }
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

/// The file's text.
fn encode(key: &StoredKey) -> Zeroizing<Vec<u8>> {
    let mut text = match key {
        StoredKey::Bare(identity) => encode_bare(&identity.keypair),
        StoredKey::Sealed(key) => Zeroizing::new(format!("{SEALED}\n{key}")),
    };
    text.push_str(&format!("\ndid {}\n", key.did()));
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}

/// Sized in advance, so that no copy of the secret is left behind by growing.
fn encode_bare(keypair: &Keypair) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(256));
    text.push_str(BARE);
    text.push_str("\nsecret ");
    HEXLOWER.encode_append(keypair.secret().as_slice(), &mut text);
    text
}

/// Reads the file's text, or says what is wrong without saying what it holds.
fn decode(text: &[u8]) -> Result<StoredKey, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    let body = text.strip_suffix('\n').ok_or("its end is missing")?;
    let mut lines = body.split('\n');
    let form = lines.next();
    let key = lines.next().ok_or("its secret is missing")?;
    let did = lines.next().and_then(|line| line.strip_prefix("did ")).ok_or("its DID is missing")?;
    if lines.next().is_some() {
        return Err("it has more lines than a key file");
    }
    let key = match form {
        Some(BARE) => StoredKey::Bare(Identity { keypair: decode_bare(key)? }),
        // White space around it would be read, but was never written.
        Some(SEALED) if key.trim() == key => {
            StoredKey::Sealed(key.parse().map_err(|_| "its sealed secret was altered, or cut")?)
        }
        _ => return Err("its first line is not that of a key file of this version"),
    };
    if did.parse() == Ok(key.did()) { Ok(key) } else { Err("its DID does not belong to its secret") }
}

fn decode_bare(line: &str) -> Result<Keypair, &'static str> {
    let hex = line.strip_prefix("secret ").ok_or("its secret is missing")?.as_bytes();
    let mut secret = Zeroizing::new([0u8; SECRET_KEY_LENGTH]);
    if HEXLOWER.decode_len(hex.len()) != Ok(secret.len()) {
        return Err("its secret has a wrong length");
    }
    HEXLOWER.decode_mut(hex, secret.as_mut()).map_err(|_| "its secret is not lower-case hex")?;
    Ok(Keypair::from_secret(&secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As little as Argon2 takes.
    const LITTLE: Cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn bare(seed: u8) -> StoredKey {
        StoredKey::Bare(Identity { keypair: Keypair::from_secret(&[seed; 32]) })
    }

    fn sealed(seed: u8) -> StoredKey {
        let passphrase = Passphrase::new(Zeroizing::new("correct horse".to_owned())).unwrap();
        let identity = Identity { keypair: Keypair::from_secret(&[seed; 32]) };
        StoredKey::sealed(&identity, &passphrase, LITTLE).unwrap()
    }

    #[test]
    fn a_cut_or_altered_file_is_a_hard_stop_wherever_it_is_cut_or_altered() {
        for key in [bare(7), sealed(7)] {
            let text = encode(&key);
            assert_eq!(decode(&text).unwrap().did(), key.did());
            assert!(text.len() as u64 <= MAX_FILE_BYTES / 2);
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
        }
        let data = directory();
        Identity::create(data.path()).unwrap();
        fs::write(data.path().join(FILE_NAME), "").unwrap();
        assert!(matches!(Identity::load_or_create(data.path()), Err(IdentityError::Corrupt { .. })));
        assert_eq!(fs::read(data.path().join(FILE_NAME)).unwrap(), b"", "it is not overwritten");
    }

    #[test]
    fn a_key_is_replaced_whole_and_never_by_mistake() {
        let data = directory();
        let file = KeyFile::of_name(data.path(), &"alice".parse().unwrap());
        assert!(matches!(file.read(), Err(IdentityError::Missing { .. })));
        file.create(&sealed(7)).unwrap();
        assert!(matches!(file.create(&bare(8)), Err(IdentityError::AlreadyExists { .. })));
        assert_eq!(file.read().unwrap().did(), bare(7).did());
        file.replace(&bare(8)).unwrap();
        assert_eq!(file.read().unwrap().bare().unwrap().did(), bare(8).did());
        file.replace(&sealed(8)).unwrap();
        assert!(matches!(file.read().unwrap().bare(), Err(IdentityError::Sealed { .. })));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&file.path()), mode(&data.path().join(DIRECTORY))), (0o600, 0o700));
        assert_eq!(
            fs::read_dir(data.path().join(DIRECTORY)).unwrap().count(),
            1,
            "no temporary file is left"
        );
    }

    #[test]
    fn no_secret_is_printed() {
        for key in [bare(0x77), sealed(0x77)] {
            let shown = format!("{key:?}");
            assert!(!shown.contains("119, 119") && !shown.contains("7777"), "{shown}");
        }
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
}
