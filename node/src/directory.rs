//! The words in the directory: under which keys they lie, what may lie there, and how they are found.
//!
//! | word | key | lives |
//! |---|---|---|
//! | node card | its own content identifier | until it is put no more |
//! | advert | hash of a tag and the issuer's DID | 30 min |
//! | members of a capability class (a list of DIDs) | hash of a tag and the class | while they say so |
//!
//! Nothing that is found is believed before it is verified here; whoever is found is a stranger as any other.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use dms_actors::clock::SharedClock;
use dms_actors::directory::{Directory, MAX_RECORD_LENGTH, RecordCheck, RecordKey};
use dms_actors::signed::{SKEW, SignedHeader};
use dms_actors::wire::DecodeContext;
use dms_messages::{Advert, CapabilityClass, ContentId, Did, NodeCard, Signed};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::node::ADVERT_TTL;
use crate::orchestrator::discovery;

/// How long a look-up of a class may take in all. Jobs wait less; what comes later helps the next round.
const CLASS_TIME: Duration = Duration::from_secs(10);
/// How long one advert is looked up while a word waits for it.
const ADVERT_TIME: Duration = Duration::from_secs(2);
/// Most look-ups for waiting words at a time: each is a query among many peers.
const MAX_QUERIES: usize = 16;
/// What rounding to whole seconds may add to an advert's life, at both ends.
const ROUNDING: Duration = Duration::from_secs(2);

/// Where a node's card lies.
pub fn card_key(card: ContentId) -> RecordKey {
    RecordKey(card.to_bytes())
}

/// Where a provider's advert lies.
pub fn advert_key(provider: Did) -> RecordKey {
    hashed("dms.directory.advert/1", &provider.to_string())
}

/// Where the members of a class are listed.
pub fn class_key(class: &CapabilityClass) -> RecordKey {
    hashed("dms.directory.class/1", &class.to_string())
}

/// A key that only this kind of thing can have; neither tag nor text holds a zero byte.
fn hashed(tag: &str, text: &str) -> RecordKey {
    let mut hash = Sha256::new();
    hash.update(tag);
    hash.update([0]);
    hash.update(text);
    RecordKey(hash.finalize().to_vec())
}

/// Lets cards and adverts of one mesh into the directory, each under the key of whoever signed it.
#[derive(Debug)]
pub struct WordCheck {
    me: Did,
    network: String,
    clock: SharedClock,
}

impl WordCheck {
    /// The check of the node `me` in one mesh.
    pub fn new(me: Did, network: impl Into<String>, clock: SharedClock) -> Self {
        Self { me, network: network.into(), clock }
    }

    fn context(&self) -> DecodeContext {
        DecodeContext { me: self.me, now: self.clock.now(), network: self.network.clone() }
    }

    /// An advert that is its issuer's, for everybody, of this mesh and of this time.
    fn advert(&self, key: &RecordKey, value: &[u8]) -> Result<Signed<Advert>, String> {
        if value.len() > MAX_RECORD_LENGTH {
            return Err(format!("longer than {MAX_RECORD_LENGTH} bytes"));
        }
        let context = self.context();
        let advert = Signed::<Advert>::verify(value, &context).map_err(|error| error.to_string())?;
        for_everybody(advert.header())?;
        let lifetime = advert.header().expires_at.saturating_since(advert.header().issued_at);
        if *key != advert_key(advert.issuer()) {
            return Err("the key is not that of its issuer".to_owned());
        }
        if lifetime > ADVERT_TTL + ROUNDING {
            return Err("it wants to live for too long".to_owned());
        }
        // A sequence from the far future would keep every later advert out.
        if advert.value().sequence > context.now.saturating_add(SKEW).0 {
            return Err("its sequence is from the future".to_owned());
        }
        Ok(advert)
    }

    fn card(&self, value: &[u8]) -> Result<(), String> {
        // A card ends with its key and not by time: its age is no reason against it.
        let card = Signed::<NodeCard>::verify_offline(value).map_err(|error| error.to_string())?;
        for_everybody(card.header())?;
        if card.header().network != self.network {
            return Err(format!("a card of the network {:?}", card.header().network));
        }
        if card.header().issued_at > self.clock.now().saturating_add(SKEW) {
            return Err("it is from the future".to_owned());
        }
        if card.value().did == card.issuer() {
            Ok(())
        } else {
            Err("a card of another than its issuer".to_owned())
        }
    }
}

