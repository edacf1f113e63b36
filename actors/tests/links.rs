//! Two systems on one memory network: words, credit, order, loss and refusal.

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use dms_actors::transport::memory::MemoryNetwork;
use dms_actors::{
    Actor, ActorPath, ActorSystem, Answer, AskError, Context, DeadLetterReason, Did, Handler, Kind,
    PeerEvent, Policy, Refusal, RefusalCode, SendFailure, Supervision,
};

#[tokio::test]
async fn a_word_and_its_reply_cross_and_the_sender_is_known() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let seen = Seen::default();
    registered_probe(&b, &seen);
    let far = a.resolve::<Note>(&address(2, "/probe"));
    far.tell(Note(1)).await.unwrap();
    assert_eq!(far.ask(Note(2)).timeout(PATIENCE).await.unwrap(), 1);
    far.try_tell(Note(3)).unwrap();
    let later = tokio::spawn(a.resolve::<Await>(&address(2, "/probe")).ask(Await).timeout(PATIENCE));
    seen.wait("awaiting 1").await;
    far.tell(Note(4)).await.unwrap();
    assert!(matches!(later.await.unwrap(), Ok(4)));
    for n in 1..=4 {
        assert_eq!(seen.count(&format!("note {n} from {}", did(1).short())), 1);
    }
    stop(&[&a, &b]).await;
}

/// Takes its time with each note and checks that its mailbox is never overfull.
struct Slow {
    notes: Vec<u64>,
}

impl Actor for Slow {
    const MAILBOX: usize = 32;
}

impl Handler<Note> for Slow {
    fn handle(&mut self, note: Note, ctx: &mut Context<'_, Self>) -> Answer<u64> {
        assert!(ctx.me().depth() <= Self::MAILBOX);
        self.notes.push(note.0);
        if note.0.is_multiple_of(50) {
            ctx.exclusive(tokio::time::sleep(Duration::from_millis(2)), |_, (), _| {});
        }
        (self.notes.len() as u64).into()
    }
}

/// Asks for what was noted.
struct Notes;
impl dms_actors::Message for Notes {
    type Reply = Vec<u64>;
}

