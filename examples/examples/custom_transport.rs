//! A transport of one's own: actor systems of one machine over Unix sockets: `cargo run --example custom_transport`.
//!
//! Every member listens on a socket in one directory. What a transport has to promise is written in
//! `dms_actors::transport`; the comments here say how each promise is kept, and the test at the end puts it through
//! `transport_conformance`.
//!
//! * A *connection* is a socket on which nothing is said after the greeting: it ends when either process does, and
//!   so tells the other. Each stream is a socket of its own, so one that stands still holds up no other.
//! * *Names are proven* by the directory: whoever may write into it is trusted to say who they are. A transport
//!   over a real network proves keys here, with TLS or Noise.
//! * *One task* keeps the connections and sends every event, so that they come in order. When nobody takes them
//!   it stands still, and whoever opens a stream waits: nothing is lost, nothing grows.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_actors::transport::{OpenError, PROTOCOLS, Pipe, Transport, TransportEvent};
use dms_actors::{Actor, ActorSystem, Address, Answer, Context, Did, Handler, Keypair, Supervision};
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Events that wait for the system.
const EVENTS: usize = 64;
/// How long a dial or a greeting may take.
const GREETING: Duration = Duration::from_secs(5);
/// The first byte of a socket: it is a connection; anything else is the number of its stream's protocol.
const CONNECTION: u8 = 0xff;

/// How many connections there are to each peer: one, or two if both dialled at the same moment.
type Connected = BTreeMap<Did, usize>;

struct UnixTransport {
    me: Did,
    directory: PathBuf,
    connected: watch::Receiver<Connected>,
    /// Connections that we have made, for the task. One is made at a time, so that streams share it.
    dialled: Arc<tokio::sync::Mutex<mpsc::Sender<(Did, UnixStream)>>>,
    events: Mutex<Option<mpsc::Receiver<TransportEvent>>>,
    task: AbortHandle,
}

impl UnixTransport {
    /// Joins the members of `directory` as `me`.
    fn join(directory: &Path, me: Did) -> io::Result<Arc<Self>> {
        let listener = UnixListener::bind(place(directory, me))?;
        let (connected_sender, connected) = watch::channel(Connected::new());
        let (dialled_sender, dialled) = mpsc::channel(1);
        let (event_sender, events) = mpsc::channel(EVENTS);
        let keeper = Keeper { connected: connected_sender, events: event_sender, sockets: JoinSet::new() };
        let task = tokio::spawn(keeper.run(listener, dialled)).abort_handle();
        let dialled = Arc::new(tokio::sync::Mutex::new(dialled_sender));
        let events = Mutex::new(Some(events));
        Ok(Arc::new(Self { me, directory: directory.to_owned(), connected, dialled, events, task }))
    }

    /// Closes every connection and frees the place.
    fn leave(&self) {
        self.task.abort();
        let _ = std::fs::remove_file(place(&self.directory, self.me));
    }
}

impl Drop for UnixTransport {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Where a member listens. The path of a socket has room for 107 bytes, hence the end of the DID only.
fn place(directory: &Path, did: Did) -> PathBuf {
    let name = did.to_string();
    directory.join(&name[name.len().saturating_sub(40)..])
}

/// Opens a socket to a member and says who we are and what it is for.
async fn dial(place: &Path, me: Did, what: u8) -> io::Result<UnixStream> {
    let (mut socket, name) = (UnixStream::connect(place).await?, me.to_string());
    let length = u8::try_from(name.len()).map_err(io::Error::other)?;
    socket.write_all(&[&[what, length], name.as_bytes()].concat()).await?;
    Ok(socket)
}

/// Reads who opened a socket, and what for.
async fn greeted(socket: &mut UnixStream) -> io::Result<(Did, u8)> {
    let (what, length) = (socket.read_u8().await?, socket.read_u8().await?);
    let mut name = vec![0; usize::from(length)];
    socket.read_exact(&mut name).await?;
    let name = String::from_utf8(name).map_err(io::Error::other)?;
    Ok((name.parse().map_err(io::Error::other)?, what))
}

/// Owns the connections and sends the events.
struct Keeper {
    connected: watch::Sender<Connected>,
    events: mpsc::Sender<TransportEvent>,
    /// One waiting task per connection; it ends with it.
    sockets: JoinSet<Did>,
}

impl Keeper {
    async fn run(mut self, listener: UnixListener, mut dialled: mpsc::Receiver<(Did, UnixStream)>) {
        loop {
            tokio::select! {
                biased;
                Some((peer, socket)) = dialled.recv() => self.up(peer, socket).await,
                Some(Ok(peer)) = self.sockets.join_next() => self.down(peer).await,
                Ok((mut socket, _)) = listener.accept() => {
                    if let Ok(Ok((peer, what))) = timeout(GREETING, greeted(&mut socket)).await {
                        self.accepted(peer, what, socket).await;
                    }
                }
            }
        }
    }