impl RecordCheck for WordCheck {
    fn check(&self, key: &RecordKey, value: &[u8]) -> Result<u64, String> {
        if value.len() > MAX_RECORD_LENGTH {
            return Err(format!("longer than {MAX_RECORD_LENGTH} bytes"));
        }
        if *key == card_key(ContentId::of_document(value)) {
            // The key names these bytes: there is no newer version of them.
            self.card(value).map(|()| 0)
        } else {
            self.advert(key, value).map(|advert| advert.value().sequence)
        }
    }
}

fn for_everybody(header: &SignedHeader) -> Result<(), String> {
    if header.audience.is_none() { Ok(()) } else { Err("it is addressed to one reader".to_owned()) }
}

/// Looks words up. Cheap to clone.
#[derive(Clone)]
pub struct Finder {
    directory: Arc<dyn Directory>,
    check: Arc<WordCheck>,
    queries: Arc<Semaphore>,
}

impl fmt::Debug for Finder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Finder").field("check", &self.check).finish_non_exhaustive()
    }
}

impl Finder {
    /// A finder that believes what `check` lets in.
    pub fn new(directory: Arc<dyn Directory>, check: WordCheck) -> Self {
        Self { directory, check: Arc::new(check), queries: Arc::new(Semaphore::new(MAX_QUERIES)) }
    }

    /// The newest advert of `provider`, if one is found within 2 s; none at once if too many are looked for.
    pub async fn find_advert(&self, provider: Did) -> Option<Signed<Advert>> {
        let _place = self.queries.try_acquire().ok()?;
        timeout_at(Instant::now() + ADVERT_TIME, self.fetch_advert(provider)).await.ok()?
    }

    async fn fetch_advert(&self, provider: Did) -> Option<Signed<Advert>> {
        let key = advert_key(provider);
        let found = self.directory.get(key.clone()).await;
        let found = found.inspect_err(|error| tracing::debug!(%provider, %error, "no advert was found"));
        let adverts = found.ok()?.into_iter().filter_map(|value| {
            let checked = self.check.advert(&key, &value);
            checked.inspect_err(|reason| tracing::debug!(%provider, reason, "a found advert is refused")).ok()
        });
        adverts.max_by_key(|advert| advert.value().sequence)
    }

