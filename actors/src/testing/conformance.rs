//! What a transport promises, as a test that any transport can be put through.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::Did;
use crate::identity::Keypair;
use crate::transport::{BLOB_PROTOCOL, LINK_PROTOCOL, OpenError, Pipe, Transport, TransportEvent};

/// How long anything may take. Longer than the timeouts of a transport that notices a silent peer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a writer must stand still to count as stopped.
const STILL: Duration = Duration::from_millis(500);
/// What a pipe may hold at most before its writer waits. More than the windows of QUIC or yamux, little
/// enough that a thousand pipes that nobody reads do not fill a machine.
const MOST_BUFFERED: usize = 32 * 1024 * 1024;
/// Pipes that are open at once in the tests.
const MANY: usize = 40;

/// One of the two members of a pair; see [`transport_conformance`].
pub struct Member {
    did: Did,
    transport: Arc<dyn Transport>,
    kill: BoxFuture<'static, ()>,
}

impl Member {
    /// The transport of `did`. `kill` takes it away as the end of its process would.
    pub fn new(
        did: Did,
        transport: Arc<dyn Transport>,
        kill: impl Future<Output = ()> + Send + 'static,
    ) -> Self {
        Self { did, transport, kill: Box::pin(kill) }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("did", &self.did).finish_non_exhaustive()
    }
}

/// Checks everything that [`Transport`] promises on pairs of members that know where the other is and are not
/// connected yet. Every check asks `make_pair` for a pair of its own, with DIDs of its own if the pairs share
/// anything. Needs a tokio context; virtual time will do if the transport lives in it.
///
/// ```
/// use dms_actors::Keypair;
/// use dms_actors::testing::{Member, transport_conformance};
/// use dms_actors::transport::memory::MemoryNetwork;
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(
/// transport_conformance(|| async {
///     let network = MemoryNetwork::default();
///     [1, 2].map(|seed| {
///         let (did, network) = (Keypair::from_secret(&[seed; 32]).did(), network.clone());
///         let transport = network.transport(did);
///         Member::new(did, transport, async move { network.kill(did) })
///     })
/// })
/// # );
/// ```
///
/// # Panics
/// If a promise is not kept; the text says which.
pub async fn transport_conformance<F, P>(mut make_pair: F)
where
    F: FnMut() -> P,
    P: Future<Output = [Member; 2]>,
{
    events_are_taken_once_and_an_up_comes_before_the_first_stream(make_pair().await).await;
    bytes_arrive_in_order_both_ways_and_each_way_ends_by_itself(make_pair().await).await;
    pipes_do_not_mix_and_none_is_lost(make_pair().await).await;
    a_writer_that_nobody_reads_waits_and_holds_up_nobody_else(make_pair().await).await;
    a_dropped_pipe_ends_at_the_other_side(make_pair().await).await;
    nobody_is_reached_under_a_name_that_is_not_theirs(make_pair().await).await;
    the_death_of_a_peer_is_one_down_and_the_end_of_its_pipes(make_pair().await).await;
    a_consumer_that_lags_misses_no_up_and_no_down(make_pair().await).await;
}

async fn within<T>(promise: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {PATIENCE:?}: {promise}"),
    }
}

/// A member with its events.
struct Side {
    did: Did,
    transport: Arc<dyn Transport>,
    events: mpsc::Receiver<TransportEvent>,
    kill: BoxFuture<'static, ()>,
}

impl Side {
    fn of(member: Member) -> Self {
        let events = member.transport.take_events();
        let events = events.expect("the first call of take_events gets them");
        assert!(member.transport.take_events().is_none(), "events have one reader");
        Self { did: member.did, transport: member.transport, events, kill: member.kill }
    }

    async fn event(&mut self, promise: &str) -> TransportEvent {
        within(promise, self.events.recv()).await.expect("a transport that runs keeps its events open")
    }

