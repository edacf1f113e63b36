//! What this peer keeps for the directory: records and providers of others, within bounds.
//!
//! Kademlia reads it to answer peers; `directory` alone writes to it, after the application's check.
//! Of two values of one key the higher sequence stays. When it is full, the keys nearest to us stay: those
//! are the ones that others look for here. Of the providers of one key the longest unheard goes. libp2p's own store is not used because it never
//! forgets an expired provider, counts the keys of strangers against ours, and replaces blindly.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;
use libp2p::kad::store::{Error, RecordStore, Result};
use libp2p::kad::{KBucketDistance, KBucketKey, ProviderRecord, Record, RecordKey};

/// Most records of others: 16 MiB at their greatest length.
const MAX_RECORDS: usize = 2048;
/// Most records of our own; strangers cannot take these places.
const MAX_OWN_RECORDS: usize = 256;
/// Most records or providers that one peer may leave here, so that none fills the shelf alone.
const MAX_PER_SOURCE: usize = 256;
/// Most keys with providers, and most providers of one key: about 4 MiB with their addresses.
const MAX_PROVIDED_KEYS: usize = 1024;
const MAX_PROVIDERS_PER_KEY: usize = 20;
/// Most keys that we provide ourselves: each is announced again and again.
const MAX_OWN_KEYS: usize = 256;

/// The longest that a record is kept, whatever its sender asks for.
pub(crate) const MAX_RECORD_TTL: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a provider is believed without saying it again: three announcements.
pub(crate) const PROVIDER_TTL: Duration = Duration::from_secs(60 * 60);

#[derive(Debug)]
struct Kept {
    record: Record,
    sequence: u64,
    /// Who brought it: our own peer id for our own.
    source: PeerId,
    /// How far its key is from us.
    distance: KBucketDistance,
}

/// The records and providers kept here.
#[derive(Debug)]
pub(crate) struct Shelf {
    me: PeerId,
    records: BTreeMap<Vec<u8>, Kept>,
    providers: BTreeMap<Vec<u8>, Vec<ProviderRecord>>,
}

impl Shelf {
    pub(crate) fn new(me: PeerId) -> Self {
        Self { me, records: BTreeMap::new(), providers: BTreeMap::new() }
    }

    /// Keeps a checked record that `source` brought, if it is newer than what is here and there is
    /// room. An equal one is kept for as long as the longer of both asks.
    pub(crate) fn keep(&mut self, record: Record, sequence: u64, source: PeerId) -> bool {
        if let Some(kept) = self.records.get_mut(record.key.as_ref() as &[u8]) {
            if sequence > kept.sequence {
                *kept = Kept { record, sequence, source, distance: kept.distance };
                return true;
            }
            let is_same = sequence == kept.sequence && record.value == kept.record.value;
            if is_same {
                kept.record.expires = kept.record.expires.max(record.expires);
            }
            return is_same;
        }
        let distance = self.distance(record.key.as_ref());
        let of_source = self.records.values().filter(|kept| kept.source == source).count();
        let has_room = if source == self.me {
            of_source < MAX_OWN_RECORDS
        } else {
            of_source < MAX_PER_SOURCE && self.has_room_at(distance)
        };
        if has_room {
            self.records.insert(record.key.to_vec(), Kept { record, sequence, source, distance });
        }
        has_room
    }

    /// Makes room for a record of a stranger at `distance`, if there is one farther away.
    fn has_room_at(&mut self, distance: KBucketDistance) -> bool {
        let strangers = || self.records.iter().filter(|(_, kept)| kept.source != self.me);
        if strangers().count() < MAX_RECORDS {
            return true;
        }
        let farthest = strangers().max_by_key(|(_, kept)| kept.distance);
        let victim = farthest.filter(|(_, kept)| kept.distance > distance).map(|(key, _)| key.clone());
        victim.is_some_and(|key| self.records.remove(&key).is_some())
    }

    /// Makes room for a stranger under `key`, if a place can be found: that of the provider of this key
    /// who has not been heard for the longest, or that of a key farther away that is not ours.
    fn has_room_for_provider(&mut self, key: &[u8]) -> bool {
        let me = self.me;
        if let Some(providers) = self.providers.get_mut(key) {
            let strangers = || providers.iter().enumerate().filter(|(_, known)| known.provider != me);
            if strangers().count() >= MAX_PROVIDERS_PER_KEY
                && let Some((oldest, _)) = strangers().min_by_key(|(_, known)| known.expires)
            {
                providers.remove(oldest);
            }
            return true;
        }
        if self.providers.len() < MAX_PROVIDED_KEYS + MAX_OWN_KEYS {
            return true;
        }
        let distance = self.distance(key);
        let strangers = self.providers.iter().filter(|(_, known)| known.iter().all(|p| p.provider != me));
        let farthest = strangers.map(|(key, _)| (self.distance(key), key)).max();
        let victim = farthest.filter(|(of_key, _)| *of_key > distance).map(|(_, key)| key.clone());
        victim.is_some_and(|key| self.providers.remove(&key).is_some())
    }

