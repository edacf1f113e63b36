//! What a Node can be asked as a Node: the interface of the original design, method by method and in its order.
//!
//! It is a view: each method is one message to the Node actor, or two, and the API and the CLI send the same ones. Who
//! holds a reference to the actor is the node's owner, or code that the owner runs: all of it is the owner's to call.
//! Peers come in by words of the mesh, which the gate judges, and by none of these; what they may ask for with them is
//! in the last column.
//!
//! | original | here | command | API | peers |
//! |---|---|---|---|---|
//! | getAllocation | [`NodeInterface::get_allocation`] | `dms alloc show ID` | `GET /v1/allocations/{id}` | |
//! | checkAllocationStatus | [`NodeInterface::check_allocation_status`] | `dms alloc status ID` | `GET /v1/allocations/{id}/status` | `AllocationCheck`, `AllocationStatusRequest`: its requester |
//! | routeToAllocation | [`NodeInterface::route_to_allocation`] | `dms alloc send ID` | `POST /v1/allocations/{id}/messages` | `AllocationMessage`: its requester, or with a token |
//! | benchmarkCapability | [`NodeInterface::benchmark_capability`] | `dms capability benchmark` | `POST /v1/capability/benchmark` | |
//! | setRegisteredCapability | [`NodeInterface::set_registered_capability`] | `dms onboard` | `POST /v1/onboard` | |
//! | getRegisteredCapability | [`NodeInterface::get_registered_capability`] | `dms capability` | `GET /v1/capability` | of its `Advert` what is offered |
//! | setAvailableCapability | [`NodeInterface::set_available_capability`] | `dms capability free` | `POST /v1/capability/available` | |
//! | getAvailableCapability | [`NodeInterface::get_available_capability`] | `dms capability` | `GET /v1/capability` | of its `Advert` |
//! | lockCapability | [`NodeInterface::lock_capability`] | `dms capability lock JOB` | `POST /v1/locks` | `BidRequest`: who may ask for bids |
//! | getLockedCapabilities | [`NodeInterface::get_locked_capabilities`] | `dms capability locks` | `GET /v1/capability` | |
//! | setPreferences | [`NodeInterface::set_preferences`] | `dms preferences set FILE` | `POST /v1/preferences` | |
//! | getPreferences | [`NodeInterface::get_preferences`] | `dms preferences show` | `GET /v1/preferences` | |
//! | getRegisteredBids | [`NodeInterface::get_registered_bids`] | `dms bid ls --request ID` | `GET /v1/bids?request=ID` | |
//! | startAllocation | [`NodeInterface::start_allocation`] | `dms alloc start BID JOB` | `POST /v1/locks/{bid}/start` | `Invocation`: who may invoke, on its own lock |
//!
//! The last takes an invocation that is signed already. People hand in a job ([`StartLocked`]): the node signs the
//! invocation of its own lock for it, and takes that as it takes every other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_actors::{ActorRef, AskError, Handler, Message};
use dms_messages::{
    Accepted, AllocationId, AllocationMessage, Bid, BidRequest, BidRequestId, Capability, CpuMillis,
    Delivered, DiskMib, ExecutorKind, GpuId, Invocation, Job, JobId, MemoryMib, Resources, Signed,
};
use dms_storage::Lock;
use serde::{Deserialize, Serialize};

use crate::allocation::route::{
    AllocationTarget, CheckAllocationStatus, CheckedAllocation, DELIVERY_TIMEOUT, MAX_REPLY_WAIT, RouteError,
    RouteToAllocation,
};
use crate::commands::{BenchmarkCapability, Benchmarked, CommandError, GetCapability, Onboard};
use crate::listings::Page;
use crate::listings::bids::{BidList, ListBids};
use crate::listings::contracts::{AllocationView, ShowAllocation};
use crate::node::Node;
use crate::preferences::{Change, GetPreferences, PreferencesView, SetPreferences};

/// Longest lease of a lock that the owner asks the own node for: who means to keep capacity for longer offers less.
pub const MAX_OWN_LEASE: Duration = Duration::from_secs(600);
/// How long the node may take to answer: many commits to disk.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the machine may be measured: six figures of a minute each at most, if the settings want that.
const MEASURING_TIMEOUT: Duration = Duration::from_secs(600);