    async fn up(&mut self, peer: Did) {
        let event = self.event("an up for a new connection").await;
        assert!(matches!(event, TransportEvent::Up(who) if who == peer), "an up comes first, not {event:?}");
    }

    /// The next stream; ups that belong to no news are not allowed between.
    async fn opened(&mut self, from: Did, of: &str) -> Pipe {
        match self.event("a stream that was opened is handed over").await {
            TransportEvent::Opened { peer, protocol, pipe } => {
                assert_eq!((peer, protocol), (from, of), "a stream names its opener and its protocol");
                pipe
            }
            event => panic!("a stream that was opened is handed over, not {event:?}"),
        }
    }
}

async fn open(from: &Side, to: &Side, protocol: &'static str) -> Pipe {
    match within("open has an outcome", from.transport.open(to.did, protocol)).await {
        Ok(pipe) => pipe,
        Err(error) => panic!("a peer whose place is known can be reached: {error}"),
    }
}

/// A pair with one pipe that the first has opened. Some transports show a stream only with its first bytes.
async fn with_pipe([a, b]: [Member; 2]) -> (Side, Side, Pipe, Pipe) {
    let (mut a, mut b) = (Side::of(a), Side::of(b));
    let (ours, theirs) = piped(&mut a, &mut b, LINK_PROTOCOL, true).await;
    (a, b, ours, theirs)
}

async fn piped(a: &mut Side, b: &mut Side, protocol: &'static str, is_first: bool) -> (Pipe, Pipe) {
    let mut ours = open(a, b, protocol).await;
    within("a new pipe takes bytes", ours.write_all(b"!")).await.expect("a new pipe takes bytes");
    within("a new pipe takes bytes", ours.flush()).await.expect("a new pipe takes bytes");
    if is_first {
        a.up(b.did).await;
        b.up(a.did).await;
    }
    let mut theirs = b.opened(a.did, protocol).await;
    let first = within("the first byte arrives", theirs.read_u8()).await.expect("it arrives");
    assert_eq!(first, b'!', "bytes arrive unchanged");
    (ours, theirs)
}

/// Bytes that no shift or repeat of themselves equals.
fn bytes(length: usize, salt: usize) -> Vec<u8> {
    (0..length).map(|index| ((index + salt) % 251) as u8).collect()
}

async fn events_are_taken_once_and_an_up_comes_before_the_first_stream(pair: [Member; 2]) {
    let (a, b, _ours, _theirs) = with_pipe(pair).await;
    assert_eq!(a.transport.connected_peers(), [b.did], "a peer that is up is connected");
    assert_eq!(b.transport.connected_peers(), [a.did], "a peer that is up is connected");
}

/// Sends `bytes` in pieces of odd lengths and ends; reads until the other has.
async fn exchange(pipe: Pipe, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let sending = async move {
        let mut rest = bytes.as_slice();
        let mut length = 1;
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(length.min(rest.len()));
            writer.write_all(piece).await?;
            (rest, length) = (left, length * 3 % 70_001 + 1);
        }
        writer.shutdown().await
    };
    let receiving = async move {
        let mut back = Vec::new();
        reader.read_to_end(&mut back).await.map(|_| back)
    };
    let (sent, received) = tokio::join!(sending, receiving);
    sent.and(received)
}

async fn bytes_arrive_in_order_both_ways_and_each_way_ends_by_itself(pair: [Member; 2]) {
    let (_a, _b, ours, theirs) = with_pipe(pair).await;
    // Of different lengths, so that one way ends while the other goes on.
    let (out, back) = (bytes(1_500_000, 0), bytes(300_000, 7));
    let (at_ours, at_theirs) = within("bytes pass both ways at once", async {
        tokio::join!(exchange(ours, out.clone()), exchange(theirs, back.clone()))
    })
    .await;
    assert!(at_theirs.expect("a pipe without faults ends in order") == out, "bytes arrive in order");
    assert!(at_ours.expect("a pipe without faults ends in order") == back, "bytes arrive in order");
}

