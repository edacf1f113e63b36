//! Keys lie in the order of their values, rows read as they were written, and strange bytes are refused.

use dms_messages::{Keypair, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::engine::{Durability, MemoryEngine};
use crate::rows::jobs::Jobs;
use crate::rows::locks_by_expiry::LocksByExpiry;
use crate::rows::seen_ids::SeenIds;

fn content_id() -> impl Strategy<Value = ContentId> {
    (any::<bool>(), any::<[u8; 4]>()).prop_map(|(is_raw, bytes)| {
        if is_raw { ContentId::of_bytes(&bytes) } else { ContentId::of_document(&bytes) }
    })
}

fn did() -> impl Strategy<Value = Did> {
    any::<u8>().prop_map(|secret| Keypair::from_secret(&[secret; 32]).did())
}

/// Small numbers too, which little-endian bytes would put in another order.
fn timestamp() -> impl Strategy<Value = Timestamp> {
    prop_oneof![any::<u64>(), 0..1_000u64].prop_map(Timestamp)
}

fn archive_id() -> impl Strategy<Value = ArchiveId> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(|id| ArchiveId::Job(JobId::from_bytes(id))),
        any::<[u8; 16]>().prop_map(|id| ArchiveId::Allocation(AllocationId::from_bytes(id))),
        content_id().prop_map(ArchiveId::Contract),
    ]
}

fn check<K: OrderedKey + std::fmt::Debug>(one: &K, other: &K) -> Result<(), TestCaseError> {
    let (a, b) = (one.to_bytes(), other.to_bytes());
    prop_assert_eq!(one.cmp(other), a.cmp(&b));
    let read = K::from_bytes(&a);
    prop_assert_eq!(read.as_ref(), Some(one));
    prop_assert!(K::from_bytes(&a[1..]).is_none(), "too short");
    prop_assert!(K::from_bytes(&[a.as_slice(), &[0]].concat()).is_none(), "too long");
    Ok(())
}

proptest! {
    #[test]
    fn keys_lie_in_the_order_of_their_values(
        ids in any::<[[u8; 16]; 2]>(),
        cids in [content_id(), content_id()],
        dids in [did(), did()],
        times in [timestamp(), timestamp()],
        archived in [archive_id(), archive_id()],
    ) {
        check(&JobId::from_bytes(ids[0]), &JobId::from_bytes(ids[1]))?;
        check(&DocumentId(ids[0]), &DocumentId(ids[1]))?;
        check(&cids[0], &cids[1])?;
        check(&dids[0], &dids[1])?;
        let expiry = |n: usize| LockExpiry { expires: times[n], bid: BidId::from_bytes(ids[n]) };
        check(&expiry(0), &expiry(1))?;
        let contract = |n: usize| PeerContract { peer: dids[n], contract: cids[n] };
        check(&contract(0), &contract(1))?;
        check(&archived[0], &archived[1])?;
        let time = |n: usize| ArchiveTime { at: times[n], id: archived[n] };
        check(&time(0), &time(1))?;
        // Same time and same kind: the id decides.
        check(&ArchiveTime { at: times[0], id: archived[1] }, &time(0))?;
    }

    #[test]
    fn strange_bytes_are_an_error_and_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let engine = MemoryEngine::new();
        let mut batch = Batch::new();
        Family::ALL.into_iter().for_each(|family| batch.put(family, bytes.clone(), bytes.clone()));
        engine.write(batch, Durability::Synced).expect("memory writes");
        let reader = crate::Reader::new(std::sync::Arc::new(engine), 1);
        for family in Family::ALL {
            // Some bytes are a key; hardly any a value too. Whatever is read can be shown.
            drop(reader.query(family, &[], None, 10));
        }
    }
}

#[test]
fn values_of_another_version_or_form_are_refused() {
    let good = SeenIds::encode(&Timestamp(7));
    assert_eq!(SeenIds::decode(&good), Ok(Timestamp(7)));
    let mut newer = good.clone();
    newer[0] = 2;
    for bad in [&[][..], &newer, &good[..1], &[good.as_slice(), &[0]].concat()] {
        assert!(matches!(SeenIds::decode(bad), Err(RowError::Value { family: "seen_ids", .. })), "{bad:?}");
    }
    assert_eq!(LocksByExpiry::decode(&[]), Ok(()));
    assert!(LocksByExpiry::decode(&[1]).is_err());
    assert!(matches!(Jobs::key(&[0; 15]), Err(RowError::Key { family: "jobs" })));
}

#[test]
fn pages_are_bounded_and_go_on_where_the_last_one_ended() {
    let engine = MemoryEngine::new();
    let mut batch = Batch::new();
    for n in 0..2_500u16 {
        let mut id = [0; 16];
        id[..2].copy_from_slice(&n.to_be_bytes());
        batch.put(SeenIds::FAMILY, id, SeenIds::encode(&Timestamp(n.into())));
    }
    engine.write(batch, Durability::Synced).expect("memory writes");
    let mut after = None;
    let mut pages = Vec::new();
    loop {
        let page = SeenIds::page(&engine, &[], after.as_ref(), usize::MAX).expect("reads");
        let Some((last, _)) = page.last() else { break };
        after = Some(*last);
        pages.push(page.len());
    }
    assert_eq!(pages, [MAX_PAGE_ROWS, MAX_PAGE_ROWS, 2_500 - 2 * MAX_PAGE_ROWS]);
    let in_prefix = SeenIds::page(&engine, &[1], None, 1_000).expect("reads");
    assert_eq!(in_prefix.len(), 256);
    assert!(in_prefix.iter().all(|(key, _)| key.0[0] == 1));
    let beyond = DocumentId([2; 16]);
    assert_eq!(SeenIds::page(&engine, &[1], Some(&beyond), 10), Ok(vec![]), "past the prefix");
}