/// Why the Node did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceError {
    /// It said no; nothing was done.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// An allocation could not be reached, or refuses.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// It did not answer: it is stopping, or too busy. Unknown whether it was done, unless it was too busy.
    #[error("the node did not answer: {0}")]
    NoAnswer(String),
}

/// A Node, as its owner and what runs beside it may use it.
#[doc(alias = "Node_interface")]
pub trait NodeInterface {
    /// How an allocation stands, here or of a job of this node's, live or over.
    ///
    /// # Errors
    /// [`CommandError::UnknownId`].
    #[doc(alias = "getAllocation")]
    fn get_allocation(
        &self,
        id: AllocationId,
    ) -> impl Future<Output = Result<AllocationView, InterfaceError>> + Send;

    /// How an allocation stands now, asked of whoever runs it: this node, or the provider of a job of this node's.
    ///
    /// # Errors
    /// [`InterfaceError::Route`].
    #[doc(alias = "checkAllocationStatus")]
    fn check_allocation_status(
        &self,
        id: AllocationId,
    ) -> impl Future<Output = Result<CheckedAllocation, InterfaceError>> + Send;

    /// Brings a message to the program of an allocation, here or with the provider of a job of this node's. Peers
    /// address theirs to the allocation itself, and need to be its requester or to have a token for it.
    ///
    /// # Errors
    /// [`InterfaceError::Route`]: it is gone, it does not listen, its inbox is full.
    #[doc(alias = "routeToAllocation")]
    fn route_to_allocation(
        &self,
        id: AllocationId,
        message: AllocationMessage,
    ) -> impl Future<Output = Result<Delivered, InterfaceError>> + Send;

    /// Measures how fast the machine is, which takes many seconds, and registers that with what is offered.
    ///
    /// # Errors
    /// [`CommandError::Measuring`]: one at a time; [`CommandError::NotMeasured`]; [`CommandError::NothingOffered`].
    #[doc(alias = "benchmarkCapability")]
    fn benchmark_capability(&self) -> impl Future<Output = Result<Benchmarked, InterfaceError>> + Send;

    /// Registers what this machine offers, in the place of what it offered. On disk when it is answered.
    ///
    /// # Errors
    /// [`CommandError::InvalidCapability`]: it breaks a rule, or does not cover what is promised.
    #[doc(alias = "setRegisteredCapability")]
    fn set_registered_capability(
        &self,
        capability: Capability,
    ) -> impl Future<Output = Result<(), InterfaceError>> + Send;

    /// What this machine offers, if it does.
    ///
    /// # Errors
    /// None but that the node does not answer.
    #[doc(alias = "getRegisteredCapability")]
    fn get_registered_capability(
        &self,
    ) -> impl Future<Output = Result<Option<Capability>, InterfaceError>> + Send;

    /// Offers so much beside what is promised: registered becomes this and all that is locked and allocated, since
    /// what is available is nothing by itself but the rest of what is registered. On disk when it is answered.
    ///
    /// # Errors
    /// [`CommandError::NotOnboarded`]; [`CommandError::InvalidCapability`]: a GPU or port in it is promised, or the
    /// offer is being taken back.
    #[doc(alias = "setAvailableCapability")]
    fn set_available_capability(
        &self,
        available: Resources,
    ) -> impl Future<Output = Result<(), InterfaceError>> + Send;

    /// What is registered and neither locked nor allocated.
    ///
    /// # Errors
    /// None but that the node does not answer.
    #[doc(alias = "getAvailableCapability")]
    fn get_available_capability(&self) -> impl Future<Output = Result<Resources, InterfaceError>> + Send;

    /// Locks what a request needs, for this node itself as the requester: the bid that says so is on disk with its
    /// lock when it is answered. Peers ask by a [`BidRequest`] of their own and are judged in the same way.
    ///
    /// # Errors
    /// [`CommandError::Declined`] with what a peer would be told; a lease of none or of more than [`MAX_OWN_LEASE`]
    /// too.
    #[doc(alias = "lockCapability")]
    fn lock_capability(
        &self,
        request: BidRequest,
        lease: Duration,
    ) -> impl Future<Output = Result<Signed<Bid>, InterfaceError>> + Send;

