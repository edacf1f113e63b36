//! Which links there are: one out and one in per peer, opened on demand, gone with the connection.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use tokio::io::AsyncWriteExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::timeout;
use tracing::{Instrument, debug, debug_span, warn};

use super::super::system::Shared;
use super::super::{MAX_CREDENTIALS, PeerEvent, Refusal, RefusalCode, SendFailure, lock};
use super::HANDSHAKE_TIMEOUT;
use super::buffer::FrameBuffer;
use super::frame::{self, FrameError, Header, Hello};
use super::incoming;
use super::outgoing::Link;
use super::replies::Replies;
use crate::Did;
use crate::blob::BlobServer;
use crate::transport::{BLOB_PROTOCOL, LINK_PROTOCOL, OpenError, Pipe, Transport, TransportEvent};

/// Links in each direction. Each costs at most about 100 KiB when idle; a node has far fewer neighbours.
const MAX_LINKS: usize = 1024;

type Opened = Option<Result<Arc<Link>, SendFailure>>;

enum Slot {
    Opening(watch::Receiver<Opened>),
    Up(Arc<Link>),
}

#[derive(Default)]
struct State {
    is_closed: bool,
    /// How often what this system shows of itself has changed.
    introductions: u64,
    outgoing: BTreeMap<Did, Slot>,
    incoming: BTreeMap<Did, Arc<Replies>>,
}

fn closed() -> SendFailure {
    SendFailure::Unreachable("the system or its transport stopped".to_owned())
}

/// The links of one system.
pub(crate) struct Links {
    shared: Arc<Shared>,
    transport: Arc<dyn Transport>,
    runtime: Handle,
    blobs: BlobServer,
    state: Mutex<State>,
    closing: Notify,
}

impl Links {
    /// Starts to serve the transport's events on `runtime`.
    pub(crate) fn start(
        shared: Arc<Shared>,
        transport: Arc<dyn Transport>,
        events: mpsc::Receiver<TransportEvent>,
        blobs: BlobServer,
        runtime: Handle,
    ) -> Arc<Self> {
        let links = Arc::new(Self {
            shared,
            transport,
            runtime: runtime.clone(),
            blobs,
            state: Mutex::default(),
            closing: Notify::new(),
        });
        runtime.spawn(links.clone().serve(events));
        links
    }

    /// Waits until every link's peer has taken every word sent to it until now; false if a link is lost before.
    pub(crate) async fn settle(&self) -> bool {
        let links: Vec<Arc<Link>> = {
            let state = lock(&self.state);
            let up = state.outgoing.values().filter_map(|slot| match slot {
                Slot::Up(link) => Some(Arc::clone(link)),
                Slot::Opening(_) => None,
            });
            up.collect()
        };
        // All links from the same moment on.
        let waits: Vec<_> = links.iter().filter_map(|link| link.settled()).collect();
        drop(links);
        for wait in waits {
            if wait.await.is_err() {
                return false;
            }
        }
        true
    }

    /// Ends all links and opens no more.
    pub(crate) fn close(&self) {
        let (outgoing, incoming) = {
            let mut state = lock(&self.state);
            state.is_closed = true;
            (std::mem::take(&mut state.outgoing), std::mem::take(&mut state.incoming))
        };
        for slot in outgoing.into_values() {
            if let Slot::Up(link) = slot {
                link.kill();
            }
        }
        for link in incoming.into_values() {
            link.signal.stop();
        }
        self.closing.notify_one();
    }