impl Handler<Notes> for Slow {
    fn handle(&mut self, _: Notes, _: &mut Context<'_, Self>) -> Answer<Vec<u64>> {
        self.notes.clone().into()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_tells_to_a_slow_actor_arrive_all_and_in_order() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let slow = b.spawn(|| Slow { notes: Vec::new() }, Supervision::never());
    let _ = b.register("/slow", &slow).unwrap().accepts::<Note>();
    let far = a.resolve::<Note>(&address(2, "/slow"));
    for n in 0..2000 {
        far.tell(Note(n)).await.unwrap();
        assert!(slow.depth() <= Slow::MAILBOX);
    }
    // An ask goes the same way, so it is behind all of them.
    assert_eq!(far.ask(Note(2000)).timeout(PATIENCE).await.unwrap(), 2001);
    assert_eq!(slow.ask(Notes).timeout(PATIENCE).await.unwrap(), (0..=2000).collect::<Vec<_>>());
    assert_eq!((a.counters().dead_letters, b.counters().dead_letters), (0, 0));
    stop(&[&a, &b]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_flush_nothing_is_lost_with_the_link() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let slow = b.spawn(|| Slow { notes: Vec::new() }, Supervision::never());
    let _ = b.register("/slow", &slow).unwrap().accepts::<Note>();
    let far = a.resolve::<Note>(&address(2, "/slow"));
    for n in 0..300 {
        far.tell(Note(n)).await.unwrap();
    }
    assert!(a.flush(PATIENCE).await);
    network.disconnect(did(1), did(2));
    assert_eq!(slow.ask(Notes).timeout(PATIENCE).await.unwrap(), (0..300).collect::<Vec<_>>());
    assert_eq!(a.counters().dead_letters, 0);
    assert!(a.flush(PATIENCE).await, "a dead link has nothing on its way");
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_stalled_actor_stops_its_senders_and_nobody_else() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let seen = Seen::default();
    let stalled = registered_probe(&b, &seen);
    let free = probe(&b, &Seen::default(), Supervision::never());
    let _ = b.register("/free", &free).unwrap().accepts::<Note>();
    let release = hold(&stalled).await;
    let far = a.resolve::<Note>(&address(2, "/probe"));
    far.tell(Note(0)).await.unwrap();
    // The mailbox, then the credit of the link, and no further.
    let bound = (Probe::MAILBOX + dms_actors::CREDIT) as u64;
    let mut taken = 1;
    let mut refused = 0;
    while refused < 200 {
        match far.try_tell(Note(taken)) {
            Ok(()) => (taken, refused) = (taken + 1, 0),
            Err(error) => {
                assert_eq!(error.reason, SendFailure::Full);
                refused += 1;
                tokio::time::sleep(Duration::from_micros(100)).await;
            }
        }
        assert!(taken <= bound, "{taken} of {bound}");
        assert!(stalled.depth() <= Probe::MAILBOX);
    }
    until("all credit is used", || far.try_tell(Note(taken)).map(|()| taken += 1).is_err() && taken == bound)
        .await;
    let waiting = tokio::spawn(far.tell(Note(taken)));
    let other = a.resolve::<Note>(&address(2, "/free"));
    assert_eq!(other.ask(Note(1)).timeout(PATIENCE).await.unwrap(), 0);
    assert!(!waiting.is_finished());
    drop(release);
    soon("there is room", waiting).await.unwrap().unwrap();
    assert_eq!(far.ask(Note(taken + 1)).timeout(PATIENCE).await.unwrap(), taken + 1);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_lost_link_loses_asks_once_and_buries_what_was_not_acknowledged() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let seen = Seen::default();
    let actor = registered_probe(&b, &seen);
    let (mut dead, mut peers) = (a.dead_letters(), a.peers());
    let far = a.resolve::<Note>(&address(2, "/probe"));
    far.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    assert_eq!(soon("up", peers.recv()).await.unwrap(), PeerEvent::Up(did(2)));
    let asking = tokio::spawn(a.resolve::<Await>(&address(2, "/probe")).ask(Await).timeout(PATIENCE));
    seen.wait("awaiting 1").await;
    let release = hold(&actor).await;
    // As many as the mailbox takes are acknowledged; the others wait at the receiver.
    let count = Probe::MAILBOX as u64 + 5;
    for n in 0..count {
        far.tell(Note(n)).await.unwrap();
    }
    until("the mailbox is full", || actor.depth() == Probe::MAILBOX).await;
    let refused = a.resolve::<Unheard>(&address(2, "/probe"));
    refused.tell(Unheard).await.unwrap();
    let letter = soon("the refusal is back, so all before it is, too", dead.recv()).await.unwrap();
    assert!(matches!(letter.reason, DeadLetterReason::Refused(_)));
    network.disconnect(did(1), did(2));
    assert!(matches!(soon("lost", asking).await.unwrap(), Err(AskError::Lost)));
    for n in 0..5 {
        let letter = soon("a dead letter", dead.recv()).await.unwrap();
        assert_eq!((letter.reason, letter.peer), (DeadLetterReason::LinkLost, Some(did(2))), "{n}");
        assert_eq!(letter.path, Some("/probe".parse().unwrap()));
        assert_eq!(letter.kind, Some(Kind::parse("test.note/1").unwrap()));
    }
    assert_eq!(soon("down", peers.recv()).await.unwrap(), PeerEvent::Down(did(2)));
    assert!(dead.try_recv().is_err());
    let error = far.tell(Note(9)).await.unwrap_err();
    assert_eq!((error.message, error.reason), (Note(9), SendFailure::Unreachable("disconnected".into())));
    drop(release);
    // The same recipient finds its way when there is one again.
    network.connect(did(1), did(2));
    far.ask(Note(10)).timeout(PATIENCE).await.unwrap();
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_killed_peer_is_down_and_a_waiting_sender_is_told() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let seen = Seen::default();
    let actor = registered_probe(&b, &seen);
    let _release = hold(&actor).await;
    let far = a.resolve::<Note>(&address(2, "/probe"));
    let sending = tokio::spawn({
        let far = far.clone();
        async move {
            loop {
                if let Err(error) = far.tell(Note(0)).await {
                    return error.reason;
                }
            }
        }
    });
    until("the mailbox is full", || actor.depth() == Probe::MAILBOX).await;
    network.kill(did(2));
    let reason = soon("told", sending).await.unwrap();
    assert!(matches!(reason, SendFailure::Unreachable(_) | SendFailure::NoRouteYet), "{reason}");
    assert_eq!(far.tell(Note(1)).await.unwrap_err().reason, SendFailure::NoRouteYet);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn who_cannot_be_reached_is_said_at_once() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let nobody = a.resolve::<Note>(&address(9, "/probe"));
    assert_eq!(nobody.tell(Note(1)).await.unwrap_err().reason, SendFailure::NoRouteYet);
    assert_eq!(nobody.try_tell(Note(1)).unwrap_err().reason, SendFailure::NoRouteYet);
    let asked = nobody.ask(Note(7)).timeout(PATIENCE).await;
    assert!(matches!(asked, Err(AskError::NotSent { message: Note(7), reason: SendFailure::NoRouteYet })));
    let alone = builder(3).start().unwrap();
    let nowhere = alone.resolve::<Note>(&address(1, "/probe"));
    assert_eq!(nowhere.tell(Note(1)).await.unwrap_err().reason, SendFailure::NoRouteYet);
    stop(&[&a, &alone]).await;
}

#[tokio::test]
async fn unknown_paths_and_kinds_are_refused_by_name() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    registered_probe(&b, &Seen::default());
    let mut dead = a.dead_letters();
    let nobody = a.resolve::<Note>(&address(2, "/nobody"));
    let asked = nobody.ask(Note(1)).timeout(PATIENCE).await;
    assert!(matches!(asked, Err(AskError::Refused(refusal)) if refusal.code == RefusalCode::UnknownPath));
    let unheard = a.resolve::<Unheard>(&address(2, "/probe"));
    unheard.tell(Unheard).await.unwrap();
    let letter = soon("a dead letter", dead.recv()).await.unwrap();
    let DeadLetterReason::Refused(refusal) = letter.reason else { panic!("{letter:?}") };
    assert_eq!(refusal.code, RefusalCode::UnknownKind);
    assert_eq!(letter.kind, Some(Kind::parse("test.unheard/1").unwrap()));
    // Each is reported to its sender, and credit is not lost with them.
    for _ in 0..500 {
        unheard.tell(Unheard).await.unwrap();
    }
    let asked = unheard.ask(Unheard).timeout(PATIENCE).await;
    assert!(matches!(asked, Err(AskError::Refused(_))));
    assert_eq!(b.counters().refused_words, 503);
    assert_eq!(a.counters().dead_letters, 501);
    stop(&[&a, &b]).await;
}

/// Whether a body was ever decoded.
static DECODED: AtomicBool = AtomicBool::new(false);

struct Guarded;
impl dms_actors::Message for Guarded {
    type Reply = ();
}
impl dms_actors::WireMessage for Guarded {
    const KIND: &'static str = "test.guarded";
    const VERSION: u16 = 1;
    fn encode_body(&self) -> Result<Vec<u8>, dms_actors::cbor::CborError> {
        Ok(b"not even cbor".to_vec())
    }
    fn decode_body(
        _: &[u8],
        _: &dms_actors::wire::DecodeContext,
    ) -> Result<Self, dms_actors::wire::DecodeError> {
        DECODED.store(true, Ordering::SeqCst);
        panic!("a decoder that panics");
    }
}
impl Handler<Guarded> for Slow {
    fn handle(&mut self, _: Guarded, _: &mut Context<'_, Self>) -> Answer<()> {
        ().into()
    }
}

/// Trusts one peer.
struct Only(Did);
impl Policy for Only {
    fn admit(&self, sender: Did, path: &ActorPath, kind: &Kind) -> Result<(), Refusal> {
        assert_eq!((path.as_str(), kind.name.as_str()), ("/slow", "test.guarded"));
        if sender == self.0 { Ok(()) } else { Err(Refusal::new(RefusalCode::NotTrusted, "a stranger")) }
    }
}

#[tokio::test]
async fn the_policy_decides_before_the_body_is_decoded_and_a_panicking_decoder_harms_nobody() {
    let network = MemoryNetwork::default();
    let (stranger, friend) = (member(&network, 1), member(&network, 3));
    let policy = Arc::new(Only(did(3)));
    let b = builder(2).transport(network.transport(did(2))).policy(policy).start().unwrap();
    let slow = b.spawn(|| Slow { notes: Vec::new() }, Supervision::never());
    let _ = b.register("/slow", &slow).unwrap().accepts::<Guarded>();
    let to = address(2, "/slow");
    let refused = stranger.resolve::<Guarded>(&to).ask(Guarded).timeout(PATIENCE).await;
    assert!(matches!(refused, Err(AskError::Refused(refusal)) if refusal.code == RefusalCode::NotTrusted));
    assert!(!DECODED.load(Ordering::SeqCst));
    let refused = friend.resolve::<Guarded>(&to).ask(Guarded).timeout(PATIENCE).await;
    assert!(matches!(refused, Err(AskError::Refused(refusal)) if refusal.code == RefusalCode::Malformed));
    assert!(DECODED.load(Ordering::SeqCst));
    assert!(slow.is_alive());
    stop(&[&stranger, &friend, &b]).await;
}

/// Lets in whoever has shown the word of the day, and shows one of its own.
#[derive(Default)]
struct Password {
    shows: Mutex<Vec<u8>>,
    known: Mutex<BTreeSet<Did>>,
}

impl Policy for Password {
    fn admit(&self, sender: Did, _: &ActorPath, _: &Kind) -> Result<(), Refusal> {
        let is_known = self.known.lock().expect("nobody panics with it").contains(&sender);
        is_known.then_some(()).ok_or_else(|| Refusal::new(RefusalCode::NotTrusted, "no password"))
    }

