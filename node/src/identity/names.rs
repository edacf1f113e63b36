//! Identities with a name: people who use this machine, beside the node that runs on it.
//!
//! A person's key signs tokens and is trusted as a root; it never speaks on the mesh by itself. Each lies in a key file
//! of its own below the data directory.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use super::{IdentityError, KeyFile};

/// Where the key files lie in the data directory.
pub(super) const DIRECTORY: &str = "identities";
/// What a key file's name ends with.
const SUFFIX: &str = ".key";
/// Longest name in bytes.
const MAX_LENGTH: usize = 32;
/// Most names that are listed; people have a few.
const MAX_LISTED: usize = 256;

/// The name of an identity: letters, digits and dashes, so that it is a file's name wherever it is used.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct IdentityName(String);

/// The text is no name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an identity's name is 1 to {MAX_LENGTH} lower-case letters, digits and dashes, and begins with no dash"
)]
pub struct NameError;

impl IdentityName {
    pub(super) fn file_name(&self) -> String {
        format!("{}{SUFFIX}", self.0)
    }
}

impl FromStr for IdentityName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let is_letter = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_name = !text.is_empty()
            && text.len() <= MAX_LENGTH
            && !text.starts_with('-')
            && text.bytes().all(is_letter);
        is_name.then(|| Self(text.to_owned())).ok_or(NameError)
    }
}

impl fmt::Display for IdentityName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The names of a data directory, in order; what is no key file is passed over.
///
/// # Errors
/// `Unreadable`.
pub fn named(data: &Path) -> Result<Vec<IdentityName>, IdentityError> {
    let path = data.join(DIRECTORY);
    let unreadable = |source| IdentityError::Unreadable { path: path.clone(), source };
    let entries = match std::fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(unreadable)?,
    };
    let mut names = Vec::new();
    for entry in entries.take(MAX_LISTED) {
        let name = entry.map_err(unreadable)?.file_name();
        names.extend(name.to_str().and_then(|name| name.strip_suffix(SUFFIX)?.parse().ok()));
    }
    names.sort();
    Ok(names)
}

impl KeyFile {
    /// The node's place, or that of a name.
    pub fn of(data: &Path, name: Option<&IdentityName>) -> Self {
        name.map_or_else(|| Self::of_node(data), |name| Self::of_name(data, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Identity, StoredKey};

    #[test]
    fn a_name_is_a_plain_word() {
        let long = "a".repeat(MAX_LENGTH);
        for text in ["alice", "a", "7", "my-laptop", long.as_str()] {
            assert_eq!(text.parse::<IdentityName>().map(|name| name.to_string()), Ok(text.to_owned()));
        }
        let longer = "a".repeat(MAX_LENGTH + 1);
        for text in ["", "-a", "Alice", "a b", "../key", "a/b", ".", "a.key", "ä", "a\0", longer.as_str()] {
            assert_eq!(text.parse::<IdentityName>(), Err(NameError), "{text:?}");
        }
    }

    #[test]
    fn names_are_listed_in_order_and_other_files_are_not() {
        let data = tempfile::tempdir().unwrap();
        assert_eq!(named(data.path()).unwrap(), []);
        for name in ["bob", "alice"] {
            let identity = Identity::generate().unwrap();
            KeyFile::of_name(data.path(), &name.parse().unwrap()).create(&StoredKey::Bare(identity)).unwrap();
        }
        std::fs::write(data.path().join(DIRECTORY).join("notes.txt"), "").unwrap();
        std::fs::write(data.path().join(DIRECTORY).join("Not a name.key"), "").unwrap();
        let names: Vec<String> = named(data.path()).unwrap().iter().map(IdentityName::to_string).collect();
        assert_eq!(names, ["alice", "bob"]);
    }
}
