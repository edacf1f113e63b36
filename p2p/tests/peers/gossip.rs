//! Gossip over a line of peers: what is heard, what is forwarded, and what is refused.

use std::collections::BTreeSet;

use dms_actors::mesh::{Gossip, MAX_GOSSIP_LENGTH, PublishError, Topic, Verdict};
use dms_p2p::P2p;
use tokio::sync::mpsc;

use crate::harness::{config, config_to, start, until, within};

fn topic() -> Topic {
    Topic("/dms/test/bids".to_owned())
}

async fn subscribe(peer: &P2p) -> mpsc::Receiver<Gossip> {
    within("subscribe", peer.mesh().subscribe(topic())).await.expect("subscribed");
    peer.mesh().take_gossip().expect("taken once")
}

async fn until_in_mesh(peer: &P2p, count: usize) {
    until("the mesh", peer, |status| status.topics.first().is_some_and(|topic| topic.mesh_count == count))
        .await;
}

async fn publish(peer: &P2p, body: &[u8]) {
    within("publish", peer.mesh().publish(topic(), body.to_vec())).await.expect("published");
}

async fn next(heard: &mut mpsc::Receiver<Gossip>) -> Gossip {
    within("a message", heard.recv()).await.expect("the peer still runs")
}

/// Three peers, of which the first and the last know only the middle one.
async fn line() -> [P2p; 3] {
    let b = start(2, config()).await;
    // One connection each, or the ends would find each other through the middle.
    let end = || {
        let mut config = config_to(&b);
        config.limits.established = 1;
        config
    };
    let a = start(1, end()).await;
    let c = start(3, end()).await;
    [a, b, c]
}

#[tokio::test]
async fn an_accepted_message_travels_down_the_line_and_a_rejected_or_ignored_one_does_not() {
    let [a, b, c] = line().await;
    let (_at_a, mut at_b, mut at_c) = (subscribe(&a).await, subscribe(&b).await, subscribe(&c).await);
    until_in_mesh(&a, 1).await;
    until_in_mesh(&b, 2).await;
    until_in_mesh(&c, 1).await;

    for (body, verdict) in
        [(&b"ignored"[..], Verdict::Ignore), (b"rejected", Verdict::Reject), (b"accepted", Verdict::Accept)]
    {
        publish(&a, body).await;
        let gossip = next(&mut at_b).await;
        assert_eq!((gossip.source, gossip.forwarder), (a.did(), a.did()));
        assert_eq!((gossip.body.as_slice(), gossip.topic), (body, topic()));
        b.mesh().verdict(gossip.id, gossip.forwarder, verdict);
    }
    let gossip = next(&mut at_c).await;
    assert_eq!(gossip.body, b"accepted", "the first that the end of the line hears");
    assert_eq!((gossip.source, gossip.forwarder), (a.did(), b.did()));
    assert_eq!(c.transport().connected_peers(), [b.did()], "it came over the middle");
    assert!(at_b.try_recv().is_err(), "nothing is heard twice");
}

#[tokio::test]
async fn a_body_may_have_the_full_length_and_not_one_byte_more() {
    let a = start(1, config()).await;
    let b = start(2, config_to(&a)).await;
    let (_at_a, mut at_b) = (subscribe(&a).await, subscribe(&b).await);
    until_in_mesh(&a, 1).await;
    let full = vec![7; MAX_GOSSIP_LENGTH];
    publish(&a, &full).await;
    assert!(next(&mut at_b).await.body == full);
    let too_long = within("publish", a.mesh().publish(topic(), vec![7; MAX_GOSSIP_LENGTH + 1])).await;
    assert_eq!(too_long, Err(PublishError::TooLong(MAX_GOSSIP_LENGTH + 1)));
}

#[tokio::test]
async fn alone_nobody_listens() {
    let a = start(1, config()).await;
    let _at_a = subscribe(&a).await;
    let published = within("publish", a.mesh().publish(topic(), b"hello".to_vec())).await;
    assert_eq!(published, Err(PublishError::NobodyListens));
}

#[tokio::test]
async fn topics_of_another_network_are_not_gossiped() {
    let a = start(1, config()).await;
    let foreign = Topic("/dms/other/bids".to_owned());
    assert_eq!(
        within("subscribe", a.mesh().subscribe(foreign.clone())).await,
        Err(PublishError::NobodyListens)
    );
    assert_eq!(
        within("publish", a.mesh().publish(foreign, Vec::new())).await,
        Err(PublishError::NobodyListens)
    );
}

#[tokio::test]
async fn topics_are_bounded_and_a_repeat_takes_no_place() {
    let a = start(1, config()).await;
    let mesh = a.mesh();
    let mut refused = None;
    for number in 0..200 {
        let topic = Topic(format!("/dms/test/{number}"));
        let result = within("subscribe", mesh.subscribe(topic)).await;
        if result.is_err() {
            refused = Some((number, result));
            break;
        }
    }
    assert_eq!(refused, Some((100, Err(PublishError::Busy))));
    assert_eq!(within("subscribe", mesh.subscribe(Topic("/dms/test/0".to_owned()))).await, Ok(()));
}

#[tokio::test]
async fn one_who_only_publishes_is_heard_too() {
    let b = start(2, config()).await;
    let a = start(1, config_to(&b)).await;
    let mut at_b = subscribe(&b).await;
    // The news that somebody listens takes a moment, and its absence is a typed answer.
    within("a listener", async {
        loop {
            match a.mesh().publish(topic(), b"hello".to_vec()).await {
                Ok(()) => return,
                Err(PublishError::NobodyListens) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
    assert_eq!(next(&mut at_b).await.source, a.did());
}

#[tokio::test]
async fn a_reader_that_lags_loses_messages_and_blocks_nobody() {
    let a = start(1, config()).await;
    let b = start(2, config_to(&a)).await;
    let (_at_a, mut at_b) = (subscribe(&a).await, subscribe(&b).await);
    until_in_mesh(&a, 1).await;
    for number in 0..400_u16 {
        publish(&a, &number.to_be_bytes()).await;
    }
    until("the overflow", &b, |status| status.dropped_gossip >= 1).await;
    let mut heard = BTreeSet::new();
    while let Ok(gossip) = at_b.try_recv() {
        heard.insert(gossip.body);
    }
    assert!(heard.len() >= 256, "what fitted is there: {}", heard.len());
    publish(&a, b"still here").await;
    within("the next message", async { while next(&mut at_b).await.body != b"still here" {} }).await;
}

#[tokio::test]
async fn after_shutdown_the_mesh_is_closed() {
    let a = start(1, config()).await;
    let (mesh, mut at_a) = (a.mesh(), subscribe(&a).await);
    within("shutdown", a.shutdown()).await;
    assert_eq!(within("publish", mesh.publish(topic(), Vec::new())).await, Err(PublishError::Closed));
    assert_eq!(within("subscribe", mesh.subscribe(topic())).await, Err(PublishError::Closed));
    assert!(within("the end", at_a.recv()).await.is_none());
}