    /// The live locks, of everybody's requests.
    ///
    /// # Errors
    /// None but that the node does not answer.
    #[doc(alias = "getLockedCapabilities")]
    fn get_locked_capabilities(&self) -> impl Future<Output = Result<Vec<Lock>, InterfaceError>> + Send;

    /// Sets by what this node chooses (TOML), as requester and as provider, from the next round and the next request
    /// on. On disk when it is answered, with what changes.
    ///
    /// # Errors
    /// [`CommandError::InvalidPreferences`], with the line.
    #[doc(alias = "setPreferences")]
    fn set_preferences(
        &self,
        text: String,
    ) -> impl Future<Output = Result<Vec<Change>, InterfaceError>> + Send;

    /// By what this node chooses.
    ///
    /// # Errors
    /// None but that the node does not answer.
    #[doc(alias = "getPreferences")]
    fn get_preferences(&self) -> impl Future<Output = Result<PreferencesView, InterfaceError>> + Send;

    /// The bids and declines on one request, of this node and of its peers.
    ///
    /// # Errors
    /// [`CommandError::UnknownId`].
    #[doc(alias = "getRegisteredBids")]
    fn get_registered_bids(
        &self,
        request: BidRequestId,
    ) -> impl Future<Output = Result<BidList, InterfaceError>> + Send;

    /// Starts what a requester invokes this node for, as if the word had come on the requester's link: its lock
    /// becomes an allocation. Asked again with the same invocation it gives the same answer and starts nothing.
    ///
    /// # Errors
    /// [`CommandError::Refused`] with what the requester would be told.
    #[doc(alias = "startAllocation")]
    fn start_allocation(
        &self,
        invocation: Signed<Invocation>,
    ) -> impl Future<Output = Result<Signed<Accepted>, InterfaceError>> + Send;
}

/// Asks the Node, and waits for as long as the disk may need.
async fn ask<M: Message>(node: &ActorRef<Node>, message: M) -> Result<M::Reply, InterfaceError>
where
    Node: Handler<M>,
{
    ask_within(node, message, ASK_TIMEOUT).await
}

async fn ask_within<M: Message>(
    node: &ActorRef<Node>,
    message: M,
    patience: Duration,
) -> Result<M::Reply, InterfaceError>
where
    Node: Handler<M>,
{
    let answer = node.ask(message).timeout(patience).await;
    answer.map_err(|error: AskError<M>| InterfaceError::NoAnswer(error.to_string()))
}

impl NodeInterface for ActorRef<Node> {
    async fn get_allocation(&self, id: AllocationId) -> Result<AllocationView, InterfaceError> {
        Ok(ask(self, ShowAllocation { id: id.to_string() }).await??)
    }

    async fn check_allocation_status(&self, id: AllocationId) -> Result<CheckedAllocation, InterfaceError> {
        let of = AllocationTarget::Known(id.to_string());
        Ok(ask(self, CheckAllocationStatus { of }).await??)
    }

    async fn route_to_allocation(
        &self,
        id: AllocationId,
        message: AllocationMessage,
    ) -> Result<Delivered, InterfaceError> {
        let to = AllocationTarget::Known(id.to_string());
        let patience = if message.wants_reply { MAX_REPLY_WAIT } else { DELIVERY_TIMEOUT };
        let route = RouteToAllocation { to, message, patience };
        Ok(ask_within(self, route, patience + ASK_TIMEOUT).await??)
    }

    async fn benchmark_capability(&self) -> Result<Benchmarked, InterfaceError> {
        Ok(ask_within(self, BenchmarkCapability { is_registered: true }, MEASURING_TIMEOUT).await??)
    }

    async fn set_registered_capability(&self, capability: Capability) -> Result<(), InterfaceError> {
        Ok(ask(self, Onboard { capability }).await??)
    }

    async fn get_registered_capability(&self) -> Result<Option<Capability>, InterfaceError> {
        Ok(ask(self, GetCapability).await?.registered)
    }

    async fn set_available_capability(&self, available: Resources) -> Result<(), InterfaceError> {
        Ok(ask(self, SetAvailableCapability { available: available.into() }).await??)
    }

    async fn get_available_capability(&self) -> Result<Resources, InterfaceError> {
        Ok(ask(self, GetCapability).await?.available)
    }

