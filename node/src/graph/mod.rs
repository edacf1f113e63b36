//! The mesh as a graph: nodes are vertices, links are edges that are measured, and programs run over them by messages
//! between neighbours alone.
//!
//! | file | has |
//! |---|---|
//! | this one | what a vertex is |
//! | [`edge`] | what is measured of a way to a neighbour |
//! | `sketch` | a sample of the mesh from which its size is estimated |
//! | [`mesh_size`] | the vertex program that every node runs: how many nodes are there? |
//! | [`view`] | what people and programs may see of it |
//!
//! Pure: no waiting, no input or output. `handlers/graph.rs` brings it words and time, and says what it wants said.

pub mod edge;
pub mod mesh_size;
mod sketch;
pub mod view;

use std::time::Duration;

use dms_actors::clock::Timestamp;
use dms_messages::Did;

pub use self::edge::Edge;

/// What has come from neighbours, in the order in which it came.
pub type Inbox<M> = Vec<(Did, M)>;
/// What is to be told to neighbours.
pub type Outbox<M> = Vec<(Did, M)>;

/// When a step is taken, and its share of chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time since some start; never goes back.
    pub now: Duration,
    /// The wall clock, which another node's may be 30 s away from.
    pub wall: Timestamp,
    /// Random bytes, others at each step.
    pub chance: [u8; 16],
}

/// A node as graph programs see it: a state of its own, neighbours, and edges to them that are measured.
///
/// A program in the manner of Pregel (Malewicz et al., 2010): a vertex takes what its neighbours have said, changes its
/// state, and says something to its neighbours; nobody sees the whole. Unlike there, nobody waits for anybody: a step
/// is taken when a message comes, and with an empty inbox now and then, so that what was lost can be said again. A
/// program that counts in rounds names the round in its messages, mixes nothing of one with another, and goes on by its
/// clock, not when all have answered ([`mesh_size::MeshSize`] does).
///
/// It is a state machine without an actor, so that it can be tried over a thousand vertices in a loop. An actor hosts
/// it: it gives each message that it gets to [`Self::step`], and tells what comes out. The Node hosts the program that
/// estimates the mesh's size; somebody else's actor can host another one between actors of its own.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::time::Duration;
///
/// use dms_actors::Keypair;
/// use dms_actors::clock::Timestamp;
/// use dms_messages::Did;
/// use dms_node::graph::{Edge, Inbox, Moment, Outbox, Vertex};
///
/// /// Finds the least DID of the mesh, which may then lead it.
/// struct Leader {
///     least: Did,
///     /// Whether the neighbours have heard of it.
///     is_told: bool,
///     edges: BTreeMap<Did, Edge>,
/// }
///
/// impl Vertex for Leader {
///     type Message = Did;
///
///     fn neighbours(&self) -> Vec<Did> {
///         self.edges.keys().copied().collect()
///     }
///
///     fn edge(&self, to: Did) -> Option<&Edge> {
///         self.edges.get(&to)
///     }
///
///     fn step(&mut self, _: &Moment, inbox: Inbox<Did>) -> Outbox<Did> {
///         for (_, heard) in inbox {
///             if heard < self.least {
///                 (self.least, self.is_told) = (heard, false);
///             }
///         }
///         if std::mem::replace(&mut self.is_told, true) {
///             return Vec::new();
///         }
///         self.neighbours().into_iter().map(|to| (to, self.least)).collect()
///     }
/// }
///
/// // A ring of five.
/// let dids: Vec<Did> = (1..=5).map(|seed| Keypair::from_secret(&[seed; 32]).did()).collect();
/// let mut ring: BTreeMap<Did, Leader> = BTreeMap::new();
/// for (at, did) in dids.iter().enumerate() {
///     let edges = [dids[(at + 1) % 5], dids[(at + 4) % 5]].map(|to| (to, Edge::default())).into();
///     ring.insert(*did, Leader { least: *did, is_told: false, edges });
/// }
/// let moment = Moment { now: Duration::ZERO, wall: Timestamp(0), chance: [0; 16] };
/// let mut waiting: Vec<(Did, Inbox<Did>)> = dids.iter().map(|did| (*did, Vec::new())).collect();
/// while let Some((did, inbox)) = waiting.pop() {
///     let said = ring.get_mut(&did).expect("everybody is there").step(&moment, inbox);
///     waiting.extend(said.into_iter().map(|(to, word)| (to, vec![(did, word)])));
/// }
/// assert!(ring.values().all(|vertex| Some(&vertex.least) == dids.iter().min()));
/// ```
#[doc(alias = "Vertex_interface")]
pub trait Vertex {
    /// What neighbours say to each other.
    type Message;

    /// To whom this vertex may say something now, in the order of their DIDs.
    fn neighbours(&self) -> Vec<Did>;

    /// What was measured of the way to somebody; none if nothing ever was.
    fn edge(&self, to: Did) -> Option<&Edge>;

    /// Takes what has come, changes the state, and gives what is to be told. With an empty inbox only time has passed.
    fn step(&mut self, moment: &Moment, inbox: Inbox<Self::Message>) -> Outbox<Self::Message>;
}
