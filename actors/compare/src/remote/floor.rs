//! The floor: frames of a length and a number on one long-lived libp2p substream, between tasks of tokio.
//!
//! Each end of the stream is one task that joins reading and writing; what waits is written at once.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use futures::io::BufReader;
use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Stream, StreamProtocol, Swarm, SwarmBuilder, noise, tcp, yamux};
use tokio::sync::{mpsc, oneshot};

use super::load::Client;
use super::{Over, Stack, announce, until_abandoned};
use crate::rounds::Sample;

pub(super) struct Floor;

const PROTOCOL: StreamProtocol = StreamProtocol::new("/compare/floor/1");
/// Frames that wait.
const QUEUE: usize = 1024;
/// Bytes read ahead, and bytes written at once.
const CHUNK: usize = 64 * 1024;

/// A frame's number and payload.
type Frame = (u64, Vec<u8>);

fn swarm() -> anyhow::Result<Swarm<libp2p_stream::Behaviour>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
        .with_quic()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())?
        // The stream keeps its connection.
        .build())
}

/// Reads frames into `incoming` and writes those of `outgoing`, until either ends.
async fn carry(stream: Stream, incoming: mpsc::Sender<Frame>, mut outgoing: mpsc::Receiver<Frame>) {
    let (reader, mut writer) = stream.split();
    let mut reader = BufReader::with_capacity(CHUNK, reader);
    let read = async {
        loop {
            let mut head = [0; 12];
            reader.read_exact(&mut head).await?;
            let (length, number) = head.split_at(4);
            let length = u32::from_be_bytes(length.try_into().expect("four bytes"));
            let mut payload = vec![0; length as usize];
            reader.read_exact(&mut payload).await?;
            let number = u64::from_be_bytes(number.try_into().expect("eight bytes"));
            if incoming.send((number, payload)).await.is_err() {
                return std::io::Result::Ok(());
            }
        }
    };
    let write = async {
        let mut chunk = Vec::new();
        while let Some(first) = outgoing.recv().await {
            let mut next = Some(first);
            while let Some((number, payload)) = next {
                let length = u32::try_from(payload.len()).expect("a short payload");
                chunk.extend_from_slice(&length.to_be_bytes());
                chunk.extend_from_slice(&number.to_be_bytes());
                chunk.extend_from_slice(&payload);
                next = if chunk.len() < CHUNK { outgoing.try_recv().ok() } else { None };
            }
            writer.write_all(&chunk).await?;
            writer.flush().await?;
            chunk.clear();
        }
        std::io::Result::Ok(())
    };
    // The end of one is the end of both; why does not matter here.
    futures::future::select(std::pin::pin!(read), std::pin::pin!(write)).await;
}

#[derive(Clone)]
pub(super) struct Caller {
    outgoing: mpsc::Sender<Frame>,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    last: u64,
    asks: BTreeMap<u64, oneshot::Sender<Vec<u8>>>,
}

impl Client for Caller {
    fn fork(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    async fn ask(&self, payload: Vec<u8>) -> Option<Vec<u8>> {
        let (reply, answer) = oneshot::channel();
        let number = {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.last += 1;
            let number = open.last;
            open.asks.insert(number, reply);
            number
        };
        self.outgoing.send((number, payload)).await.ok()?;
        answer.await.ok()
    }
}

async fn serve(over: Over) -> anyhow::Result<()> {
    let mut swarm = swarm()?;
    let mut streams = swarm.behaviour().new_control().accept(PROTOCOL).context("accepted once")?;
    swarm.listen_on(over.multiaddr().parse()?)?;
    tokio::spawn(async move {
        while let Some((_, stream)) = streams.next().await {
            let (incoming, mut asked) = mpsc::channel::<Frame>(QUEUE);
            let (replies, outgoing) = mpsc::channel(QUEUE);
            tokio::spawn(carry(stream, incoming, outgoing));
            tokio::spawn(async move {
                while let Some(frame) = asked.recv().await {
                    if replies.send(frame).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            announce(&address.to_string());
        }
    }
}

async fn connect(address: Multiaddr) -> anyhow::Result<Caller> {
    let mut swarm = swarm()?;
    let mut control = swarm.behaviour().new_control();
    swarm.dial(address)?;
    let peer = loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { peer_id, .. } => break peer_id,
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    };
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let stream = control.open_stream(peer, PROTOCOL).await?;
    let (incoming, mut replies) = mpsc::channel::<Frame>(QUEUE);
    let (outgoing, queue) = mpsc::channel(QUEUE);
    tokio::spawn(carry(stream, incoming, queue));
    let open = Arc::new(Mutex::new(Open::default()));
    let caller = Caller { outgoing, open: open.clone() };
    tokio::spawn(async move {
        while let Some((number, payload)) = replies.recv().await {
            let asked = open.lock().unwrap_or_else(PoisonError::into_inner).asks.remove(&number);
            if let Some(reply) = asked {
                // Whoever asked may have gone.
                let _ = reply.send(payload);
            }
        }
    });
    Ok(caller)
}

impl Stack for Floor {
    type Client = Caller;

    fn serve(&self, over: Over) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.spawn(serve(over));
        until_abandoned();
        runtime.shutdown_background();
        Ok(())
    }

    fn run<F>(
        &self,
        _: Over,
        address: &str,
        load: impl FnOnce(Caller) -> F + Send + 'static,
    ) -> anyhow::Result<Sample>
    where
        F: Future<Output = anyhow::Result<Sample>> + Send + 'static,
    {
        let address = address.parse()?;
        tokio::runtime::Runtime::new()?.block_on(async {
            tokio::spawn(load(connect(address).await?)).await.context("the load panicked")?
        })
    }
}