    async fn serve(self: Arc<Self>, mut events: mpsc::Receiver<TransportEvent>) {
        // As many as the transport has connections: each `Up` has its `Down`.
        let mut up = BTreeSet::new();
        loop {
            let event = tokio::select! {
                biased;
                () = self.closing.notified() => return,
                event = events.recv() => event,
            };
            match event {
                None => {
                    // The transport is gone, so nobody will say any more that a peer is.
                    warn!("the transport ended");
                    self.close();
                    return up.into_iter().for_each(|peer| self.down(peer));
                }
                Some(TransportEvent::Up(peer)) => {
                    up.insert(peer);
                    // Nobody listening is normal.
                    drop(self.shared.peers.send(PeerEvent::Up(peer)));
                }
                Some(TransportEvent::Down(peer)) => {
                    up.remove(&peer);
                    self.down(peer);
                }
                Some(TransportEvent::Opened { peer, protocol: LINK_PROTOCOL, pipe }) => {
                    let span = debug_span!("link", direction = "in", peer = %peer.short());
                    self.runtime.spawn(self.clone().accept(peer, pipe).instrument(span));
                }
                Some(TransportEvent::Opened { peer, protocol: BLOB_PROTOCOL, pipe }) => {
                    let span = debug_span!("blob", peer = %peer.short());
                    self.runtime.spawn(self.blobs.serve(pipe, peer).instrument(span));
                }
                Some(TransportEvent::Opened { peer, protocol, .. }) => {
                    debug!(peer = %peer.short(), protocol, "a stream of an unknown protocol is dropped");
                }
            }
        }
    }

    fn down(&self, peer: Did) {
        let (outgoing, incoming) = {
            let mut state = lock(&self.state);
            // One that is being opened has its own timeout and may be the next connection's.
            let is_up = matches!(state.outgoing.get(&peer), Some(Slot::Up(_)));
            let outgoing = if is_up { state.outgoing.remove(&peer) } else { None };
            (outgoing, state.incoming.remove(&peer))
        };
        if let Some(Slot::Up(link)) = outgoing {
            link.kill();
        }
        if let Some(link) = incoming {
            link.signal.stop();
        }
        drop(self.shared.peers.send(PeerEvent::Down(peer)));
    }

    /// The link to `peer` if it is up; else starts to open it.
    pub(super) fn link_now(self: &Arc<Self>, peer: Did) -> Option<Arc<Link>> {
        match self.slot(peer) {
            Ok(Slot::Up(link)) => Some(link),
            Ok(Slot::Opening(_)) | Err(_) => None,
        }
    }

    /// The link to `peer`, opened if it is not up. All who wait share one attempt and its failure.
    pub(super) async fn link(self: &Arc<Self>, peer: Did) -> Result<Arc<Link>, SendFailure> {
        match self.slot(peer)? {
            Slot::Up(link) => Ok(link),
            Slot::Opening(mut opened) => match opened.wait_for(Option::is_some).await {
                Ok(result) => result.clone().expect("waited until there is one"),
                Err(_) => Err(closed()),
            },
        }
    }

    fn slot(self: &Arc<Self>, peer: Did) -> Result<Slot, SendFailure> {
        let mut state = lock(&self.state);
        if state.is_closed {
            return Err(closed());
        }
        match state.outgoing.get(&peer) {
            Some(Slot::Up(link)) if !link.is_dead() => return Ok(Slot::Up(link.clone())),
            // An attempt that went without a word (a transport that panicked) is none.
            Some(Slot::Opening(opened)) if opened.has_changed().is_ok() => {
                return Ok(Slot::Opening(opened.clone()));
            }
            Some(_) | None => {}
        }
        if state.outgoing.len() >= MAX_LINKS {
            state.outgoing.retain(|_, slot| !matches!(slot, Slot::Up(link) if link.is_dead()));
            if state.outgoing.len() >= MAX_LINKS {
                return Err(SendFailure::Unreachable("there are too many links".to_owned()));
            }
        }
        let (tell, opened) = watch::channel(None);
        state.outgoing.insert(peer, Slot::Opening(opened.clone()));
        let span = debug_span!("link", direction = "out", peer = %peer.short());
        self.runtime.spawn(self.clone().open(peer, tell).instrument(span));
        Ok(Slot::Opening(opened))
    }