    fn credentials(&self) -> Vec<u8> {
        self.shows.lock().expect("nobody panics with it").clone()
    }

    fn introduce(&self, peer: Did, credentials: &[u8]) -> Result<(), Refusal> {
        match credentials {
            b"swordfish" => drop(self.known.lock().expect("nobody panics with it").insert(peer)),
            b"knock" => return Err(Refusal::new(RefusalCode::NotTrusted, "nobody knocks here")),
            b"crash" => panic!("as told"),
            _ => drop(self.known.lock().expect("nobody panics with it").remove(&peer)),
        }
        Ok(())
    }
}

fn shows(network: &MemoryNetwork, n: u8, shown: &[u8]) -> (ActorSystem, Arc<Password>) {
    let policy = Arc::new(Password { shows: Mutex::new(shown.to_vec()), ..Password::default() });
    let system =
        builder(n).transport(network.transport(did(n))).policy(policy.clone()).start().expect("it starts");
    (system, policy)
}

#[tokio::test]
async fn what_a_peer_shows_is_known_before_its_first_word_and_a_change_before_the_next() {
    let network = MemoryNetwork::default();
    let (b, of_b) = shows(&network, 2, b"");
    let seen = Seen::default();
    registered_probe(&b, &seen);
    let (a, of_a) = shows(&network, 1, b"swordfish");
    let far = a.resolve::<Note>(&address(2, "/probe"));
    let ask = async |n: u64| far.ask(Note(n)).timeout(PATIENCE).await;
    assert_eq!(ask(1).await.unwrap(), 0);
    assert!(of_b.known.lock().unwrap().contains(&did(1)) && of_a.known.lock().unwrap().is_empty());
    // On the same link, in the order of what is said.
    for round in 0..5 {
        *of_a.shows.lock().unwrap() = b"goldfish".to_vec();
        a.introduce();
        assert!(matches!(ask(10).await, Err(AskError::Refused(_))), "{round}");
        *of_a.shows.lock().unwrap() = b"swordfish".to_vec();
        a.introduce();
        assert!(ask(11).await.is_ok(), "{round}");
    }
    // A refused introduction, and one at which the policy panics, leave what was known.
    for shown in [b"knock", b"crash"] {
        *of_a.shows.lock().unwrap() = shown.to_vec();
        a.introduce();
        assert!(ask(12).await.is_ok());
    }
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_link_is_refused_to_whom_the_policy_refuses_it_and_too_much_is_not_shown() {
    let network = MemoryNetwork::default();
    let (b, of_b) = shows(&network, 2, b"");
    registered_probe(&b, &Seen::default());
    for (n, shown) in [(3, &b"knock"[..]), (4, b"crash")] {
        let (a, _) = shows(&network, n, shown);
        let refused = a.resolve::<Note>(&address(2, "/probe")).ask(Note(1)).timeout(PATIENCE).await;
        assert!(refused.is_err(), "{refused:?}");
        stop(&[&a]).await;
    }
    let (a, _) = shows(&network, 5, &vec![7; dms_actors::MAX_CREDENTIALS + 1]);
    let refused = a.resolve::<Note>(&address(2, "/probe")).ask(Note(1)).timeout(PATIENCE).await;
    assert!(matches!(refused, Err(AskError::Refused(refusal)) if refusal.text == "no password"));
    assert!(of_b.known.lock().unwrap().is_empty());
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn who_shows_something_new_all_the_time_loses_the_link() {
    let network = MemoryNetwork::default();
    let (b, _) = shows(&network, 2, b"");
    registered_probe(&b, &Seen::default());
    let (a, _) = shows(&network, 1, b"swordfish");
    let far = a.resolve::<Note>(&address(2, "/probe"));
    far.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    (0..100).for_each(|_| a.introduce());
    until("the end of the link", || b.counters().malformed_frames == 1).await;
    // It may open another.
    let mut answered = far.ask(Note(2)).timeout(PATIENCE).await;
    while answered.is_err() {
        answered = soon("an answer", far.ask(Note(3)).timeout(PATIENCE)).await;
    }
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn what_does_not_fit_into_a_frame_is_not_taken() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let seen = Seen::default();
    registered_probe(&b, &seen);
    let far = a.resolve::<Bulk>(&address(2, "/probe"));
    let error = far.tell(Bulk(vec![7; dms_actors::MAX_BODY_LENGTH])).await.unwrap_err();
    assert_eq!(error.reason, SendFailure::TooLong);
    assert_eq!(error.message.0.len(), dms_actors::MAX_BODY_LENGTH);
    // The longest that fits, many times: bytes are counted, given back, and nothing is lost.
    let longest = dms_actors::MAX_BODY_LENGTH - 16;
    for _ in 0..40 {
        far.tell(Bulk(vec![7; longest])).await.unwrap();
    }
    far.ask(Bulk(vec![])).timeout(PATIENCE).await.unwrap();
    assert_eq!(seen.count(&format!("bulk {longest}")), 40);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn a_panicking_handler_loses_the_ask_of_a_peer_and_not_the_link() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    registered_probe(&b, &Seen::default());
    let mut dead = b.dead_letters();
    let asked = a.resolve::<Panic>(&address(2, "/probe")).ask(Panic).timeout(PATIENCE).await;
    assert!(matches!(asked, Err(AskError::Lost)));
    let letter = soon("a dead letter", dead.recv()).await.unwrap();
    assert_eq!((letter.peer, letter.path), (Some(did(1)), Some("/probe".parse().unwrap())));
    // The same link, the restarted actor.
    let far = a.resolve::<Note>(&address(2, "/probe"));
    assert_eq!(far.ask(Note(1)).timeout(PATIENCE).await.unwrap(), 0);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn an_ask_that_waited_too_long_for_room_is_not_begun() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    let seen = Seen::default();
    let actor = registered_probe(&b, &seen);
    let release = hold(&actor).await;
    let far = a.resolve::<Note>(&address(2, "/probe"));
    for n in 0..Probe::MAILBOX as u64 {
        far.tell(Note(n)).await.unwrap();
    }
    let late = far.ask(Note(777)).timeout(Duration::from_millis(30)).await;
    assert!(matches!(late, Err(AskError::TimedOut)) || matches!(late, Err(AskError::Refused(_))));
    until("it is refused as expired", || b.counters().refused_words == 1).await;
    drop(release);
    far.ask(Note(1)).timeout(PATIENCE).await.unwrap();
    assert_eq!(seen.count(&format!("note 777 from {}", did(1).short())), 0);
    stop(&[&a, &b]).await;
}

#[tokio::test]
async fn systems_of_different_networks_refuse_each_other() {
    let network = MemoryNetwork::default();
    let a = member(&network, 1);
    let other = dms_actors::ActorSystem::builder(did(2), "other");
    let b = other.transport(network.transport(did(2))).start().unwrap();
    registered_probe(&b, &Seen::default());
    for _ in 0..2 {
        let error = a.resolve::<Note>(&address(2, "/probe")).tell(Note(1)).await.unwrap_err();
        assert!(matches!(error.reason, SendFailure::Refused(refusal)
            if refusal.code == RefusalCode::OtherNetwork));
    }
    stop(&[&a, &b]).await;
}

#[test]
fn without_a_runtime_links_run_on_the_actors_threads() {
    let network = MemoryNetwork::default();
    let (a, b) = (member(&network, 1), member(&network, 2));
    registered_probe(&b, &Seen::default());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let reply = runtime.block_on(a.resolve::<Note>(&address(2, "/probe")).ask(Note(1)).timeout(PATIENCE));
    assert_eq!(reply.unwrap(), 0);
    a.stop_blocking(PATIENCE).unwrap();
    b.stop_blocking(PATIENCE).unwrap();
}

#[tokio::test]
async fn a_transport_serves_one_system() {
    let network = MemoryNetwork::default();
    let transport = network.transport(did(1));
    let a = builder(1).transport(transport.clone()).start().unwrap();
    let second = builder(1).transport(transport).start();
    assert!(matches!(second, Err(dms_actors::StartError::TransportInUse)));
    stop(&[&a]).await;
}
