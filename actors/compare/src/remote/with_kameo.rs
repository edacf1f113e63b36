//! kameo with a swarm of one's own, as its documentation asks for: its behaviour, TCP and QUIC.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt;
use kameo::actor::{RemoteActorRef, Spawn};
use kameo::mailbox;
use kameo::message::{Context, Message};
use kameo::remote::{self, messaging};
use kameo::{RemoteActor, remote_message};
use libp2p_kameo::swarm::SwarmEvent;
use libp2p_kameo::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::load::Client;
use super::{Over, Seen, Stack, announce, until_abandoned};
use crate::rounds::Sample;

/// The name of the actor in the directory.
const NAME: &str = "echo";

pub(super) struct Kameo {
    /// Substreams at once, one for each message; its default if none.
    pub(super) streams: Option<usize>,
}

#[derive(kameo::Actor, RemoteActor, Default)]
pub(super) struct Echo {
    seen: Seen,
}

#[derive(Serialize, Deserialize)]
struct Ping(ByteBuf);

#[remote_message]
impl Message<Ping> for Echo {
    type Reply = ByteBufReply;

    async fn handle(&mut self, ping: Ping, _: &mut Context<Self, ByteBufReply>) -> ByteBufReply {
        ByteBufReply(ping.0)
    }
}

/// kameo knows what is a reply.
#[derive(Serialize, Deserialize, kameo::Reply)]
struct ByteBufReply(ByteBuf);

#[derive(Serialize, Deserialize)]
struct Note(ByteBuf);

#[remote_message]
impl Message<Note> for Echo {
    type Reply = ();

    async fn handle(&mut self, note: Note, _: &mut Context<Self, ()>) {
        self.seen.take(&note.0);
    }
}

#[derive(Serialize, Deserialize)]
struct Count;

#[remote_message]
impl Message<Count> for Echo {
    type Reply = ByteBufReply;

    async fn handle(&mut self, _: Count, _: &mut Context<Self, ByteBufReply>) -> ByteBufReply {
        ByteBufReply(ByteBuf::from(self.seen.bytes()))
    }
}

impl Kameo {
    fn swarm(&self) -> anyhow::Result<Swarm<remote::Behaviour>> {
        let mut config = messaging::Config::default();
        if let Some(streams) = self.streams {
            config = config.with_max_concurrent_streams(streams);
        }
        let swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)?
            .with_quic()
            .with_behaviour(|key| remote::Behaviour::new(key.public().to_peer_id(), config))?
            // kameo keeps no stream open, so an idle connection would be closed at once.
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(300)))
            .build();
        swarm.behaviour().try_init_global()?;
        Ok(swarm)
    }
}

/// Lets the swarm live; `connected` is called at each connection.
async fn drive(mut swarm: Swarm<remote::Behaviour>, connected: impl Fn()) {
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::NewListenAddr { address, .. } => announce(&address.to_string()),
            SwarmEvent::ConnectionEstablished { peer_id, endpoint, .. } => {
                swarm.add_peer_address(peer_id, endpoint.get_remote_address().clone());
                connected();
            }
            _ => {}
        }
    }
}

/// Registered when there is a peer to tell it to.
async fn register() -> anyhow::Result<()> {
    let echo = Echo::spawn_with_mailbox(Echo::default(), mailbox::bounded(1024));
    echo.register(NAME).await?;
    // It lives while somebody refers to it.
    std::future::pending::<()>().await;
    drop(echo);
    Ok(())
}

async fn connect(mut swarm: Swarm<remote::Behaviour>, address: Multiaddr) -> anyhow::Result<Caller> {
    swarm.dial(address)?;
    tokio::spawn(drive(swarm, || {}));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Ok(Some(echo)) = RemoteActorRef::lookup(NAME).await {
            return Ok(Caller(echo));
        }
        anyhow::ensure!(tokio::time::Instant::now() < deadline, "the actor is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[derive(Clone)]
pub(super) struct Caller(RemoteActorRef<Echo>);

impl Client for Caller {
    fn fork(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    async fn ask(&self, payload: Vec<u8>) -> Option<Vec<u8>> {
        let reply = self.0.ask(&Ping(ByteBuf::from(payload))).await;
        reply.ok().map(|reply| reply.0.into_vec())
    }

    async fn tell(&self, payload: Vec<u8>) -> bool {
        self.0.tell(&Note(ByteBuf::from(payload))).send().is_ok()
    }

    async fn seen(&self) -> Option<Seen> {
        Seen::read(&self.0.ask(&Count).await.ok()?.0)
    }
}

impl Stack for Kameo {
    type Client = Caller;

    fn serve(&self, over: Over) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        let (connected, mut is_connected) = tokio::sync::watch::channel(());
        runtime.block_on(async {
            let mut swarm = self.swarm()?;
            swarm.listen_on(over.multiaddr().parse()?)?;
            // Nobody waits for a second connection.
            tokio::spawn(drive(swarm, move || connected.send(()).unwrap_or(())));
            tokio::spawn(async move {
                is_connected.changed().await?;
                register().await
            });
            anyhow::Ok(())
        })?;
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
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let caller = connect(self.swarm()?, address).await?;
            tokio::spawn(load(caller)).await.context("the load panicked")?
        })
    }
}
