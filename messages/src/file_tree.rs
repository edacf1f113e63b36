//! `FileTree`: a directory as a list of contents, so that inputs and outputs travel as single blobs.
//!
//! The tree is itself a blob in canonical CBOR. Paths are relative, in plain components, never `..`:
//! nothing can be written outside the directory it is unpacked into, and no links or devices exist.

use std::collections::BTreeMap;
use std::fmt;

use dms_actors::ContentId;
use dms_actors::cbor::{self, CborError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most files in a tree.
pub(crate) const MAX_FILES: usize = 4096;
/// Longest tree in bytes: 4,096 files with the longest paths are 5 MiB.
const MAX_BLOB_LENGTH: usize = 8 * 1024 * 1024;
/// Longest path in bytes.
const MAX_PATH_LENGTH: usize = 1024;
/// Most directories on the way to a file.
const MAX_PATH_DEPTH: usize = 32;

/// Why a directory cannot be a tree, or bytes are not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileTreeError {
    /// A path is absolute, climbs, is empty or too long, or holds odd bytes.
    #[error("{0:?} is not a plain relative path: names hold no backslash and no control character")]
    Path(String),
    /// Too many files.
    #[error("more than {MAX_FILES} files")]
    TooManyFiles,
    /// A file and a directory have one name.
    #[error("{0:?} is both a file and a directory")]
    Conflict(String),
    /// A file does not have the length that the tree says, or one content is said to have two.
    #[error("{0:?} does not have the length that the tree says")]
    Length(String),
    /// The bytes are not a tree.
    #[error("not a file tree")]
    Malformed(#[source] CborError),
}

/// A path inside a tree: components of plain names joined by `/`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelativePath(String);

impl RelativePath {
    /// Accepts a path of plain names.
    pub fn new(text: &str) -> Result<Self, FileTreeError> {
        let is_plain = |name: &str| {
            !name.is_empty()
                && name != "."
                && name != ".."
                && name.len() <= 255
                && !name.chars().any(|c| c.is_control() || c == '\\')
        };
        let is_accepted = text.len() <= MAX_PATH_LENGTH
            && text.split('/').count() <= MAX_PATH_DEPTH
            && text.split('/').all(is_plain);
        if is_accepted {
            Ok(Self(text.to_owned()))
        } else {
            Err(FileTreeError::Path(text.chars().take(128).collect()))
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path below `base` on this machine.
    pub fn below(&self, base: &std::path::Path) -> std::path::PathBuf {
        self.0.split('/').fold(base.to_path_buf(), |path, name| path.join(name))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RelativePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its content.
    pub content: ContentId,
    /// Its length in bytes.
    pub length: u64,
}

/// The files of a directory, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileTree {
    /// The files.
    pub files: BTreeMap<RelativePath, FileEntry>,
}

impl FileTree {
    /// The blob that stands for this tree.
    pub fn to_blob(&self) -> Result<Vec<u8>, FileTreeError> {
        self.check()?;
        cbor::to_canonical_within(self, MAX_BLOB_LENGTH).map_err(FileTreeError::Malformed)
    }

    /// Reads and checks a tree.
    pub fn from_blob(bytes: &[u8]) -> Result<Self, FileTreeError> {
        let tree: Self =
            cbor::from_canonical_within(bytes, MAX_BLOB_LENGTH).map_err(FileTreeError::Malformed)?;
        tree.check()?;
        Ok(tree)
    }

    /// The sum of all lengths, saturating.
    pub fn total_length(&self) -> u64 {
        self.files.values().fold(0, |sum, file| sum.saturating_add(file.length))
    }

    fn check(&self) -> Result<(), FileTreeError> {
        if self.files.len() > MAX_FILES {
            return Err(FileTreeError::TooManyFiles);
        }
        let mut lengths = BTreeMap::new();
        for (path, file) in &self.files {
            // Whoever counts what a tree takes counts what it says: a content cannot be short here and long there.
            if *lengths.entry(file.content).or_insert(file.length) != file.length {
                return Err(FileTreeError::Length(path.as_str().to_owned()));
            }
            let mut parent = path.as_str();
            while let Some((shorter, _)) = parent.rsplit_once('/') {
                parent = shorter;
                if self.files.contains_key(&RelativePath(parent.to_owned())) {
                    return Err(FileTreeError::Conflict(parent.to_owned()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_leave_the_directory_are_refused() {
        for text in ["", "/etc/passwd", "..", "a/../b", "a//b", "a/", "./a", "a\\b", "a\0b", "a\nb"] {
            assert!(RelativePath::new(text).is_err(), "{text:?}");
        }
        assert!(RelativePath::new(&"a/".repeat(40)).is_err());
        assert!(RelativePath::new(&"a".repeat(300)).is_err());
        assert!(RelativePath::new("a/b c/d.txt").is_ok());
        assert!(RelativePath::new("..a/.b").is_ok());
        assert!(RelativePath::new("at 10:30").is_ok());
    }

    #[test]
    fn a_tree_round_trips_and_a_hostile_one_is_refused() {
        let entry = FileEntry { content: ContentId::of_bytes(b"x"), length: 1 };
        let mut tree = FileTree::default();
        tree.files.insert(RelativePath::new("a/b").unwrap(), entry.clone());
        let blob = tree.to_blob().unwrap();
        assert_eq!(FileTree::from_blob(&blob), Ok(tree.clone()));
        tree.files.insert(RelativePath::new("a").unwrap(), entry.clone());
        assert_eq!(tree.to_blob(), Err(FileTreeError::Conflict("a".into())));
        let longer = FileEntry { length: 2, ..entry.clone() };
        let lies = BTreeMap::from([("a", entry.clone()), ("b", longer)]);
        let lies = cbor::to_canonical(&BTreeMap::from([("files", lies)])).unwrap();
        assert_eq!(FileTree::from_blob(&lies), Err(FileTreeError::Length("b".into())));
        let hostile =
            cbor::to_canonical(&BTreeMap::from([("files", BTreeMap::from([("../x", entry)]))])).unwrap();
        assert!(matches!(FileTree::from_blob(&hostile), Err(FileTreeError::Malformed(_))));
    }
}