    /// Adverts of nodes that are not `known` yet: those trusted by name, and those that say they provide the class,
    /// who may be anybody: their adverts show what lets them. What is found within 10 s.
    pub async fn find_class(
        &self,
        class: CapabilityClass,
        named: BTreeSet<Did>,
        known: BTreeSet<Did>,
        chance: u8,
    ) -> Vec<Signed<Advert>> {
        let deadline = Instant::now() + CLASS_TIME;
        let providers = timeout_at(deadline, self.directory.providers(class_key(&class))).await;
        let providers = match providers {
            Ok(Ok(providers)) => providers,
            Ok(Err(error)) => {
                tracing::debug!(%class, %error, "no provider was found");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let wanted = discovery::whom_to_look_up(providers, &named, &known, chance);
        let mut queries: FuturesUnordered<_> = wanted.into_iter().map(|did| self.fetch_advert(did)).collect();
        let mut found = Vec::new();
        while let Ok(Some(advert)) = timeout_at(deadline, queries.next()).await {
            found.extend(advert);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{RECORD_TTL, Signer};
    use crate::testing::{StillClock, did, resources, signer};
    use dms_messages::{ExecutorKind, PriceList};

    fn check(clock: &Arc<StillClock>) -> WordCheck {
        WordCheck::new(did(9), "test", Arc::clone(clock) as SharedClock)
    }

    fn advert(pen: &Signer) -> Advert {
        Advert {
            card: ContentId::of_bytes(b"card"),
            addresses: vec!["/ip4/10.0.0.1/tcp/1".into()],
            executors: BTreeSet::from([ExecutorKind::Wasm]),
            available: resources(1000, 64),
            prices: PriceList::default(),
            sequence: pen.now().0,
            credentials: Default::default(),
            profile: Default::default(),
        }
    }

    #[test]
    fn each_thing_has_a_key_of_its_own_that_never_changes() {
        let hex = |key: RecordKey| format!("{key:?}");
        let class = CapabilityClass { executor: ExecutorKind::Wasm, architecture: None };
        let own = CapabilityClass { architecture: Some("x86_64".into()), ..class.clone() };
        let keys = [advert_key(did(1)), advert_key(did(2)), class_key(&class), class_key(&own)];
        assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), 4);
        assert!(keys.iter().all(|key| key.0.len() == 32));
        // Written down: nodes that disagree about a key do not find each other.
        assert_eq!(
            hex(advert_key(did(1))),
            "RecordKey(13305a9190022ae680a1ea9f0dbaf3695be444f4043e06755982d7619318042f)"
        );
        assert_eq!(
            hex(class_key(&class)),
            "RecordKey(e8206cebdad9409acc782d1fc3deded07ea6fbe1e7236ee2234816e185f73bf8)"
        );
        let card = ContentId::of_document(b"card");
        assert_eq!(card_key(card).0, card.to_bytes());
    }

    #[test]
    fn only_what_its_issuer_signed_for_all_and_now_lies_under_its_key() {
        let clock = Arc::new(StillClock::default());
        let (pen, check) = (signer(1, &clock), check(&clock));
        let key = advert_key(did(1));
        let signed = pen.sign(advert(&pen), None, ADVERT_TTL).unwrap();
        assert_eq!(check.check(&key, signed.bytes()), Ok(pen.now().0));

        let refused = |key: &RecordKey, value: &[u8], why: &str| {
            let reason = check.check(key, value).unwrap_err();
            assert!(reason.contains(why), "{reason} should say {why}");
        };
        refused(&advert_key(did(2)), signed.bytes(), "not that of its issuer");
        refused(&card_key(ContentId::of_document(signed.bytes())), signed.bytes(), "kind");
        for index in 0..signed.bytes().len() {
            let mut forged = signed.bytes().to_vec();
            forged[index] ^= 1;
            assert!(check.check(&key, &forged).is_err(), "byte {index}");
        }
        refused(&key, &[], "malformed");
        refused(&key, &vec![0; MAX_RECORD_LENGTH + 1], "longer than");
        let for_one = pen.sign(advert(&pen), Some(did(9)), ADVERT_TTL).unwrap();
        refused(&key, for_one.bytes(), "addressed to one reader");
        let long = pen.sign(advert(&pen), None, ADVERT_TTL * 2).unwrap();
        refused(&key, long.bytes(), "too long");
        let future = Advert { sequence: pen.now().0 + 31_000, ..advert(&pen) };
        let future = pen.sign(future, None, ADVERT_TTL).unwrap();
        refused(&key, future.bytes(), "from the future");
        let keypair = Arc::new(dms_messages::Keypair::from_secret(&[1; 32]));
        let foreign = Signer::new(keypair, Arc::clone(&clock) as SharedClock, "other");
        let foreign = foreign.sign(advert(&pen), None, ADVERT_TTL).unwrap();
        refused(&key, foreign.bytes(), "another mesh");
        clock.advance(ADVERT_TTL + SKEW + ROUNDING);
        refused(&key, signed.bytes(), "expired");
    }

    #[test]
    fn a_card_lies_under_its_own_name() {
        let clock = Arc::new(StillClock::default());
        let check = check(&clock);
        let card = crate::node::new_card(&signer(1, &clock)).unwrap();
        assert_eq!(check.check(&card_key(card.content_id()), card.bytes()), Ok(0));
        clock.advance(RECORD_TTL * 3);
        assert_eq!(check.check(&card_key(card.content_id()), card.bytes()), Ok(0), "it ends with its key");
        assert!(check.check(&card_key(ContentId::of_document(b"other")), card.bytes()).is_err());
        assert!(check.check(&advert_key(did(1)), card.bytes()).is_err(), "a card is no advert");
        // A card that somebody signs for another.
        let stolen = signer(2, &clock).sign(card.value().clone(), None, RECORD_TTL).unwrap();
        let reason = check.check(&card_key(stolen.content_id()), stolen.bytes()).unwrap_err();
        assert!(reason.contains("another than its issuer"), "{reason}");
    }
}