async fn pipes_do_not_mix_and_none_is_lost(pair: [Member; 2]) {
    let (a, mut b, _ours, _theirs) = with_pipe(pair).await;
    let mut writers = Vec::new();
    for number in 0..MANY {
        let protocol = if number.is_multiple_of(2) { LINK_PROTOCOL } else { BLOB_PROTOCOL };
        let opening = a.transport.open(b.did, protocol);
        writers.push(async move {
            let mut pipe = opening.await.expect("many pipes can be open at once");
            let sent = bytes(20_000, number);
            pipe.write_u32(number as u32).await.expect("an open pipe takes bytes");
            pipe.write_all(&sent).await.expect("an open pipe takes bytes");
            pipe.shutdown().await.expect("an open pipe can be ended");
            pipe
        });
    }
    let reading = async {
        let mut seen = BTreeMap::new();
        while seen.len() < MANY {
            let TransportEvent::Opened { peer, protocol, mut pipe } =
                b.event("each pipe is handed over").await
            else {
                panic!("only streams come from a peer that stays up");
            };
            assert_eq!(peer, a.did, "a stream names its opener");
            let number = pipe.read_u32().await.expect("bytes arrive") as usize;
            let mut rest = Vec::new();
            pipe.read_to_end(&mut rest).await.expect("a pipe ends in order");
            assert!(rest == bytes(20_000, number), "the bytes of pipe {number} are its own");
            assert_eq!(protocol == LINK_PROTOCOL, number.is_multiple_of(2), "each pipe keeps its protocol");
            assert!(seen.insert(number, ()).is_none(), "no pipe comes twice");
        }
    };
    within("many pipes at once", async { tokio::join!(futures::future::join_all(writers), reading) }).await;
}

async fn a_writer_that_nobody_reads_waits_and_holds_up_nobody_else(pair: [Member; 2]) {
    let (mut a, mut b, mut ours, mut theirs) = with_pipe(pair).await;
    let piece = bytes(64 * 1024, 0);
    let mut taken = Vec::new();
    while let Ok(written) = timeout(STILL, ours.write(&piece)).await {
        taken.extend_from_slice(&piece[..written.expect("a pipe that is not read is no broken pipe")]);
        assert!(taken.len() <= MOST_BUFFERED, "a pipe that nobody reads takes bytes without end");
    }
    let (other, its_end) = piped(&mut a, &mut b, BLOB_PROTOCOL, false).await;
    let short = bytes(10_000, 3);
    let (sent, got) = within("a pipe that stands still holds up no other", async {
        tokio::join!(exchange(other, short.clone()), exchange(its_end, Vec::new()))
    })
    .await;
    sent.expect("the other pipe works");
    assert!(got.expect("the other pipe works") == short, "the other pipe works");
    let reading = async {
        let mut buffer = vec![0; taken.len()];
        theirs.read_exact(&mut buffer).await.map(|_| buffer)
    };
    let flushing = async { ours.flush().await };
    let (buffer, flushed) =
        within("a reader that comes late gets every byte", async { tokio::join!(reading, flushing) }).await;
    flushed.expect("what was taken can be flushed");
    assert!(buffer.expect("bytes arrive") == taken, "a reader that comes late gets every byte");
}

async fn a_dropped_pipe_ends_at_the_other_side(pair: [Member; 2]) {
    let (mut a, mut b, ours, mut theirs) = with_pipe(pair).await;
    drop(ours);
    let mut rest = Vec::new();
    // An end or an error, but no silence.
    let _ = within("a dropped pipe ends at the other side", theirs.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "nothing comes that was not sent");
    let (mut ours, theirs) = piped(&mut a, &mut b, BLOB_PROTOCOL, false).await;
    drop(theirs);
    let _ = within("a dropped pipe ends at its opener", ours.read_to_end(&mut rest)).await;
    let writing = async { while ours.write_all(&[0; 1024]).await.is_ok() {} };
    within("writing to a dropped pipe fails sooner or later", writing).await;
}

