//! `Census` and `CensusReply`: brings them, and time, to the graph program that the node hosts, and says what it wants
//! said.
//!
//! Nothing of the books is in them, so they do not wait for the disk as other words do: a slow disk would look like a
//! slow way.

use dms_actors::{Answer, Context, Handler};
use dms_messages::{Census, CensusReply, Did};

use crate::graph::mesh_size::{CensusWord, TICK, paced_for};
use crate::graph::view::{GetGraph, GraphView, NeighbourView};
use crate::graph::{Edge, Inbox, Moment, Vertex};
use crate::node::Node;
use crate::orchestrator::discovery;
use crate::word::{Addressed, Word};

impl Node {
    /// Begins to take part in the graph.
    pub(crate) fn start_graph(&mut self, ctx: &mut Context<'_, Self>) {
        ctx.every(TICK, |node, ctx| {
            for transfer in node.parts.blobs.take_transfers() {
                node.mesh_size.carried(transfer.peer, transfer.bytes, transfer.took);
            }
            let gate = &node.parts.gate;
            node.mesh_size.trust(|did| gate.is_known(did));
            node.step(Vec::new(), ctx);
        });
    }

    fn step(&mut self, inbox: Inbox<CensusWord>, ctx: &mut Context<'_, Self>) {
        let clock = &self.parts.clock;
        let moment = Moment { now: clock.monotonic(), wall: clock.now(), chance: clock.random() };
        let me = ctx.me();
        for (to, word) in self.mesh_size.step(&moment, inbox) {
            let word = match word {
                CensusWord::Ask(census) => Word::Census(census),
                CensusWord::Reply(reply) => Word::CensusReply(reply),
            };
            self.network.say(&me, Addressed::new(to, word));
        }
    }

    /// How many nodes it is paced for: everybody who was heard of, or more if the mesh says so.
    pub(crate) fn paced_for(&self) -> u64 {
        paced_for(self.heard_count(), self.mesh_size.estimate())
    }

    /// How many nodes were heard of by words of their own, without this one.
    fn heard_count(&self) -> u64 {
        self.adverts.keys().count().max(self.statuses.keys().count()) as u64
    }

    /// How many nodes there are, this one included.
    pub(crate) fn estimated_mesh(&self) -> u64 {
        self.mesh_size.estimate()
    }

    fn graph(&self) -> GraphView {
        let neighbours = self.mesh_size.edges().map(|(did, edge)| self.neighbour(did, *edge));
        GraphView {
            me: self.me(),
            is_provider: self.books.registered().is_some() && self.withdrawal.is_none(),
            mesh_size: self.estimated_mesh(),
            heard_count: self.heard_count().max(self.peers.len() as u64) + 1,
            neighbours: neighbours.collect(),
        }
        .sorted()
    }

    fn neighbour(&self, did: Did, edge: Edge) -> NeighbourView {
        let now = self.now();
        let advert = self.adverts.get(did, now).map(|note| note.signed.value());
        let status = self.statuses.get(did, now).map(|note| note.signed.value());
        let (offer, word) = discovery::without_contradiction(advert, status);
        let connection = self.network.connection(did);
        NeighbourView {
            did,
            is_connected: self.peers.contains(&did),
            is_trusted: self.knows(did),
            is_provider: offer.is_some_and(discovery::is_offering),
            peer_count: word.map(|status| status.peers),
            agent: connection.map(|connection| connection.agent).filter(|agent| !agent.is_empty()),
            edge,
        }
    }
}

impl Handler<Census> for Node {
    fn handle(&mut self, census: Census, ctx: &mut Context<'_, Self>) -> Answer<()> {
        self.step(vec![(ctx.sender(), CensusWord::Ask(census))], ctx);
        ().into()
    }
}

impl Handler<CensusReply> for Node {
    fn handle(&mut self, reply: CensusReply, ctx: &mut Context<'_, Self>) -> Answer<()> {
        self.step(vec![(ctx.sender(), CensusWord::Reply(reply))], ctx);
        ().into()
    }
}

impl Handler<GetGraph> for Node {
    fn handle(&mut self, _: GetGraph, _: &mut Context<'_, Self>) -> Answer<GraphView> {
        self.graph().into()
    }
}
