//! Blobs between two peers: verified, bounded, refused by name.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::*;
use dms_actors::blob::{BlobRefusal, BlobSource, FetchError, MAX_BLOB_LENGTH, fetch, serve};
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::transport::{BLOB_PROTOCOL, Transport, TransportEvent};
use dms_actors::{ActorSystem, ContentId, Did};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Gives what it has to all but one, and counts.
#[derive(Default)]
struct Shelf {
    blobs: Vec<(ContentId, Vec<u8>)>,
    forbidden: Option<Did>,
    served: AtomicUsize,
}

impl Shelf {
    fn of(blobs: &[&[u8]]) -> Self {
        let blobs = blobs.iter().map(|bytes| (ContentId::of_bytes(bytes), bytes.to_vec())).collect();
        Self { blobs, ..Self::default() }
    }
}

impl BlobSource for Shelf {
    fn open(&self, peer: Did, id: &ContentId) -> Result<Vec<u8>, BlobRefusal> {
        self.served.fetch_add(1, Ordering::SeqCst);
        if self.forbidden == Some(peer) {
            return Err(BlobRefusal::NotAllowed);
        }
        let found = self.blobs.iter().find(|(known, _)| known == id);
        found.map(|(_, bytes)| bytes.clone()).ok_or(BlobRefusal::NotFound)
    }
}

fn host(network: &MemoryNetwork, shelf: Shelf) -> ActorSystem {
    builder(1).transport(network.transport(did(1))).blobs(Arc::new(shelf)).start().unwrap()
}

#[tokio::test]
async fn a_blob_arrives_verified_whatever_its_length() {
    let network = MemoryNetwork::default();
    let long = vec![7; 3_000_001];
    let blobs: [&[u8]; 3] = [b"", b"short", &long];
    let system = host(&network, Shelf::of(&blobs));
    let client = network.transport(did(2));
    for bytes in blobs {
        let id = ContentId::of_bytes(bytes);
        let fetched = soon("fetched", fetch(&*client, did(1), id, MAX_BLOB_LENGTH)).await.unwrap();
        assert!(fetched == bytes);
    }
    let id = ContentId::of_bytes(&long);
    let too_long = fetch(&*client, did(1), id, 1000).await;
    assert!(matches!(too_long, Err(FetchError::TooLong { length: 3_000_001, limit: 1000 })));
    stop(&[&system]).await;
}

#[tokio::test]
async fn what_is_not_given_is_refused_by_name() {
    let network = MemoryNetwork::default();
    let system = host(&network, Shelf { forbidden: Some(did(3)), ..Shelf::of(&[b"here"]) });
    let (here, gone) = (ContentId::of_bytes(b"here"), ContentId::of_bytes(b"gone"));
    let client = network.transport(did(2));
    let refused = fetch(&*client, did(1), gone, MAX_BLOB_LENGTH).await;
    assert!(matches!(refused, Err(FetchError::Refused(BlobRefusal::NotFound))));
    let refused = fetch(&*network.transport(did(3)), did(1), here, MAX_BLOB_LENGTH).await;
    assert!(matches!(refused, Err(FetchError::Refused(BlobRefusal::NotAllowed))));
    let nobody = fetch(&*client, did(9), here, MAX_BLOB_LENGTH).await;
    assert!(matches!(nobody, Err(FetchError::Open(_))));
    stop(&[&system]).await;
    // A system without a source.
    let bare = member(&network, 1);
    let refused = fetch(&*client, did(1), here, MAX_BLOB_LENGTH).await;
    assert!(matches!(refused, Err(FetchError::Refused(BlobRefusal::NotFound))));
    stop(&[&bare]).await;
}

#[tokio::test]
async fn a_lying_peer_is_found_out() {
    let length = |n: u32| [&[0][..], &n.to_be_bytes()].concat();
    let table: [(&str, Vec<u8>); 5] = [
        ("wrong bytes", [&length(4)[..], b"gone"].concat()),
        ("too long", length(u32::MAX)),
        ("half", [&length(4)[..], b"he"].concat()),
        ("no answer", vec![]),
        ("unknown status", vec![9]),
    ];
    let network = MemoryNetwork::default();
    let evil = network.transport(did(66));
    let mut events = evil.take_events().unwrap();
    let client = network.transport(did(2));
    for (name, answer) in table {
        let fetching = tokio::spawn({
            let client = client.clone();
            async move { fetch(&*client, did(66), ContentId::of_bytes(b"here"), MAX_BLOB_LENGTH).await }
        });
        let mut pipe = loop {
            match soon("a request", events.recv()).await.unwrap() {
                TransportEvent::Opened { pipe, .. } => break pipe,
                TransportEvent::Up(_) | TransportEvent::Down(_) => {}
            }
        };
        pipe.write_all(&answer).await.unwrap();
        pipe.shutdown().await.unwrap();
        let fetched = soon("found out", fetching).await.unwrap();
        let is_expected = match (name, &fetched) {
            ("wrong bytes", Err(FetchError::WrongContent)) => true,
            ("too long", Err(FetchError::TooLong { length, limit })) => {
                (*length, *limit) == (u64::from(u32::MAX), MAX_BLOB_LENGTH)
            }
            ("half" | "no answer", Err(FetchError::Pipe(_))) => true,
            ("unknown status", Err(FetchError::UnknownStatus(9))) => true,
            _ => false,
        };
        assert!(is_expected, "{name}: {fetched:?}");
    }
}

#[tokio::test]
async fn one_peer_cannot_take_all_places() {
    let network = MemoryNetwork::default();
    let system = host(&network, Shelf::of(&[b"here"]));
    let greedy = network.transport(did(2));
    // Four requests that are never finished hold four places.
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(greedy.open(did(1), BLOB_PROTOCOL).await.unwrap());
    }
    let id = ContentId::of_bytes(b"here");
    let refused = fetch(&*greedy, did(1), id, MAX_BLOB_LENGTH).await;
    assert!(matches!(refused, Err(FetchError::Refused(BlobRefusal::Busy))), "{refused:?}");
    let other = network.transport(did(3));
    assert_eq!(fetch(&*other, did(1), id, MAX_BLOB_LENGTH).await.unwrap(), b"here");
    drop(held);
    let deadline = std::time::Instant::now() + PATIENCE;
    while fetch(&*greedy, did(1), id, MAX_BLOB_LENGTH).await.is_err() {
        assert!(std::time::Instant::now() < deadline);
    }
    stop(&[&system]).await;
}

#[tokio::test]
async fn a_malformed_request_is_answered_and_a_broken_one_ends() {
    let shelf = Shelf::of(&[b"here"]);
    for request in [vec![200], vec![3, 1, 2, 3], vec![0]] {
        let (mut ours, theirs) = tokio::io::duplex(1024);
        ours.write_all(&request).await.unwrap();
        soon("answered", serve(Box::new(theirs), did(2), &shelf)).await.unwrap();
        let mut answer = Vec::new();
        ours.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, [1], "{request:?}");
    }
    assert_eq!(shelf.served.load(Ordering::SeqCst), 0);
    let (ours, theirs) = tokio::io::duplex(1024);
    drop(ours);
    assert!(matches!(serve(Box::new(theirs), did(2), &shelf).await, Err(FetchError::Pipe(_))));
}
