//! Actors over swarms that belong to somebody else: built by libp2p's own builder, with other behaviours.

use std::sync::Arc;
use std::time::Duration;

use dms_actors::transport::{LINK_PROTOCOL, OpenError, Transport};
use dms_actors::{
    Actor, ActorRef, ActorSystem, Address, Answer, AskError, Context, Did, Handler, Responder, SendFailure,
    Supervision,
};
use dms_p2p::{ActorBehaviour, P2pConfig, did_of_peer, libp2p, peer_id};
use futures::StreamExt;
use libp2p::identity::Keypair;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, Swarm, ping};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::harness::{DEADLINE, config, key, start, within};

const TCP: &str = "/ip4/127.0.0.1/tcp/0";
const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// What the user has: a behaviour of their own, and ours beside it.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "dms_p2p::libp2p::swarm::derive_prelude")]
pub(crate) struct Mine {
    ping: ping::Behaviour,
    actors: ActorBehaviour,
}

/// A user's swarm that is polled in a task of theirs.
pub(crate) struct Own {
    pub(crate) did: Did,
    pub(crate) transport: Arc<dyn Transport>,
    task: JoinHandle<()>,
    /// The user's own events: who answered a ping.
    pings: mpsc::Receiver<Did>,
    dials: mpsc::Sender<(Did, Multiaddr)>,
}

impl Own {
    /// Ends it as the end of its process would.
    pub(crate) async fn kill(&mut self) {
        self.task.abort();
        // An aborted task is dropped when it ends, and with it the swarm.
        let _ = (&mut self.task).await;
    }

    /// Lets the swarm itself learn an address, not the transport.
    async fn tell_swarm(&self, peer: Did, at: &str) {
        self.dials.send((peer, at.parse().unwrap())).await.unwrap();
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Builds a swarm as libp2p's documentation does and lets it live; returns when it listens.
pub(crate) async fn own_swarm(identity: Keypair, listen: &str) -> Own {
    let me = identity.public().to_peer_id();
    let (actors, transport) = ActorBehaviour::new(me).unwrap();
    let pinging = ping::Config::new().with_interval(Duration::from_millis(100));
    let mut swarm = libp2p::SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
        .unwrap()
        .with_quic()
        .with_behaviour(|_| Mine { ping: ping::Behaviour::new(pinging), actors })
        .unwrap()
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(30)))
        .build();
    swarm.listen_on(listen.parse().unwrap()).unwrap();
    within("a listener", async {
        while !matches!(swarm.select_next_some().await, SwarmEvent::NewListenAddr { .. }) {}
    })
    .await;
    let (ping_sender, pings) = mpsc::channel(1024);
    let (dials, told) = mpsc::channel(8);
    let task = tokio::spawn(drive(swarm, ping_sender, told));
    Own { did: did_of_peer(&me).unwrap(), transport, task, pings, dials }
}

