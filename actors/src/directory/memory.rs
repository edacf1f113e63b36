//! A directory inside one process, for tests and simulations: every member sees at once what any of
//! them put, unless its check refuses it. Records do not expire by time here; [`MemoryDirectory::forget`]
//! does what time would do.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;

use super::{Directory, DirectoryError, MAX_PROVIDERS, RecordCheck, RecordKey, check_lengths};
use crate::Did;
use crate::runtime::lock;

/// Most records and most provided keys; later new ones are refused as [`DirectoryError::Busy`].
const MAX_RECORDS: usize = 65_536;

/// A directory inside this process. Cloning it gives another handle to the same directory.
#[derive(Clone, Default)]
pub struct MemoryDirectory(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    check: Option<Arc<dyn RecordCheck>>,
    members: BTreeSet<Did>,
    records: BTreeMap<RecordKey, (u64, Vec<u8>)>,
    providers: BTreeMap<RecordKey, BTreeSet<Did>>,
}

impl MemoryDirectory {
    /// A directory whose members keep only what `check` lets in.
    pub fn with_check(check: Arc<dyn RecordCheck>) -> Self {
        Self(Arc::new(Mutex::new(Shelf { check: Some(check), ..Shelf::default() })))
    }

    /// The directory as `did` sees it.
    pub fn member(&self, did: Did) -> Arc<MemoryReader> {
        lock(&self.0).members.insert(did);
        Arc::new(MemoryReader { directory: self.clone(), me: did })
    }

    /// Takes a member out, and what it provided.
    pub fn kill(&self, did: Did) {
        let mut shelf = lock(&self.0);
        shelf.members.remove(&did);
        shelf.providers.values_mut().for_each(|providers| {
            providers.remove(&did);
        });
    }

    /// Forgets a record, as time would.
    pub fn forget(&self, key: &RecordKey) {
        lock(&self.0).records.remove(key);
    }
}

impl fmt::Debug for MemoryDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDirectory").field("records", &lock(&self.0).records.len()).finish()
    }
}

/// One member's view of a [`MemoryDirectory`].
#[derive(Debug)]
pub struct MemoryReader {
    directory: MemoryDirectory,
    me: Did,
}

impl MemoryReader {
    fn shelf<T>(
        &self,
        act: impl FnOnce(&mut Shelf) -> Result<T, DirectoryError>,
    ) -> Result<T, DirectoryError> {
        let mut shelf = lock(&self.directory.0);
        if !shelf.members.contains(&self.me) {
            return Err(DirectoryError::Closed);
        }
        act(&mut shelf)
    }
}

impl Directory for MemoryReader {
    fn put(
        &self,
        key: RecordKey,
        value: Vec<u8>,
        _ttl: Duration,
    ) -> BoxFuture<'static, Result<(), DirectoryError>> {
        let done = check_lengths(&key, &value).and_then(|()| {
            self.shelf(|shelf| {
                if shelf.members.len() < 2 {
                    return Err(DirectoryError::Alone);
                }
                let sequence = match &shelf.check {
                    Some(check) => check.check(&key, &value).map_err(DirectoryError::NoAnswer)?,
                    None => shelf.records.get(&key).map_or(0, |(sequence, _)| sequence + 1),
                };
                match shelf.records.get(&key) {
                    Some((kept, _)) if *kept >= sequence => {}
                    None if shelf.records.len() >= MAX_RECORDS => return Err(DirectoryError::Busy),
                    _ => {
                        shelf.records.insert(key, (sequence, value));
                    }
                }
                Ok(())
            })
        });
        Box::pin(async move { done })
    }

    fn get(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Vec<u8>>, DirectoryError>> {
        let found = self
            .shelf(|shelf| Ok(shelf.records.get(&key).map(|(_, value)| value.clone()).into_iter().collect()));
        Box::pin(async move { found })
    }

    fn provide(&self, key: RecordKey) -> BoxFuture<'static, Result<(), DirectoryError>> {
        let me = self.me;
        let done = check_lengths(&key, &[]).and_then(|()| {
            self.shelf(|shelf| {
                if !shelf.providers.contains_key(&key) && shelf.providers.len() >= MAX_RECORDS {
                    return Err(DirectoryError::Busy);
                }
                shelf.providers.entry(key).or_default().insert(me);
                Ok(())
            })
        });
        Box::pin(async move { done })
    }

    fn stop_providing(&self, key: RecordKey) {
        if let Some(providers) = lock(&self.directory.0).providers.get_mut(&key) {
            providers.remove(&self.me);
        }
    }

    fn providers(&self, key: RecordKey) -> BoxFuture<'static, Result<Vec<Did>, DirectoryError>> {
        let me = self.me;
        let found = self.shelf(|shelf| {
            let providers = shelf.providers.get(&key).into_iter().flatten();
            Ok(providers.copied().filter(|did| *did != me).take(MAX_PROVIDERS).collect())
        });
        Box::pin(async move { found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    #[derive(Debug)]
    struct FirstByte;

    impl RecordCheck for FirstByte {
        fn check(&self, _: &RecordKey, value: &[u8]) -> Result<u64, String> {
            value.first().map(|byte| u64::from(*byte)).ok_or_else(|| "it is empty".to_owned())
        }
    }

    #[tokio::test]
    async fn the_newest_record_is_found_and_a_refused_one_is_not_kept() {
        let directory = MemoryDirectory::with_check(Arc::new(FirstByte));
        let [a, b] = [1, 2].map(|n| Keypair::from_secret(&[n; 32]).did());
        let a = directory.member(a);
        let key = RecordKey(vec![9]);
        let ttl = Duration::from_secs(60);
        assert_eq!(a.put(key.clone(), vec![1], ttl).await, Err(DirectoryError::Alone));
        let b = directory.member(b);
        a.put(key.clone(), vec![2], ttl).await.unwrap();
        b.put(key.clone(), vec![1], ttl).await.unwrap();
        assert!(matches!(b.put(key.clone(), vec![], ttl).await, Err(DirectoryError::NoAnswer(_))));
        assert_eq!(b.get(key.clone()).await, Ok(vec![vec![2]]));
        let long = vec![1; super::super::MAX_RECORD_LENGTH + 1];
        assert!(matches!(b.put(key.clone(), long, ttl).await, Err(DirectoryError::TooLong { .. })));
        directory.forget(&key);
        assert_eq!(b.get(key).await, Ok(vec![]));
    }

    #[tokio::test]
    async fn providers_are_listed_until_they_stop_or_are_gone() {
        let directory = MemoryDirectory::default();
        let dids = [1, 2, 3].map(|n| Keypair::from_secret(&[n; 32]).did());
        let [a, b, c] = dids.map(|did| directory.member(did));
        let key = RecordKey(vec![7]);
        for member in [&a, &b, &c] {
            member.provide(key.clone()).await.unwrap();
        }
        let mut others = vec![dids[1], dids[2]];
        others.sort();
        assert_eq!(a.providers(key.clone()).await, Ok(others));
        b.stop_providing(key.clone());
        directory.kill(dids[2]);
        assert_eq!(a.providers(key.clone()).await, Ok(vec![]));
        assert_eq!(c.providers(key).await, Err(DirectoryError::Closed));
    }
}
