//! Is somebody there? Asked of the owner, as of now, with an error for each way of not being there.

mod common;

use std::sync::Arc;

use common::wire::*;
use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{ActorPath, ActorSystem, Did, Kind, LookupError, Policy, Refusal, RefusalCode, Supervision};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn an_actor_is_found_near_and_far_and_its_recipient_works() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    registered_probe(&b, &Seen::default());
    for (system, before) in [(&a, 0), (&b, 1)] {
        let found = system.lookup::<Note>(&address(2, "/probe")).await.unwrap();
        assert_eq!(ask_far(&found, Note(1)).await.unwrap(), before);
    }
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn each_way_of_not_being_there_has_its_name() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    registered_probe(&b, &Seen::default());
    for system in [&a, &b] {
        let nobody = system.lookup::<Note>(&address(2, "/nobody")).await;
        assert_eq!(nobody.unwrap_err(), LookupError::NobodyThere);
        let unheard = system.lookup::<Unheard>(&address(2, "/probe")).await;
        assert_eq!(unheard.unwrap_err(), LookupError::NotUnderstood);
    }
    assert_eq!(a.lookup::<Note>(&address(9, "/probe")).await.unwrap_err(), LookupError::NoRouteYet);
    let alone = builder(3).start().unwrap();
    assert_eq!(alone.lookup::<Note>(&address(2, "/probe")).await.unwrap_err(), LookupError::NoRouteYet);
    network.disconnect(did(1), did(2));
    let cut = a.lookup::<Note>(&address(2, "/probe")).await.unwrap_err();
    assert!(matches!(cut, LookupError::Unreachable(_)), "{cut}");
    let other = ActorSystem::builder(did(4), "other").transport(network.transport(did(4))).start().unwrap();
    let refused = other.lookup::<Note>(&address(2, "/probe")).await.unwrap_err();
    assert!(matches!(refused, LookupError::Refused(refusal) if refusal.code == RefusalCode::OtherNetwork));
    stop(&[&a, &b, &alone, &other]).await;
}

#[tokio::test]
async fn what_was_there_a_moment_ago_is_not_found() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let seen = Seen::default();
    let actor = registered_probe(&b, &seen);
    let address = address(2, "/probe");
    let found = a.lookup::<Note>(&address).await.unwrap();
    actor.stop();
    soon("ended", actor.closed()).await;
    assert_eq!(a.lookup::<Note>(&address).await.unwrap_err(), LookupError::NobodyThere);
    // A successor is found, and by the recipient of its predecessor, too.
    registered_probe(&b, &seen);
    a.lookup::<Note>(&address).await.unwrap();
    assert_eq!(ask_far(&found, Note(1)).await.unwrap(), 0);
    b.unregister("/probe");
    assert_eq!(a.lookup::<Note>(&address).await.unwrap_err(), LookupError::NobodyThere);
    // A kind that is accepted later is found as soon as it is.
    let late = probe(&b, &seen, Supervision::never());
    let registration = b.register("/probe", &late).unwrap();
    assert_eq!(a.lookup::<Note>(&address).await.unwrap_err(), LookupError::NotUnderstood);
    let _ = registration.accepts::<Note>();
    a.lookup::<Note>(&address).await.unwrap();
    stop(&[&a, &b]).await;
}

/// Trusts nobody.
struct Nobody;
impl Policy for Nobody {
    fn admit(&self, _: Did, path: &ActorPath, kind: &Kind) -> Result<(), Refusal> {
        assert_eq!((path.as_str(), kind.to_string().as_str()), ("/probe", "test.note/1"));
        Err(Refusal::new(RefusalCode::NotTrusted, "a stranger"))
    }
}

#[tokio::test]
async fn the_policy_is_asked_before_it_is_said_who_is_there() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let b = builder(2).transport(network.transport(did(2))).policy(Arc::new(Nobody)).start().unwrap();
    let refused = a.lookup::<Note>(&address(2, "/probe")).await.unwrap_err();
    assert!(matches!(refused, LookupError::Refused(refusal) if refusal.code == RefusalCode::NotTrusted));
    stop(&[&a, &b]).await;
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lives_and_does_not_answer_is_not_waited_for_for_ever() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let mut evil = Evil::join(&network);
    let looking = tokio::spawn(a.lookup::<Note>(&address(66, "/probe")));
    let mut pipe = evil.accepted().await;
    let lookup = next(&mut pipe, LOOKUP).await;
    assert_eq!((lookup.number(0), lookup.text(1), lookup.text(2)), (1, "/probe", "test.note/1"));
    tokio::spawn(async move {
        while let Ok(frame_read) = read(&mut pipe).await {
            assert_eq!(frame_read.number, PING);
            pipe.write_all(&frame(&(PONG,), b"")).await.unwrap();
        }
    });
    let looked = tokio::time::timeout(std::time::Duration::from_secs(60), looking).await.unwrap();
    assert_eq!(looked.unwrap().unwrap_err(), LookupError::TimedOut);
    tokio::time::resume();
    stop(&[&a]).await;
}

#[tokio::test]
async fn a_lost_link_ends_a_lookup() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let mut evil = Evil::join(&network);
    let looking = tokio::spawn(a.lookup::<Note>(&address(66, "/probe")));
    let mut pipe = evil.accepted().await;
    next(&mut pipe, LOOKUP).await;
    drop(pipe);
    let lost = soon("lost", looking).await.unwrap().unwrap_err();
    assert!(matches!(lost, LookupError::Unreachable(_)), "{lost}");
    stop(&[&a]).await;
}

#[tokio::test]
async fn paths_are_listed_by_what_they_lie_under() {
    let system = builder(1).start().unwrap();
    let actor = probe(&system, &Seen::default(), Supervision::never());
    for path in ["/a", "/a/b", "/a/b/c", "/a-b", "/a/bc", "/b"] {
        let _ = system.register(path, &actor).unwrap();
    }
    let under = |prefix: &str| -> Vec<String> {
        system.list_under(&prefix.parse().unwrap()).iter().map(ToString::to_string).collect()
    };
    assert_eq!(under("/a"), ["/a", "/a/b", "/a/b/c", "/a/bc"]);
    assert_eq!(under("/a/b"), ["/a/b", "/a/b/c"]);
    assert_eq!(under("/c"), [""; 0]);
    actor.stop();
    soon("ended", actor.closed()).await;
    assert_eq!(under("/a"), [""; 0]);
    stop(&[&system]).await;
}