    async fn open(self: Arc<Self>, peer: Did, tell: watch::Sender<Opened>) {
        let introductions = lock(&self.state).introductions;
        let result = match timeout(2 * HANDSHAKE_TIMEOUT, self.handshake(peer)).await {
            Ok(result) => result,
            Err(_) => Err(SendFailure::Unreachable("the link did not come up in time".to_owned())),
        };
        let (pipe, buffer) = match result {
            Ok(greeted) => greeted,
            Err(reason) => {
                debug!(%reason, "link not opened");
                lock(&self.state).outgoing.remove(&peer);
                tell.send_replace(Some(Err(reason)));
                return;
            }
        };
        let link = Link::new(self.shared.clone(), peer);
        {
            let mut state = lock(&self.state);
            if state.is_closed {
                link.kill();
            }
            state.outgoing.insert(peer, Slot::Up(link.clone()));
            // Changed while the greeting was on its way.
            if state.introductions != introductions {
                link.introduce(&self.credentials());
            }
        }
        tell.send_replace(Some(Ok(link.clone())));
        // Nothing of this attempt may keep the link: its senders do.
        drop(tell);
        debug!("link up");
        link.clone().run(pipe, buffer).await;
        debug!("link down");
        let mut state = lock(&self.state);
        if matches!(state.outgoing.get(&peer), Some(Slot::Up(current)) if Arc::ptr_eq(current, &link)) {
            state.outgoing.remove(&peer);
        }
    }

    /// Shows every peer anew what this system is, on each link that is open; later ones begin with it.
    pub(crate) fn introduce(&self) {
        let credentials = self.credentials();
        let mut state = lock(&self.state);
        state.introductions += 1;
        for slot in state.outgoing.values() {
            if let Slot::Up(link) = slot {
                link.introduce(&credentials);
            }
        }
    }