    fn distance(&self, key: &[u8]) -> KBucketDistance {
        KBucketKey::from(self.me).distance(&KBucketKey::new(key))
    }

    /// The sequence kept under `key`.
    pub(crate) fn sequence(&self, key: &[u8]) -> Option<u64> {
        self.records.get(key).map(|kept| kept.sequence)
    }

    /// The keys that we provide ourselves, in order.
    pub(crate) fn own_keys(&self) -> Vec<RecordKey> {
        let is_ours = |providers: &Vec<ProviderRecord>| providers.iter().any(|p| p.provider == self.me);
        let ours = self.providers.iter().filter(|(_, providers)| is_ours(providers));
        ours.map(|(key, _)| RecordKey::from(key.clone())).collect()
    }

    /// Forgets what is expired.
    pub(crate) fn prune(&mut self, now: Instant) {
        self.records.retain(|_, kept| !kept.record.is_expired(now));
        self.providers.retain(|_, providers| {
            providers.retain(|provider| !provider.is_expired(now));
            !providers.is_empty()
        });
    }

    /// How many records are kept.
    pub(crate) fn record_count(&self) -> usize {
        self.records.len()
    }
}

impl RecordStore for Shelf {
    type RecordsIter<'a> = std::vec::IntoIter<Cow<'a, Record>>;
    type ProvidedIter<'a> = std::vec::IntoIter<Cow<'a, ProviderRecord>>;