    async fn lock_capability(
        &self,
        request: BidRequest,
        lease: Duration,
    ) -> Result<Signed<Bid>, InterfaceError> {
        Ok(ask(self, LockCapability { request, lease }).await??)
    }

    async fn get_locked_capabilities(&self) -> Result<Vec<Lock>, InterfaceError> {
        Ok(ask(self, GetCapability).await?.locks)
    }

    async fn set_preferences(&self, text: String) -> Result<Vec<Change>, InterfaceError> {
        Ok(ask(self, SetPreferences { text }).await??)
    }

    async fn get_preferences(&self) -> Result<PreferencesView, InterfaceError> {
        ask(self, GetPreferences).await
    }

    async fn get_registered_bids(&self, request: BidRequestId) -> Result<BidList, InterfaceError> {
        let list = ListBids { direction: None, request: Some(request.to_string()), page: Page::default() };
        Ok(ask(self, list).await??)
    }

    async fn start_allocation(
        &self,
        invocation: Signed<Invocation>,
    ) -> Result<Signed<Accepted>, InterfaceError> {
        Ok(ask(self, StartAllocation { invocation }).await??)
    }
}

/// Says how much is to be free beside what is promised. Answered when it is on disk.
#[derive(Debug)]
#[doc(alias = "setAvailableCapability")]
pub struct SetAvailableCapability {
    /// How much.
    pub available: Amounts,
}

/// How much is to be free of what somebody says something of; the rest stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Amounts {
    /// Processor time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuMillis>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryMib>,
    /// Disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskMib>,
    /// The GPUs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gpus: Option<BTreeSet<GpuId>>,
    /// The ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<BTreeSet<u16>>,
    /// How many pods of each kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<BTreeMap<ExecutorKind, u32>>,
}

impl From<Resources> for Amounts {
    fn from(all: Resources) -> Self {
        let Resources { cpu, memory, disk, gpus, ports, slots } = all;
        Self {
            cpu: Some(cpu),
            memory: Some(memory),
            disk: Some(disk),
            gpus: Some(gpus),
            ports: Some(ports),
            slots: Some(slots),
        }
    }
}

impl Amounts {
    /// These, and what `now` has of the rest.
    pub fn over(self, now: &Resources) -> Resources {
        Resources {
            cpu: self.cpu.unwrap_or(now.cpu),
            memory: self.memory.unwrap_or(now.memory),
            disk: self.disk.unwrap_or(now.disk),
            gpus: self.gpus.unwrap_or_else(|| now.gpus.clone()),
            ports: self.ports.unwrap_or_else(|| now.ports.clone()),
            slots: self.slots.unwrap_or_else(|| now.slots.clone()),
        }
    }
}

impl Message for SetAvailableCapability {
    type Reply = Result<(), CommandError>;
}

/// Locks capacity for this node itself. Answered when the lock is on disk.
#[derive(Debug)]
#[doc(alias = "lockCapability")]
pub struct LockCapability {
    /// What is needed, for which job and pod.
    pub request: BidRequest,
    /// For how long, at most [`MAX_OWN_LEASE`].
    pub lease: Duration,
}

impl Message for LockCapability {
    type Reply = Result<Signed<Bid>, CommandError>;
}

/// Lets a lock of this node's own go. Answered with it when that is on disk.
#[derive(Debug)]
pub struct EndLock {
    /// Its bid, or the beginning of its id.
    pub bid: String,
}

impl Message for EndLock {
    type Reply = Result<Lock, CommandError>;
}

/// Hands in an invocation by hand. Answered when the allocation is on disk.
#[derive(Debug)]
#[doc(alias = "startAllocation")]
pub struct StartAllocation {
    /// Signed by whoever has the lock.
    pub invocation: Signed<Invocation>,
}

impl Message for StartAllocation {
    type Reply = Result<Signed<Accepted>, CommandError>;
}

/// Hands in a job whose capacity this node has locked for itself: nobody is asked, the lock is taken. Answered when
/// the job and its first attempt are on disk.
#[derive(Debug)]
pub struct StartLocked {
    /// The lock's bid, or the beginning of its id.
    pub bid: String,
    /// The job; its id is the lock's.
    pub job: Job,
}

impl Message for StartLocked {
    type Reply = Result<JobId, CommandError>;
}