    fn hello(&self) -> Hello<'_> {
        Hello { version: frame::VERSION, network: &self.shared.network, did: self.shared.me }
    }

    async fn handshake(&self, peer: Did) -> Result<(Pipe, FrameBuffer), SendFailure> {
        let mut pipe = self.transport.open(peer, LINK_PROTOCOL).await.map_err(|error| match error {
            OpenError::NoRoute(_) => SendFailure::NoRouteYet,
            OpenError::Unreachable { reason, .. } => SendFailure::Unreachable(reason),
            other => SendFailure::Unreachable(other.to_string()),
        })?;
        let broken =
            |error: &dyn std::error::Error| SendFailure::Unreachable(format!("no greeting: {error}"));
        let credentials = self.credentials();
        let hello =
            frame::encode(&Header::Hello(self.hello()), &credentials).map_err(|error| broken(&error))?;
        pipe.write_all(&hello).await.map_err(|error| broken(&error))?;
        pipe.flush().await.map_err(|error| broken(&error))?;
        let mut buffer = FrameBuffer::default();
        let answer = buffer.read(&mut pipe).await.map_err(|error| broken(&error))?;
        let (header, credentials) = buffer.parts(answer);
        match frame::read_header(header).map_err(|error| broken(&error))? {
            Header::Welcome(theirs) => {
                self.check(peer, &theirs, credentials).map_err(SendFailure::Refused)?;
            }
            Header::Unwelcome(refusal) => return Err(SendFailure::Refused(refusal)),
            _ => return Err(SendFailure::Unreachable("the peer does not greet".to_owned())),
        }
        Ok((pipe, buffer))
    }

    /// What this system shows of itself.
    fn credentials(&self) -> Vec<u8> {
        let credentials = self.shared.policy.credentials();
        if credentials.len() <= MAX_CREDENTIALS {
            return credentials;
        }
        warn!(length = credentials.len(), "the credentials are too long to be shown");
        Vec::new()
    }

    /// True to what the transport has proven, of our version and network? Then its credentials are taken.
    fn check(&self, peer: Did, hello: &Hello<'_>, credentials: &[u8]) -> Result<(), Refusal> {
        if hello.version != frame::VERSION {
            let text = format!("version {} is not {}", hello.version, frame::VERSION);
            return Err(Refusal::new(RefusalCode::OtherVersion, text));
        }
        if hello.network != self.shared.network {
            return Err(Refusal::new(RefusalCode::OtherNetwork, "this is another network"));
        }
        if hello.did != peer {
            return Err(Refusal::new(RefusalCode::NotTrusted, "the name is not the key of the connection"));
        }
        self.shared.introduced(peer, credentials)
    }

    async fn accept(self: Arc<Self>, peer: Did, mut pipe: Pipe) {
        let mut buffer = FrameBuffer::default();
        let greeted = timeout(HANDSHAKE_TIMEOUT, async {
            let greeting = buffer.read(&mut pipe).await?;
            let (header, credentials) = buffer.parts(greeting);
            let Header::Hello(hello) = frame::read_header(header)? else {
                return Err(FrameError::OutOfPlace("the first frame must be a greeting"));
            };
            let checked = self.check(peer, &hello, credentials);
            let answer = match &checked {
                Ok(()) => Header::Welcome(self.hello()),
                Err(refusal) => Header::Unwelcome(refusal.clone()),
            };
            let credentials = if checked.is_ok() { self.credentials() } else { Vec::new() };
            let answer = frame::encode(&answer, &credentials).map_err(FrameError::Header)?;
            pipe.write_all(&answer).await.map_err(FrameError::Pipe)?;
            pipe.flush().await.map_err(FrameError::Pipe)?;
            if checked.is_err() {
                // Lets the answer out before the pipe goes.
                let _ = pipe.shutdown().await;
            }
            Ok(checked)
        });
        match greeted.await {
            Err(_) => return debug!("no greeting in time"),
            Ok(Err(error)) => return self.shared.report_link_end(&error),
            Ok(Ok(Err(refusal))) => return debug!(code = %refusal.code, text = %refusal.text, "link refused"),
            Ok(Ok(Ok(()))) => {}
        }
        let replies = Arc::new(Replies::default());
        {
            let mut state = lock(&self.state);
            if state.is_closed {
                return;
            }
            if state.incoming.len() >= MAX_LINKS && !state.incoming.contains_key(&peer) {
                return warn!("there are too many links, one is dropped");
            }
            // A peer has one link to us: a new one means that it has given up the old.
            if let Some(old) = state.incoming.insert(peer, replies.clone()) {
                old.signal.stop();
            }
        }
        debug!("link up");
        incoming::run(self.shared.clone(), peer, pipe, buffer, replies.clone()).await;
        debug!("link down");
        let mut state = lock(&self.state);
        if state.incoming.get(&peer).is_some_and(|current| Arc::ptr_eq(current, &replies)) {
            state.incoming.remove(&peer);
        }
    }
}

impl Shared {
    /// Tells the policy what a peer shows of itself.
    pub(super) fn introduced(&self, peer: Did, credentials: &[u8]) -> Result<(), Refusal> {
        if credentials.len() > MAX_CREDENTIALS {
            return Err(Refusal::new(RefusalCode::TooLong, "the credentials are too long"));
        }
        // An application's policy that panics must not take the link's task down.
        let introduced = catch_unwind(AssertUnwindSafe(|| self.policy.introduce(peer, credentials)));
        introduced.unwrap_or_else(|_| Err(Refusal::new(RefusalCode::Malformed, "the policy panicked")))
    }

    /// Counts and reports why a link ended by itself.
    pub(super) fn report_link_end(&self, error: &FrameError) {
        match error {
            FrameError::Pipe(error) => debug!(%error, "the link's stream ended"),
            FrameError::Silent => warn!(%error, "link closed"),
            FrameError::Overrun(_) => {
                self.credit_overruns.fetch_add(1, Ordering::Relaxed);
                warn!(%error, "link closed");
            }
            _ => {
                self.malformed_frames.fetch_add(1, Ordering::Relaxed);
                warn!(%error, "link closed");
            }
        }
    }
}
