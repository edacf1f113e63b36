//! A passphrase: what a person remembers or a file holds, and nobody prints.
//!
//! [`crate::cli`] asks for it or reads it from a file; a key is sealed and opened with it ([`super::SealedKey`]). It is
//! never taken from the command line or from the value of a variable, which other programs of the machine can see.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Longest passphrase in bytes; nobody types more, and a file with more is another file.
const MAX_LENGTH: usize = 1024;
/// Fewest characters of a new one: what is shorter is found by trying, however slow each try is.
const MIN_NEW_LENGTH: usize = 8;
/// The user of the system: whom it lets read a file by its group is its decision, as with a service's credentials.
const ROOT: u32 = 0;

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PassphraseError {
    /// The file cannot be read.
    #[error("the passphrase file {} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the owner can read the file.
    #[error("the passphrase file {} is open to others (mode {mode:04o}); close it with `chmod go-rwx {}`", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is none: empty, longer than any, or no text.
    #[error("a passphrase is text of 1 to {MAX_LENGTH} bytes")]
    Malformed,
    /// It would be found by trying.
    #[error("a new passphrase has at least {MIN_NEW_LENGTH} characters")]
    TooShort,
}

/// See the module. Wiped when dropped.
pub struct Passphrase(Zeroizing<String>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

impl Passphrase {
    /// One that was typed.
    ///
    /// # Errors
    /// `Malformed`.
    pub fn new(text: Zeroizing<String>) -> Result<Self, PassphraseError> {
        let is_one = !text.is_empty() && text.len() <= MAX_LENGTH;
        is_one.then_some(Self(text)).ok_or(PassphraseError::Malformed)
    }

    /// The first and only line of a file that nobody else reads. Pipes and credentials of a service manager are files,
    /// too.
    ///
    /// # Errors
    /// `Unreadable`, `TooOpen`, `Malformed`.
    pub fn from_file(path: &Path) -> Result<Self, PassphraseError> {
        let unreadable = |source| PassphraseError::Unreadable { path: path.to_path_buf(), source };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mode = metadata.permissions().mode() & 0o7777;
        let closed_to = if metadata.uid() == ROOT { 0o037 } else { 0o077 };
        if mode & closed_to != 0 {
            return Err(PassphraseError::TooOpen { path: path.to_path_buf(), mode });
        }
        // Sized in advance, so that no copy is left behind by growing: the text, the end of its line, and one more.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LENGTH + 3));
        file.take(MAX_LENGTH as u64 + 3).read_to_end(&mut bytes).map_err(unreadable)?;
        let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let text = std::str::from_utf8(line).map_err(|_| PassphraseError::Malformed)?;
        Self::new(Zeroizing::new(text.to_owned()))
    }

    /// Refuses one that is too short to be set anew; an old one is taken as it is.
    ///
    /// # Errors
    /// `TooShort`.
    pub fn check_new(&self) -> Result<(), PassphraseError> {
        let is_long = self.0.chars().count() >= MIN_NEW_LENGTH;
        if is_long { Ok(()) } else { Err(PassphraseError::TooShort) }
    }

    /// Its bytes, for the function that makes a key of them.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn passphrase(text: &str) -> Result<Passphrase, PassphraseError> {
        Passphrase::new(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_file_holds_one_line_and_is_closed_to_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("passphrase");
        let write = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            Passphrase::from_file(&path)
        };
        for text in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            assert_eq!(write(text.as_bytes(), 0o600).unwrap().as_bytes(), b"correct horse", "{text:?}");
        }
        assert_eq!(write(b" a\nb \n", 0o400).unwrap().as_bytes(), b" a\nb ", "what is inside is kept");
        let long = "x".repeat(MAX_LENGTH);
        assert!(write(format!("{long}\r\n").as_bytes(), 0o600).is_ok());
        for bytes in [&b""[..], b"\n", b"\xff\xfe", format!("{long}x").as_bytes(), &[b'x'; 9999]] {
            assert!(matches!(write(bytes, 0o600), Err(PassphraseError::Malformed)));
        }
        for mode in [0o604, 0o620, 0o610, 0o602] {
            let refused = write(b"correct horse", mode);
            assert!(
                matches!(refused, Err(PassphraseError::TooOpen { mode: m, .. }) if m == mode),
                "{mode:o}"
            );
        }
        let group = write(b"correct horse", 0o440);
        assert_eq!(group.is_ok(), fs::metadata(&path).unwrap().uid() == ROOT, "a group that root has chosen");
        let none = Passphrase::from_file(&directory.path().join("none"));
        assert!(matches!(none, Err(PassphraseError::Unreadable { .. })));
    }

    #[test]
    fn a_new_one_is_long_and_none_is_printed() {
        assert!(passphrase("secret").unwrap().check_new().is_err());
        assert!(passphrase("schön äöü").unwrap().check_new().is_ok());
        assert!(matches!(passphrase(""), Err(PassphraseError::Malformed)));
        assert!(!format!("{:?}", passphrase("correct horse").unwrap()).contains("horse"));
    }
}