async fn nobody_is_reached_under_a_name_that_is_not_theirs(pair: [Member; 2]) {
    let (a, mut b, _ours, _theirs) = with_pipe(pair).await;
    let stranger = Keypair::from_secret(&[0x5a; 32]).did();
    // Even at the address of somebody else.
    a.transport.add_addresses(stranger, vec!["rubbish".to_owned()]);
    a.transport.add_addresses(stranger, b.transport.listen_addresses());
    match within("open has an outcome", a.transport.open(stranger, LINK_PROTOCOL)).await {
        Err(OpenError::NoRoute(who) | OpenError::Unreachable { peer: who, .. }) => assert_eq!(who, stranger),
        Err(error) => panic!("a peer that is not there is NoRoute or Unreachable, not {error:?}"),
        Ok(_) => panic!("a stream was opened to a peer that does not exist"),
    }
    while let Ok(event) = b.events.try_recv() {
        assert!(!matches!(event, TransportEvent::Opened { .. }), "nobody gets a stream meant for another");
    }
    assert_eq!(a.transport.connected_peers(), [b.did], "the names of connected peers are proven");
}

async fn the_death_of_a_peer_is_one_down_and_the_end_of_its_pipes(pair: [Member; 2]) {
    let (mut a, b, mut ours, theirs) = with_pipe(pair).await;
    let dead = b.did;
    drop((theirs, b.events));
    within("a member can be killed", b.kill).await;
    let mut rest = Vec::new();
    let _ = within("the pipes of a dead peer end", ours.read_to_end(&mut rest)).await;
    let event = a.event("the end of the last connection is a down").await;
    assert!(matches!(event, TransportEvent::Down(who) if who == dead), "a down is next, not {event:?}");
    assert!(a.transport.connected_peers().is_empty(), "a peer that is down is not connected");
    match within("open has an outcome", a.transport.open(dead, LINK_PROTOCOL)).await {
        Err(OpenError::NoRoute(who) | OpenError::Unreachable { peer: who, .. }) => assert_eq!(who, dead),
        Err(error) => panic!("a dead peer is NoRoute or Unreachable, not {error:?}"),
        Ok(_) => panic!("a dead peer cannot be reached"),
    }
    let after = a.events.try_recv();
    assert!(after.is_err(), "nothing comes after the down of the only peer: {after:?}");
}

async fn a_consumer_that_lags_misses_no_up_and_no_down([a, b]: [Member; 2]) {
    let (mut a, b) = (Side::of(a), Side::of(b));
    // More than anybody's events have room for; many of them may be refused or dropped.
    const FLOOD: usize = 1500;
    let mut pipes = Vec::new();
    for _ in 0..FLOOD {
        match timeout(STILL, a.transport.open(b.did, BLOB_PROTOCOL)).await {
            Ok(Ok(mut pipe)) => {
                let _ = timeout(STILL, pipe.write_all(b"!")).await;
                // A connection has room for some streams at once; the old ones go.
                if pipes.len() > MANY {
                    pipes.clear();
                }
                pipes.push(pipe);
            }
            // Refusing is how a transport says that nobody takes its streams.
            Ok(Err(_)) | Err(_) => break,
        }
    }
    drop(pipes);
    a.up(b.did).await;
    within("a member can be killed", a.kill).await;
    let mut events = b.events;
    let mut names = Vec::new();
    let watching = async {
        while let Some(event) = events.recv().await {
            match event {
                TransportEvent::Up(who) => names.push(("up", who)),
                TransportEvent::Down(who) => {
                    names.push(("down", who));
                    break;
                }
                TransportEvent::Opened { peer, .. } => {
                    assert_eq!(names.first(), Some(&("up", peer)), "an up comes before the first stream");
                }
            }
        }
    };
    within("a consumer that lags gets every up and every down", watching).await;
    assert_eq!(names.first(), Some(&("up", a.did)), "the first is the up");
    assert_eq!(names.last(), Some(&("down", a.did)), "the last is the down");
}
