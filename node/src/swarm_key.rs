//! The key of a private mesh, in the file that libp2p's programs share: `swarm.key`, readable by the owner alone.
//!
//! With it a node connects to nobody who has not the same: connections are encrypted with it before anybody says
//! who it is. It is the mesh's and not the node's, and comes with an invite.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use dms_messages::PreSharedKey;
use zeroize::Zeroizing;

use crate::files::write_new;

/// The file, in the data directory.
const FILE_NAME: &str = "swarm.key";
/// What it begins with.
const HEADER: &str = "/key/swarm/psk/1.0.0/\n/base16/\n";
/// Longest file that is read; it has 96 bytes.
const MAX_FILE_BYTES: u64 = 1024;

/// Why the key cannot be used, or written down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SwarmKeyError {
    /// The file is not to be read or written.
    #[error("cannot use {}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others may read it.
    #[error("{} can be read by others (mode {mode:04o}): chmod 600 it, and make a new mesh if somebody may have", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds no key.
    #[error("{} is no key of a private mesh", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
    },
    /// This machine is in another private mesh.
    #[error("{} is the key of another private mesh: move it away to leave that", path.display())]
    OtherMesh {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// The key in `directory`; none if the mesh is not private.
///
/// # Errors
/// `Unusable`, `TooOpen`, `Corrupt`.
pub fn load(directory: &Path) -> Result<Option<PreSharedKey>, SwarmKeyError> {
    let path = directory.join(FILE_NAME);
    let unusable = |source| SwarmKeyError::Unusable { path: path.clone(), source };
    let metadata = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata.map_err(unusable)?,
    };
    if !metadata.is_file() || metadata.len() > MAX_FILE_BYTES {
        return Err(SwarmKeyError::Corrupt { path });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(SwarmKeyError::TooOpen { path, mode });
    }
    let text = Zeroizing::new(fs::read(&path).map_err(unusable)?);
    match decode(&text) {
        Some(key) => Ok(Some(key)),
        None => Err(SwarmKeyError::Corrupt { path }),
    }
}

/// The key in `directory`; makes one, and with it a private mesh, if there is none.
///
/// # Errors
/// [`SwarmKeyError`].
pub fn load_or_create(directory: &Path) -> Result<PreSharedKey, SwarmKeyError> {
    if let Some(key) = load(directory)? {
        return Ok(key);
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| SwarmKeyError::Randomness(error.to_string()))?;
    let key = PreSharedKey(bytes);
    remember(directory, key)?;
    Ok(key)
}

/// Writes down the key of the mesh that this machine comes into: whole, or not at all.
///
/// # Errors
/// [`SwarmKeyError`]; `OtherMesh` if there is another.
pub fn remember(directory: &Path, key: PreSharedKey) -> Result<(), SwarmKeyError> {
    let path = directory.join(FILE_NAME);
    match load(directory)? {
        Some(known) if known == key => return Ok(()),
        Some(_) => return Err(SwarmKeyError::OtherMesh { path }),
        None => {}
    }
    let unusable = |source| SwarmKeyError::Unusable { path: path.clone(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(unusable)?;
    write_new(&path, encode(key).as_bytes()).map_err(unusable)
}

/// Sized in advance, so that no copy of the secret is left behind by growing.
fn encode(PreSharedKey(bytes): PreSharedKey) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(128));
    text.push_str(HEADER);
    HEXLOWER.encode_append(&bytes, &mut text);
    text.push('\n');
    text
}

fn decode(text: &[u8]) -> Option<PreSharedKey> {
    let digits = text.strip_prefix(HEADER.as_bytes())?.trim_ascii_end();
    let mut bytes = [0; 32];
    if HEXLOWER_PERMISSIVE.decode_len(digits.len()) != Ok(bytes.len()) {
        return None;
    }
    HEXLOWER_PERMISSIVE.decode_mut(digits, &mut bytes).ok()?;
    Some(PreSharedKey(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_kept_from_others_and_read_again() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(load(home.path()).unwrap(), None);
        let key = load_or_create(home.path()).unwrap();
        assert_eq!(load_or_create(home.path()).unwrap(), key);
        let path = home.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(load_or_create(tempfile::tempdir().unwrap().path()).unwrap(), key);
        remember(home.path(), key).unwrap();
        let other = remember(home.path(), PreSharedKey([7; 32]));
        assert!(matches!(other, Err(SwarmKeyError::OtherMesh { .. })));
        assert_eq!(load(home.path()).unwrap(), Some(key), "it is as it was");
    }

    #[test]
    fn the_form_is_that_of_other_programs() {
        let home = tempfile::tempdir().unwrap();
        remember(home.path(), PreSharedKey([0xa5; 32])).unwrap();
        let text = fs::read_to_string(home.path().join(FILE_NAME)).unwrap();
        assert_eq!(text, format!("/key/swarm/psk/1.0.0/\n/base16/\n{}\n", "a5".repeat(32)));
    }

    #[test]
    fn a_file_that_is_no_key_or_not_ours_alone_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(FILE_NAME);
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            load(home.path())
        };
        let key = "a5".repeat(32);
        let whole = format!("{HEADER}{key}\n");
        for text in [
            "",
            "hello",
            HEADER,
            &whole[1..],
            &format!("{HEADER}{}", &key[1..]),
            &format!("{HEADER}{key}00"),
            &format!("{HEADER}{}", key.replace('a', "g")),
            &format!("/key/swarm/psk/2.0.0/\n/base16/\n{key}"),
            &format!("/key/swarm/psk/1.0.0/\n/base64/\n{key}"),
            &"x".repeat(2000),
        ] {
            assert!(matches!(write(text, 0o600), Err(SwarmKeyError::Corrupt { .. })), "{text:?}");
        }
        assert!(matches!(write(&whole, 0o640), Err(SwarmKeyError::TooOpen { .. })));
        assert_eq!(write(&whole, 0o600).unwrap(), Some(PreSharedKey([0xa5; 32])));
    }
}