    fn get(&self, key: &RecordKey) -> Option<Cow<'_, Record>> {
        self.records.get(key.as_ref() as &[u8]).map(|kept| Cow::Borrowed(&kept.record))
    }

    /// Called for a record that we are about to send out, which [`Shelf::keep`] has taken before.
    fn put(&mut self, record: Record) -> Result<()> {
        let kept = self.records.get(record.key.as_ref() as &[u8]);
        if kept.is_some_and(|kept| kept.record.value == record.value) {
            Ok(())
        } else {
            Err(Error::MaxRecords)
        }
    }

    fn remove(&mut self, key: &RecordKey) {
        self.records.remove(key.as_ref() as &[u8]);
    }

    fn records(&self) -> Self::RecordsIter<'_> {
        self.records.values().map(|kept| Cow::Borrowed(&kept.record)).collect::<Vec<_>>().into_iter()
    }

    fn add_provider(&mut self, record: ProviderRecord) -> Result<()> {
        let key: &[u8] = record.key.as_ref();
        let known = self.providers.get(key);
        if let Some(index) =
            known.and_then(|providers| providers.iter().position(|p| p.provider == record.provider))
        {
            let providers = self.providers.get_mut(key).expect("just found");
            providers[index] = record;
            return Ok(());
        }
        let of_source = self.providers.values().flatten().filter(|p| p.provider == record.provider).count();
        let has_room = if record.provider == self.me {
            of_source < MAX_OWN_KEYS
        } else {
            of_source < MAX_PER_SOURCE && self.has_room_for_provider(record.key.as_ref())
        };
        if !has_room {
            return Err(Error::MaxProvidedKeys);
        }
        self.providers.entry(record.key.to_vec()).or_default().push(record);
        Ok(())
    }

    fn providers(&self, key: &RecordKey) -> Vec<ProviderRecord> {
        self.providers.get(key.as_ref() as &[u8]).cloned().unwrap_or_default()
    }

    fn provided(&self) -> Self::ProvidedIter<'_> {
        let ours = self.providers.values().flatten().filter(|provider| provider.provider == self.me);
        ours.map(Cow::Borrowed).collect::<Vec<_>>().into_iter()
    }

    fn remove_provider(&mut self, key: &RecordKey, provider: &PeerId) {
        let key: &[u8] = key.as_ref();
        if let Some(providers) = self.providers.get_mut(key) {
            providers.retain(|known| known.provider != *provider);
            if providers.is_empty() {
                self.providers.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::test_peer;

    fn record(key: usize, value: &[u8], expires: Option<Instant>) -> Record {
        Record {
            key: RecordKey::from(key.to_be_bytes().to_vec()),
            value: value.to_vec(),
            publisher: None,
            expires,
        }
    }

    fn provider(key: usize, provider: PeerId, expires: Option<Instant>) -> ProviderRecord {
        let key = RecordKey::from(key.to_be_bytes().to_vec());
        ProviderRecord { key, provider, expires, addresses: Vec::new() }
    }

    #[test]
    fn the_newest_sequence_stays() {
        let mut shelf = Shelf::new(test_peer(1));
        let table: &[(u64, &[u8], bool, &[u8])] = &[
            (5, b"five", true, b"five"),
            (4, b"four", false, b"five"),
            (5, b"other five", false, b"five"),
            (5, b"five", true, b"five"),
            (6, b"six", true, b"six"),
        ];
        for (sequence, value, is_taken, kept) in table {
            assert_eq!(shelf.keep(record(1, value, None), *sequence, test_peer(2)), *is_taken, "{value:?}");
            assert_eq!(&shelf.get(&record(1, b"", None).key).unwrap().value, kept);
        }
    }

    #[test]
    fn nobody_fills_the_shelf_alone_and_together_they_leave_our_places() {
        let me = test_peer(0);
        let mut shelf = Shelf::new(me);
        let taken = |shelf: &mut Shelf, from: usize, source| {
            (from..from + 1000).filter(|key| shelf.keep(record(*key, b"", None), 1, source)).count()
        };
        assert_eq!(taken(&mut shelf, 0, test_peer(1)), MAX_PER_SOURCE);
        for seed in 2..20 {
            taken(&mut shelf, usize::from(seed) * 10_000, test_peer(seed));
        }
        assert_eq!(shelf.record_count(), MAX_RECORDS);
        assert_eq!(taken(&mut shelf, 1_000_000, me), MAX_OWN_RECORDS);
        assert_eq!(shelf.record_count(), MAX_RECORDS + MAX_OWN_RECORDS);
    }

    #[test]
    fn providers_are_bounded_and_ours_always_find_a_place() {
        let me = test_peer(0);
        let mut shelf = Shelf::new(me);
        let mut taken = 0;
        for seed in 1..=40 {
            taken += usize::from(shelf.add_provider(provider(7, test_peer(seed), None)).is_ok());
        }
        assert_eq!(taken, 40, "newcomers are listed");
        assert_eq!(shelf.providers(&provider(7, me, None).key).len(), MAX_PROVIDERS_PER_KEY);
        for seed in 1..=40 {
            for key in 100..200 {
                let _ = shelf.add_provider(provider(key * 100 + usize::from(seed), test_peer(seed), None));
            }
        }
        assert_eq!(shelf.providers.len(), MAX_PROVIDED_KEYS + MAX_OWN_KEYS);
        assert!(shelf.add_provider(provider(7, me, None)).is_ok());
        assert!(shelf.add_provider(provider(8, me, None)).is_ok());
        assert_eq!(shelf.own_keys().len(), 2);
        shelf.remove_provider(&provider(8, me, None).key, &me);
        assert_eq!(shelf.own_keys().len(), 1);
    }

    #[test]
    fn a_full_shelf_keeps_what_is_nearest_and_our_own() {
        let me = test_peer(0);
        let mut shelf = Shelf::new(me);
        shelf.keep(record(1, b"", None), 1, me);
        for key in 2..5000 {
            shelf.keep(record(key, b"", None), 1, PeerId::random());
        }
        let mut nearest: Vec<_> =
            (2..5000_usize).map(|key| (shelf.distance(&key.to_be_bytes()), key.to_be_bytes())).collect();
        nearest.sort();
        assert_eq!(shelf.record_count(), 1 + MAX_RECORDS);
        assert!(nearest[..MAX_RECORDS].iter().all(|(_, key)| shelf.sequence(key).is_some()));
        assert_eq!(shelf.sequence(&1_usize.to_be_bytes()), Some(1));
    }

    #[test]
    fn the_provider_that_was_not_heard_for_the_longest_makes_room() {
        let (me, now) = (test_peer(0), Instant::now());
        let mut shelf = Shelf::new(me);
        let said = |seed: u8, at: u64| provider(7, test_peer(seed), Some(now + Duration::from_secs(at)));
        shelf.add_provider(provider(7, me, None)).unwrap();
        for seed in 1..=20 {
            shelf.add_provider(said(seed, u64::from(seed))).unwrap();
        }
        shelf.add_provider(said(1, 30)).unwrap();
        shelf.add_provider(said(50, 31)).unwrap();
        let kept: Vec<_> = shelf.providers(&said(1, 0).key).iter().map(|known| known.provider).collect();
        assert_eq!(kept.len(), 1 + MAX_PROVIDERS_PER_KEY);
        for (seed, is_kept) in [(0, true), (1, true), (2, false), (3, true), (50, true)] {
            assert_eq!(kept.contains(&test_peer(seed)), is_kept, "{seed}");
        }
    }

    #[test]
    fn what_is_expired_is_forgotten() {
        let (me, now) = (test_peer(0), Instant::now());
        let (past, future) = (Some(now), Some(now + Duration::from_secs(1)));
        let mut shelf = Shelf::new(me);
        shelf.keep(record(1, b"", past), 1, test_peer(1));
        shelf.keep(record(2, b"", future), 1, test_peer(1));
        shelf.add_provider(provider(1, test_peer(1), past)).unwrap();
        shelf.add_provider(provider(2, test_peer(1), future)).unwrap();
        shelf.prune(now);
        assert_eq!((shelf.records.len(), shelf.providers.len()), (1, 1));
    }
}