    async fn accepted(&mut self, peer: Did, what: u8, mut socket: UnixStream) {
        if what == CONNECTION {
            // Its dialler opens no stream before it reads this.
            if socket.write_u8(CONNECTION).await.is_ok() {
                self.up(peer, socket).await;
            }
        } else if let Some(protocol) = PROTOCOLS.get(usize::from(what))
            // Not a stream that was still on its way when its connection ended: its down has been said.
            && self.connected.borrow().contains_key(&peer)
        {
            let _ = self.events.send(TransportEvent::Opened { peer, protocol, pipe: Box::new(socket) }).await;
        }
    }

    async fn up(&mut self, peer: Did, mut socket: UnixStream) {
        let is_first = !self.connected.borrow().contains_key(&peer);
        self.connected.send_modify(|connected| *connected.entry(peer).or_default() += 1);
        self.sockets.spawn(async move {
            // Nothing is ever said: whatever comes back is the end.
            let _ = socket.read_u8().await;
            peer
        });
        if is_first {
            let _ = self.events.send(TransportEvent::Up(peer)).await;
        }
    }

    async fn down(&mut self, peer: Did) {
        self.connected.send_modify(|connected| match connected.get_mut(&peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(connected.remove(&peer)),
        });
        if !self.connected.borrow().contains_key(&peer) {
            let _ = self.events.send(TransportEvent::Down(peer)).await;
        }
    }
}

impl Transport for UnixTransport {
    fn open(&self, peer: Did, protocol: &'static str) -> BoxFuture<'static, Result<Pipe, OpenError>> {
        let (me, place) = (self.me, place(&self.directory, peer));
        let (dialled, mut connected) = (self.dialled.clone(), self.connected.clone());
        Box::pin(async move {
            let number = PROTOCOLS.iter().position(|known| *known == protocol);
            let Some(what) = number.and_then(|number| u8::try_from(number).ok()) else {
                return Err(OpenError::Unsupported { peer, protocol });
            };
            if !place.exists() {
                return Err(OpenError::NoRoute(peer));
            }
            let opening = async {
                let dialled = dialled.lock().await;
                if !connected.borrow().contains_key(&peer) {
                    let mut socket = dial(&place, me, CONNECTION).await?;
                    socket.read_u8().await?;
                    dialled.send((peer, socket)).await.map_err(io::Error::other)?;
                    connected.wait_for(|now| now.contains_key(&peer)).await.map_err(io::Error::other)?;
                }
                drop(dialled);
                dial(&place, me, what).await
            };
            match timeout(GREETING, opening).await {
                Ok(Ok(socket)) => Ok(Box::new(socket) as Pipe),
                Ok(Err(error)) => Err(OpenError::Unreachable { peer, reason: error.to_string() }),
                Err(_) => Err(OpenError::Unreachable { peer, reason: "no answer".to_owned() }),
            }
        })
    }

    fn add_addresses(&self, _: Did, _: Vec<String>) {
        // Everybody is in the directory.
    }

    fn listen_addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn connected_peers(&self) -> Vec<Did> {
        self.connected.borrow().keys().copied().collect()
    }

    fn take_events(&self) -> Option<mpsc::Receiver<TransportEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[derive(Serialize, Deserialize)]
struct Ping(u64);
dms_actors::wire_message!(Ping, "example.ping", 1, reply = u64);

struct Pinger;
impl Actor for Pinger {}
impl Handler<Ping> for Pinger {
    fn handle(&mut self, ping: Ping, _: &mut Context<'_, Self>) -> Answer<u64> {
        (ping.0 + 1).into()
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let (alice, bob) = (Keypair::generate()?.did(), Keypair::generate()?.did());
    let near = ActorSystem::builder(alice, "example")
        .transport(UnixTransport::join(directory.path(), alice)?)
        .start()?;
    let far = ActorSystem::builder(bob, "example")
        .transport(UnixTransport::join(directory.path(), bob)?)
        .start()?;

    let pinger = far.spawn(|| Pinger, Supervision::transient());
    far.register("/pinger", &pinger)?.accepts::<Ping>();

    let pinger = near.resolve::<Ping>(&Address::new(bob, "/pinger")?);
    println!("the answer is {}", pinger.ask(Ping(41)).await?);

    near.stop(Duration::from_secs(1)).await?;
    far.stop(Duration::from_secs(1)).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_actors::testing::{Member, transport_conformance};

    #[tokio::test]
    async fn it_keeps_every_promise() {
        transport_conformance(|| async {
            let directory = Arc::new(tempfile::tempdir().expect("a directory can be made"));
            [1, 2].map(|seed| {
                let did = Keypair::from_secret(&[seed; 32]).did();
                let transport = UnixTransport::join(directory.path(), did).expect("its place is free");
                let (leaving, directory) = (transport.clone(), directory.clone());
                Member::new(did, transport, async move {
                    leaving.leave();
                    // Kept until here: the directory goes with its last user.
                    drop(directory);
                })
            })
        })
        .await;
    }
}
