//! The token of the API over TCP: who has it may do what the node's owner may.
//!
//! The server makes it, a file of mode 0600 in the data directory, and the client reads the same file or a copy of it. It
//! is compared in constant time, and shown to nobody: neither a log nor an error holds a part of it.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::files;

/// The file's name in the data directory.
pub const TOKEN_FILE: &str = "api.token";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// Longest file that is looked at; a token's has 65 bytes.
const MAX_FILE_BYTES: u64 = 1024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// The file cannot be read or written.
    #[error("cannot use the API's token in {}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Others than the owner can get at it.
    #[error("{} is open to others (mode {mode:04o}); close it with `chmod go-rwx {}`", path.display(), path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It holds something else.
    #[error("{} holds no token of the API (64 hexadecimal digits)", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Randomness(String),
}

/// 256 random bits, as text.
#[derive(Clone)]
pub struct Token(Zeroizing<String>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// The token in the file `path`.
    ///
    /// # Errors
    /// `Unusable`, `TooOpen`, `Malformed`.
    pub fn load(path: &Path) -> Result<Self, TokenError> {
        let unusable = |source| TokenError::Unusable { path: path.to_path_buf(), source };
        let metadata = fs::metadata(path).map_err(unusable)?;
        if !metadata.is_file() {
            return Err(TokenError::Malformed { path: path.to_path_buf() });
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(TokenError::TooOpen { path: path.to_path_buf(), mode });
        }
        let text = Zeroizing::new(files::read_text(path, MAX_FILE_BYTES).map_err(unusable)?);
        // An editor, or a copy by hand, may have added the end of a line or taken it away.
        let token = text.trim_end();
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if token.len() != 2 * TOKEN_BYTES || !token.bytes().all(is_digit) {
            return Err(TokenError::Malformed { path: path.to_path_buf() });
        }
        Ok(Self(Zeroizing::new(token.to_owned())))
    }

    /// The token in the data directory; made if there is none.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn load_or_create(data: &Path) -> Result<Self, TokenError> {
        let path = data.join(TOKEN_FILE);
        match Self::load(&path) {
            Err(TokenError::Unusable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                match Self::create(&path) {
                    // Somebody else made it between the two.
                    Err(TokenError::Unusable { source, .. })
                        if source.kind() == io::ErrorKind::AlreadyExists =>
                    {
                        Self::load(&path)
                    }
                    created => created,
                }
            }
            loaded => loaded,
        }
    }

    fn create(path: &Path) -> Result<Self, TokenError> {
        let mut bits = Zeroizing::new([0u8; TOKEN_BYTES]);
        getrandom::fill(bits.as_mut()).map_err(|error| TokenError::Randomness(error.to_string()))?;
        // Sized in advance, so that no copy of the secret is left behind by growing.
        let mut line = Zeroizing::new(String::with_capacity(2 * TOKEN_BYTES + 1));
        HEXLOWER.encode_append(bits.as_slice(), &mut line);
        let token = Self(line.clone());
        line.push('\n');
        files::write_new(path, line.as_bytes())
            .map_err(|source| TokenError::Unusable { path: path.to_path_buf(), source })?;
        Ok(token)
    }

    /// True if `guess` is this token. How long that takes does not depend on how much of it is right.
    pub(super) fn is(&self, guess: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(guess).into()
    }

    /// What stands in a request's `Authorization`.
    pub(super) fn bearer(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("Bearer {}", self.0.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_for_its_owner_alone_and_is_read_again() {
        let data = tempfile::tempdir().unwrap();
        let made = Token::load_or_create(data.path()).unwrap();
        let path = data.path().join(TOKEN_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(data.path()).unwrap().count(), 1, "no temporary file is left");
        let again = Token::load_or_create(data.path()).unwrap();
        assert!(made.is(again.0.as_bytes()));
        fs::write(&path, again.0.as_bytes()).unwrap();
        assert!(made.is(Token::load(&path).unwrap().0.as_bytes()), "without the end of its line");
        let other = Token::load_or_create(tempfile::tempdir().unwrap().path()).unwrap();
        assert!(!made.is(other.0.as_bytes()));
        assert!(!made.is(b"") && !made.is(&made.0.as_bytes()[..63]));
        assert_eq!(format!("{made:?}"), "Token");
    }

    #[test]
    fn a_token_that_others_can_get_at_or_that_is_none_is_refused_and_left_alone() {
        let data = tempfile::tempdir().unwrap();
        let load = || Token::load_or_create(data.path());
        load().unwrap();
        let path = data.path().join(TOKEN_FILE);
        let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o666] {
            set(mode);
            assert!(matches!(load(), Err(TokenError::TooOpen { mode: found, .. }) if found == mode));
        }
        set(0o600);
        for wrong in ["", "short", &"g".repeat(64), &"A".repeat(64), &"0".repeat(65)] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(load(), Err(TokenError::Malformed { .. })), "{wrong:?}");
            assert_eq!(fs::read(&path).unwrap(), wrong.as_bytes());
        }
        fs::write(&path, "0".repeat(2000)).unwrap();
        assert!(matches!(load(), Err(TokenError::Unusable { .. })));
    }
}
