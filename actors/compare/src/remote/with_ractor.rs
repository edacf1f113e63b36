//! ractor_cluster: nodes over plain TCP, found through a process group. It encrypts nothing.

use std::future::Future;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ractor::rpc::CallResult;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort, pg};
use ractor_cluster::{NodeServer, NodeServerMessage, RactorClusterMessage};

use super::load::Client;
use super::{Over, Seen, Stack, announce, until_abandoned};
use crate::rounds::Sample;

pub(super) struct Ractor;

const GROUP: &str = "echo";
const COOKIE: &str = "compare";

#[derive(RactorClusterMessage)]
pub(super) enum Word {
    #[rpc]
    Ping(Vec<u8>, RpcReplyPort<Vec<u8>>),
    Note(Vec<u8>),
    #[rpc]
    Count(RpcReplyPort<Vec<u8>>),
}

struct Echo;

impl Actor for Echo {
    type Msg = Word;
    type State = Seen;
    type Arguments = ();

    async fn pre_start(&self, me: ActorRef<Word>, (): ()) -> Result<Seen, ActorProcessingErr> {
        pg::join(GROUP.to_owned(), vec![me.get_cell()]);
        Ok(Seen::default())
    }

    async fn handle(&self, _: ActorRef<Word>, word: Word, seen: &mut Seen) -> Result<(), ActorProcessingErr> {
        match word {
            // Whoever asked may have gone.
            Word::Ping(payload, reply) => drop(reply.send(payload)),
            Word::Note(payload) => seen.take(&payload),
            Word::Count(reply) => drop(reply.send(seen.bytes())),
        }
        Ok(())
    }
}

async fn node(port: u16, name: &str) -> anyhow::Result<ActorRef<NodeServerMessage>> {
    let server =
        NodeServer::new(port, COOKIE.to_owned(), name.to_owned(), "localhost".to_owned(), None, None)
            .with_listen_addr(Ipv4Addr::LOCALHOST.into());
    Ok(Actor::spawn(None, server, ()).await?.0)
}

/// A port that is free now.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

async fn connect(address: &str) -> anyhow::Result<Caller> {
    let node = node(free_port()?, "client").await?;
    ractor_cluster::client_connect(&node, address).await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(echo) = pg::get_members(&GROUP.to_owned()).pop() {
            return Ok(Caller(echo.into()));
        }
        ensure!(tokio::time::Instant::now() < deadline, "the actor is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[derive(Clone)]
pub(super) struct Caller(ActorRef<Word>);

impl Client for Caller {
    fn fork(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::spawn(task);
    }

    async fn ask(&self, payload: Vec<u8>) -> Option<Vec<u8>> {
        match self.0.call(|reply| Word::Ping(payload, reply), None).await {
            Ok(CallResult::Success(reply)) => Some(reply),
            _ => None,
        }
    }

    async fn tell(&self, payload: Vec<u8>) -> bool {
        self.0.cast(Word::Note(payload)).is_ok()
    }

    async fn seen(&self) -> Option<Seen> {
        match self.0.call(Word::Count, None).await {
            Ok(CallResult::Success(bytes)) => Seen::read(&bytes),
            _ => None,
        }
    }
}

impl Stack for Ractor {
    type Client = Caller;

    fn serve(&self, over: Over) -> anyhow::Result<()> {
        ensure!(over == Over::Tcp, "it knows TCP only");
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let port = free_port()?;
            node(port, "server").await?;
            Actor::spawn(None, Echo, ()).await?;
            announce(&format!("127.0.0.1:{port}"));
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
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let caller = connect(address).await?;
            tokio::spawn(load(caller)).await.context("the load panicked")?
        })
    }
}