async fn drive(mut swarm: Swarm<Mine>, pings: mpsc::Sender<Did>, mut told: mpsc::Receiver<(Did, Multiaddr)>) {
    loop {
        tokio::select! {
            biased;
            Some((peer, address)) = told.recv() => swarm.add_peer_address(peer_id(&peer), address),
            event = swarm.select_next_some() => {
                if let SwarmEvent::Behaviour(MineEvent::Ping(event)) = event
                    && event.result.is_ok()
                {
                    // A test that does not look lets them pile up to the channel's bound.
                    let _ = pings.try_send(did_of_peer(&event.peer).unwrap());
                }
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Note(u64);
dms_actors::wire_message!(Note, "test.note", 1, reply = Vec<u64>);

/// Never answered.
#[derive(Debug, Serialize, Deserialize)]
struct Wait;
dms_actors::wire_message!(Wait, "test.wait", 1, reply = u64);

#[derive(Default)]
struct Notes {
    notes: Vec<u64>,
    waiting: Vec<Responder<u64>>,
    told: Option<mpsc::Sender<()>>,
}

impl Actor for Notes {}

impl Handler<Note> for Notes {
    fn handle(&mut self, note: Note, _: &mut Context<'_, Self>) -> Answer<Vec<u64>> {
        // The end of a burst is answered with all of it.
        if note.0 == u64::MAX {
            return std::mem::take(&mut self.notes).into();
        }
        self.notes.push(note.0);
        Vec::new().into()
    }
}

impl Handler<Wait> for Notes {
    fn handle(&mut self, _: Wait, _: &mut Context<'_, Self>) -> Answer<u64> {
        let (responder, answer) = Answer::later();
        self.waiting.push(responder);
        if let Some(told) = &self.told {
            let _ = told.try_send(());
        }
        answer
    }
}

/// An actor system over the transport, with [`Notes`] at `/notes`.
fn system(own: &Own) -> (ActorSystem, ActorRef<Notes>, mpsc::Receiver<()>) {
    let system = ActorSystem::builder(own.did, "test").transport(own.transport.clone()).start().unwrap();
    let (told, waits) = mpsc::channel(8);
    let notes =
        system.spawn(move || Notes { told: Some(told.clone()), ..Notes::default() }, Supervision::never());
    let _ = system.register("/notes", &notes).unwrap().accepts::<Note>().accepts::<Wait>();
    (system, notes, waits)
}

fn at(own: &Own) -> Address {
    Address::new(own.did, "/notes").unwrap()
}

/// A swarm of the key `[seed; 32]`.
async fn own(seed: u8, listen: &str) -> Own {
    own_swarm(Keypair::ed25519_from_bytes([seed; 32]).unwrap(), listen).await
}

async fn two_swarms_ask_each_other_over(listen: &'static str) {
    let mut a = own(1, listen).await;
    // A runtime of its own, which takes the swarm and the links with it as a killed process would.
    let (killed, b, (sb, _b_notes, mut b_waits)) = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (b, its) = runtime.block_on(async {
            let b = own(2, listen).await;
            let its = system(&b);
            (b, its)
        });
        (runtime, b, its)
    })
    .await
    .unwrap();
    let (sa, ..) = system(&a);
    // Only one of them knows where the other is; asks go both ways all the same.
    a.transport.add_addresses(b.did, b.transport.listen_addresses());
    let to_b = sa.resolve::<Note>(&at(&b));
    within("an ask", to_b.ask(Note(1)).timeout(DEADLINE)).await.unwrap();
    let to_a = sb.resolve::<Note>(&at(&a));
    within("an ask back", to_a.ask(Note(2)).timeout(DEADLINE)).await.unwrap();
    assert_eq!(a.transport.connected_peers(), [b.did]);

    // The user's own behaviour is served as before.
    assert_eq!(within("a ping", a.pings.recv()).await, Some(b.did));

    for note in 2..20_000 {
        to_b.tell(Note(note)).await.unwrap();
    }
    let all = within("the burst", to_b.ask(Note(u64::MAX)).timeout(DEADLINE)).await.unwrap();
    assert!(all.into_iter().eq(1..20_000), "20,000 tells, none lost, none out of order");
    while a.pings.try_recv().is_ok() {}
    assert_eq!(within("a ping after the burst", a.pings.recv()).await, Some(b.did));

    // The peer is killed: what is asked has an outcome, and what is asked later, too.
    let waiting = tokio::spawn(sa.resolve::<Wait>(&at(&b)).ask(Wait).timeout(DEADLINE));
    within("the ask to arrive", b_waits.recv()).await.unwrap();
    killed.shutdown_background();
    let outcome = within("an outcome", waiting).await.unwrap();
    assert!(matches!(outcome, Err(AskError::Lost)), "{outcome:?}");
    let outcome = within("an outcome", to_b.ask(Note(0)).timeout(DEADLINE)).await;
    assert!(
        matches!(
            outcome,
            Err(AskError::NotSent { reason: SendFailure::Unreachable(_) | SendFailure::NoRouteYet, .. })
        ),
        "{outcome:?}"
    );
    for system in [sa, sb] {
        system.stop(DEADLINE).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_swarms_of_users_ask_each_other_over_tcp() {
    two_swarms_ask_each_other_over(TCP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_swarms_of_users_ask_each_other_over_quic() {
    two_swarms_ask_each_other_over(QUIC).await;
}

#[tokio::test]
async fn a_swarm_of_a_user_and_a_peer_of_ours_understand_each_other() {
    let (mine, peer) = (own(1, TCP).await, start(2, config()).await);
    let (mine_system, ..) = system(&mine);
    let system = ActorSystem::builder(peer.did(), "test").transport(peer.transport()).start().unwrap();
    let notes = system.spawn(Notes::default, Supervision::never());
    let _ = system.register("/notes", &notes).unwrap().accepts::<Note>();
    mine.transport.add_addresses(peer.did(), peer.listen_addresses());
    let there = mine_system.resolve::<Note>(&Address::new(peer.did(), "/notes").unwrap());
    within("an ask", there.ask(Note(1)).timeout(DEADLINE)).await.unwrap();
    let back = system.resolve::<Note>(&at(&mine));
    within("an ask back", back.ask(Note(1)).timeout(DEADLINE)).await.unwrap();
    system.stop(DEADLINE).await.unwrap();
    mine_system.stop(DEADLINE).await.unwrap();
}

#[tokio::test]
async fn addresses_that_only_the_swarm_knows_are_dialled() {
    let (a, b) = (own(1, TCP).await, own(2, TCP).await);
    let error = within("an error", a.transport.open(b.did, LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::NoRoute(b.did)));
    let place = b.transport.listen_addresses().remove(0);
    a.tell_swarm(b.did, &place).await;
    within("a stream", a.transport.open(b.did, LINK_PROTOCOL)).await.unwrap();
}

#[tokio::test]
async fn when_the_swarm_is_gone_the_transport_is_closed() {
    let mut a = own(1, TCP).await;
    let mut events = a.transport.take_events().unwrap();
    a.kill().await;
    let error = within("an error", a.transport.open(key(2).did(), LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::Closed));
    assert!(a.transport.listen_addresses().is_empty() && a.transport.connected_peers().is_empty());
    assert!(within("the end of the events", events.recv()).await.is_none());
}

#[tokio::test]
async fn a_peer_without_our_protocols_is_unsupported_and_the_connection_stays() {
    // A swarm of the user's that only pings.
    let identity = Keypair::ed25519_from_bytes([2; 32]).unwrap();
    let mut stranger = libp2p::SwarmBuilder::with_existing_identity(identity)
        .with_tokio()
        .with_tcp(Default::default(), libp2p::noise::Config::new, libp2p::yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| ping::Behaviour::default())
        .unwrap()
        .build();
    stranger.listen_on(TCP.parse().unwrap()).unwrap();
    let place = within("an address", async {
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = stranger.select_next_some().await {
                return address;
            }
        }
    })
    .await;
    tokio::spawn(async move { while stranger.next().await.is_some() {} });
    let mut a = own(1, TCP).await;
    let peer = key(2).did();
    a.transport.add_addresses(peer, vec![place.to_string()]);
    let error = within("an error", a.transport.open(peer, LINK_PROTOCOL)).await.err();
    assert_eq!(error, Some(OpenError::Unsupported { peer, protocol: LINK_PROTOCOL }));
    assert_eq!(within("a ping", a.pings.recv()).await, Some(peer));
}

#[tokio::test]
async fn the_first_hour_needs_no_configuration() {
    let a = start(1, P2pConfig::local("test")).await;
    let b = start(2, P2pConfig::local("test").with_bootstrap(a.listen_addresses())).await;
    assert_eq!(dms_p2p::did_of(&a.listen_addresses()[0]), Ok(a.did()));
    within("a stream", b.transport().open(a.did(), LINK_PROTOCOL)).await.unwrap();
}
