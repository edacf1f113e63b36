//! The directory seam: what is looked up rather than told. Small records and provider lists, kept by
//! the peers nearest to a key (Kademlia in the libp2p implementation).
//!
//! Nothing found here is proof of anything: a record is a *hint* until whoever asked has verified it
//! (a signed document proves itself), and a listed provider is one that said so. What other peers may
//! store with us is decided by a [`RecordCheck`], which knows the words that the network does not.

pub mod memory;

use std::fmt;
use std::time::Duration;

use futures::future::BoxFuture;

use crate::Did;

/// Longest key in bytes: a content identifier is 33, a hash 32.
pub const MAX_KEY_LENGTH: usize = 64;
/// Longest value in bytes: a signed introduction or offer; contents travel as blobs.
pub const MAX_RECORD_LENGTH: usize = 8 * 1024;
/// Most values returned for one key: copies differ only while a newer one spreads.
pub const MAX_VALUES: usize = 8;
/// Most providers returned for one key: more than are asked in one round.
pub const MAX_PROVIDERS: usize = 64;

/// Names a record or a list of providers: opaque bytes, at most [`MAX_KEY_LENGTH`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub Vec<u8>);

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecordKey(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Why the directory gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// The key or the value is longer than allowed.
    #[error("{what} of {length} bytes is too long (at most {limit})")]
    TooLong {
        /// `a key` or `a record`.
        what: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// No other peer of this network is known: normal on a lonely node.
    #[error("no other peer is known")]
    Alone,
    /// Too many queries run already.
    #[error("the directory is busy")]
    Busy,
    /// No peer stored or answered in time.
    #[error("no peer answered: {0}")]
    NoAnswer(String),
    /// The directory is shut down.
    #[error("the directory is closed")]
    Closed,
}

/// Decides which records of others are kept. Pure and quick (one signature at most): it may be called
/// for every record that a peer sends.
pub trait RecordCheck: fmt::Debug + Send + Sync + 'static {
    /// The sequence of the value if it belongs under the key, or why it does not. Of two values of one
    /// key the higher sequence is kept; an equal one does not replace.
    fn check(&self, key: &RecordKey, value: &[u8]) -> Result<u64, String>;
}

/// Keeps and finds small records and providers. Cheap to share; every call ends within a time limit
/// that is its implementation's own.
pub trait Directory: Send + Sync + 'static {
    /// Stores `value` under `key` with the peers nearest to it, for `ttl`. Whoever wants it kept longer
    /// puts it again. `Ok` means at least one other peer took it.
    fn put(
        &self,
        key: RecordKey,
        value: Vec<u8>,
        ttl: Duration,
    ) -> BoxFuture<'static, Result<(), DirectoryError>>;

    /// The distinct values under `key`, at most [`MAX_VALUES`], unverified; none if nobody has one.
    fn get(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DirectoryError>>;

    /// Says that this peer provides `key`, until [`Directory::stop_providing`]; it is said again by
    /// itself for as long.
    fn provide(&self, key: RecordKey) -> BoxFuture<'static, Result<(), DirectoryError>>;

    /// Takes it back; copies elsewhere end by themselves.
    fn stop_providing(&self, key: RecordKey);

    /// Peers that say they provide `key`, at most [`MAX_PROVIDERS`], in the order of their DIDs, without
    /// this one.
    fn providers(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Did>, DirectoryError>>;
}

/// The lengths that every implementation holds.
pub fn check_lengths(key: &RecordKey, value: &[u8]) -> Result<(), DirectoryError> {
    let too_long = |what, length, limit| Err(DirectoryError::TooLong { what, length, limit });
    if key.0.len() > MAX_KEY_LENGTH {
        return too_long("a key", key.0.len(), MAX_KEY_LENGTH);
    }
    if value.len() > MAX_RECORD_LENGTH {
        return too_long("a record", value.len(), MAX_RECORD_LENGTH);
    }
    Ok(())
}
