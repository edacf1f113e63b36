//! `dms-actors` over `dms-p2p`.

use std::future::Future;
use std::time::Duration;

use anyhow::Context as _;
use dms_actors::{
    Actor, ActorSystem, ActorSystemBuilder, Address, Answer, Context, Did, Handler, Keypair, Recipient,
    Responder, StartError, Supervision,
};
use dms_p2p::{P2p, P2pConfig};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

use super::load::Client;
use super::{Over, Seen, Stack, announce, until_abandoned};
use crate::inside::run_inside;
use crate::rounds::Sample;

/// In one of two layouts.
pub(super) enum Ours {
    /// Actors on a thread of their own, links and swarm on a runtime with one worker: what is the default.
    OwnThread,
    /// Actors, links and swarm all on one thread.
    SameArbiter,
}

#[derive(Serialize, Deserialize)]
struct Ping(ByteBuf);
dms_actors::wire_message!(Ping, "compare.ping", 1, reply = ByteBuf);

#[derive(Serialize, Deserialize)]
struct Note(ByteBuf);
dms_actors::wire_message!(Note, "compare.note", 1);

#[derive(Serialize, Deserialize)]
struct Count;
dms_actors::wire_message!(Count, "compare.count", 1, reply = ByteBuf);

/// Is counted and never answered.
#[derive(Serialize, Deserialize)]
struct InVain;
dms_actors::wire_message!(InVain, "compare.in-vain", 1);

#[derive(Default)]
struct Echo {
    seen: Seen,
    in_vain: Vec<Responder<()>>,
}

impl Actor for Echo {
    const MAILBOX: usize = 1024;
}

impl Handler<Ping> for Echo {
    fn handle(&mut self, ping: Ping, _: &mut Context<'_, Self>) -> Answer<ByteBuf> {
        ping.0.into()
    }
}

impl Handler<Note> for Echo {
    fn handle(&mut self, note: Note, _: &mut Context<'_, Self>) -> Answer<()> {
        self.seen.take(&note.0);
        ().into()
    }
}

impl Handler<Count> for Echo {
    fn handle(&mut self, _: Count, _: &mut Context<'_, Self>) -> Answer<ByteBuf> {
        ByteBuf::from(self.seen.bytes()).into()
    }
}

impl Handler<InVain> for Echo {
    fn handle(&mut self, _: InVain, _: &mut Context<'_, Self>) -> Answer<()> {
        let (responder, answer) = Answer::later();
        self.in_vain.push(responder);
        self.seen.received += 1;
        answer
    }
}

/// The network's runtime; the actors' thread is not of it.
fn network() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?)
}

async fn start(
    over: Over,
    start: impl FnOnce(ActorSystemBuilder) -> Result<ActorSystem, StartError>,
) -> anyhow::Result<(P2p, ActorSystem)> {
    let keypair = Keypair::generate()?;
    let config = P2pConfig { listen: vec![over.multiaddr().to_owned()], ..P2pConfig::default() };
    let p2p = P2p::start(&keypair, config).await?;
    let system = start(ActorSystem::builder(keypair.did(), "compare").transport(p2p.transport()))?;
    Ok((p2p, system))
}

fn serve(p2p: &P2p, system: &ActorSystem) -> anyhow::Result<()> {
    let echo = system.spawn(Echo::default, Supervision::never());
    let registration = system.register("/echo", &echo)?;
    let _ = registration.accepts::<Ping>().accepts::<Note>().accepts::<Count>().accepts::<InVain>();
    let address = p2p.listen_addresses().into_iter().next().context("no address")?;
    announce(&format!("{} {address}", p2p.did()));
    Ok(())
}

fn connect(p2p: &P2p, system: &ActorSystem, address: &str) -> anyhow::Result<Caller> {
    let (did, place) = address.split_once(' ').context("the address has two parts")?;
    let did: Did = did.parse()?;
    p2p.transport().add_addresses(did, vec![place.to_owned()]);
    let echo = Address::new(did, "/echo")?;
    Ok(Caller {
        ping: system.resolve(&echo),
        note: system.resolve(&echo),
        count: system.resolve(&echo),
        in_vain: system.resolve(&echo),
    })
}

#[derive(Clone)]
pub(super) struct Caller {
    ping: Recipient<Ping>,
    note: Recipient<Note>,
    count: Recipient<Count>,
    in_vain: Recipient<InVain>,
}

impl Client for Caller {
    fn fork(&self, task: impl Future<Output = ()> + Send + 'static) {
        tokio::task::spawn_local(task);
    }

    async fn ask(&self, payload: Vec<u8>) -> Option<Vec<u8>> {
        let reply = self.ping.ask(Ping(ByteBuf::from(payload))).await;
        reply.ok().map(ByteBuf::into_vec)
    }

    async fn tell(&self, payload: Vec<u8>) -> bool {
        self.note.tell(Note(ByteBuf::from(payload))).await.is_ok()
    }

    async fn seen(&self) -> Option<Seen> {
        Seen::read(&self.count.ask(Count).await.ok()?)
    }

    async fn ask_in_vain(&self, time: Duration) {
        // It is lost, or else the time is over: both are an end.
        let _ = self.in_vain.ask(InVain).timeout(time).await;
    }
}

impl Stack for Ours {
    type Client = Caller;

    fn serve(&self, over: Over) -> anyhow::Result<()> {
        match self {
            Self::OwnThread => {
                let network = network()?;
                let (p2p, system) = network.block_on(start(over, ActorSystemBuilder::start))?;
                serve(&p2p, &system)?;
                until_abandoned();
                Ok(())
            }
            Self::SameArbiter => dms_actors::run(async {
                let (p2p, system) = start(over, ActorSystemBuilder::start_on_current).await?;
                serve(&p2p, &system)?;
                tokio::task::spawn_blocking(until_abandoned).await.context("nobody is awaited")
            })?,
        }
    }

    fn run<F>(
        &self,
        over: Over,
        address: &str,
        load: impl FnOnce(Caller) -> F + Send + 'static,
    ) -> anyhow::Result<Sample>
    where
        F: Future<Output = anyhow::Result<Sample>> + Send + 'static,
    {
        match self {
            Self::OwnThread => {
                let network = network()?;
                let (p2p, system) = network.block_on(start(over, ActorSystemBuilder::start))?;
                let caller = connect(&p2p, &system, address)?;
                run_inside(&system, load(caller))
            }
            Self::SameArbiter => dms_actors::run(async {
                let (p2p, system) = start(over, ActorSystemBuilder::start_on_current).await?;
                let caller = connect(&p2p, &system, address)?;
                tokio::task::spawn_local(load(caller)).await.context("the load panicked")?
            })?,
        }
    }
}
