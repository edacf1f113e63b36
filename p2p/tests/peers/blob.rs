//! The blob protocol of `dms-actors` over real streams.

use std::sync::Arc;

use dms_actors::blob::{BlobRefusal, BlobSource, FetchError, fetch, serve};
use dms_actors::transport::{BLOB_PROTOCOL, TransportEvent};
use dms_actors::{ContentId, Did};
use dms_p2p::P2p;

use crate::harness::{config, config_to, start, within};

/// Has one content, for anyone.
struct OneBlob(Vec<u8>);

impl BlobSource for OneBlob {
    fn open(&self, _: Did, id: &ContentId) -> Result<Vec<u8>, BlobRefusal> {
        if *id == ContentId::of_bytes(&self.0) { Ok(self.0.clone()) } else { Err(BlobRefusal::NotFound) }
    }
}

fn serve_all(peer: &P2p, source: OneBlob) {
    let mut events = peer.transport().take_events().expect("taken once");
    let source = Arc::new(source);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let TransportEvent::Opened { peer, protocol: BLOB_PROTOCOL, pipe } = event {
                let source = source.clone();
                tokio::spawn(async move { serve(pipe, peer, source.as_ref()).await });
            }
        }
    });
}

#[tokio::test]
async fn a_blob_is_fetched_whole_and_an_unknown_one_is_refused() {
    let a = start(1, config()).await;
    let b = start(2, config_to(&a)).await;
    let content: Vec<u8> = (0..4_000_000_u32).map(|index| (index % 251) as u8).collect();
    serve_all(&a, OneBlob(content.clone()));

    b.transport().add_addresses(a.did(), a.listen_addresses());
    let (transport, id) = (b.transport(), ContentId::of_bytes(&content));
    let fetched = within("a blob", fetch(transport.as_ref(), a.did(), id, 5_000_000)).await.expect("found");
    assert!(fetched == content);
    let unknown = within("a refusal", fetch(transport.as_ref(), a.did(), ContentId::of_bytes(b""), 1)).await;
    assert!(matches!(unknown, Err(FetchError::Refused(BlobRefusal::NotFound))), "{unknown:?}");
    let too_long = within("a refusal", fetch(transport.as_ref(), a.did(), id, 1000)).await;
    assert!(matches!(too_long, Err(FetchError::TooLong { .. })), "{too_long:?}");
}
