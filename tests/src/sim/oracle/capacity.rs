//! What a node has promised of its machine, by its log, and for how long: the sums and the leases.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_messages::{BidId, Resources, Timestamp};
use dms_node::commands::CapabilityView;

use super::rules::{CONSERVATION, LEASE};
use super::{Judged, Moment, Wrong, wrong};

/// How long after its disk works again a node may still be read-only: it tries every five seconds, and then its
/// children end before the books are taken up.
const TAKEN_UP_WITHIN: Duration = Duration::from_secs(10);

/// Whether a node can do what time asks of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Health {
    is_up: bool,
    is_disk_broken: bool,
    /// Since when it could.
    since: Duration,
}

impl Health {
    pub(super) fn started(&mut self, at: Duration) {
        self.is_up = true;
        self.since = self.since.max(at);
    }

    pub(super) fn ended(&mut self) {
        self.is_up = false;
    }

    pub(super) fn disk(&mut self, works: bool, at: Duration) {
        if self.is_disk_broken && works {
            self.since = at.saturating_add(TAKEN_UP_WITHIN);
        }
        self.is_disk_broken = !works;
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// True if it has been up, with a disk that works, for longer than `slack`.
    pub(super) fn is_well(&self, at: Duration, slack: Duration) -> bool {
        self.is_up && !self.is_disk_broken && at > self.since.saturating_add(slack)
    }
}

/// A lock that holds.
#[derive(Debug, Clone)]
pub(super) struct HeldLock {
    pub(super) resources: Resources,
    /// When its lease ends by the node's wall clock.
    pub(super) expires: Timestamp,
    /// When that is in virtual time, as it looked when it was written: a wall clock may be set.
    pub(super) due: Duration,
}

impl HeldLock {
    pub(super) fn new(resources: Resources, expires: Timestamp, moment: Moment) -> Self {
        let due = moment.at.saturating_add(expires.saturating_since(moment.wall));
        Self { resources, expires, due }
    }
}

/// What is registered and promised by the log of one node.
#[derive(Debug, Default)]
pub(super) struct Capacity {
    registered: Resources,
    /// The sum of the locks and the live allocations.
    promised: Resources,
    locks: BTreeMap<BidId, HeldLock>,
    by_expiry: BTreeSet<(Timestamp, BidId)>,
}

impl Capacity {
    /// Sets what is registered; gives what was.
    pub(super) fn register(&mut self, resources: Resources) -> Resources {
        std::mem::replace(&mut self.registered, resources)
    }

    /// Sets the sum of what is promised; gives what it was.
    pub(super) fn set_promised(&mut self, resources: Resources) -> Resources {
        std::mem::replace(&mut self.promised, resources)
    }

    /// The sum with this beside it. What is shared out whole, a GPU or a port, is promised once.
    pub(super) fn with(&self, resources: &Resources) -> Result<Resources, Wrong> {
        match self.promised.checked_add(resources) {
            Some(sum) => Ok(sum),
            None => wrong(
                CONSERVATION,
                format!(
                    "({resources}) is promised beside ({}), of which it has a part already: GPUs {:?} and {:?}, \
                     ports {:?} and {:?}",
                    self.promised, resources.gpus, self.promised.gpus, resources.ports, self.promised.ports
                ),
            ),
        }
    }

    /// The sum without this.
    pub(super) fn without(&self, resources: &Resources) -> Result<Resources, Wrong> {
        match self.promised.checked_sub(resources) {
            Some(sum) => Ok(sum),
            None => wrong(CONSERVATION, format!("({resources}) is given back of ({})", self.promised)),
        }
    }

    /// Locked and allocated are no more than registered.
    pub(super) fn check(&self) -> Judged {
        if self.registered.fits(&self.promised) {
            return Ok(());
        }
        let (promised, registered) = (&self.promised, &self.registered);
        wrong(
            CONSERVATION,
            format!(
                "({promised}) is locked or allocated, and ({registered}) is registered; GPUs {:?} of {:?}, ports \
                 {:?} of {:?}",
                promised.gpus, registered.gpus, promised.ports, registered.ports
            ),
        )
    }

    pub(super) fn lock(&self, bid: BidId) -> Option<&HeldLock> {
        self.locks.get(&bid)
    }

    pub(super) fn has_lock(&self, bid: BidId) -> bool {
        self.locks.contains_key(&bid)
    }

    pub(super) fn locks(&self) -> &BTreeMap<BidId, HeldLock> {
        &self.locks
    }

    /// Sets or removes a lock; gives what was there.
    pub(super) fn set_lock(&mut self, bid: BidId, lock: Option<HeldLock>) -> Option<HeldLock> {
        let before = self.locks.remove(&bid);
        if let Some(before) = &before {
            self.by_expiry.remove(&(before.expires, bid));
        }
        if let Some(lock) = lock {
            self.by_expiry.insert((lock.expires, bid));
            self.locks.insert(bid, lock);
        }
        before
    }

    /// No lock in the log outlives its lease; of a node that could have ended it.
    pub(super) fn check_leases(&self, moment: Moment, slack: Duration) -> Judged {
        let mut late = self.by_expiry.iter().take_while(|(expires, _)| is_late(*expires, moment, slack));
        late.try_for_each(|(expires, bid)| self.check_lease(*bid, *expires, moment, slack))
    }

    /// A lock with this end does not outlive it.
    pub(super) fn check_lease(
        &self,
        bid: BidId,
        expires: Timestamp,
        moment: Moment,
        slack: Duration,
    ) -> Judged {
        // Where the clock was set forward, the lease that was promised has not run out yet.
        let is_due = self.locks.get(&bid).is_none_or(|lock| moment.at > lock.due.saturating_add(slack));
        if !is_due || !is_late(expires, moment, slack) {
            return Ok(());
        }
        let late = moment.wall.saturating_since(expires);
        wrong(
            LEASE,
            format!("the lock of bid {bid} still holds {late:?} after its end by the node's own clock"),
        )
    }
}

fn is_late(expires: Timestamp, moment: Moment, slack: Duration) -> bool {
    moment.wall > expires.saturating_add(slack)
}

/// A node's own sums are those of what it lists, and leave what they should.
pub(super) fn check_view(view: &CapabilityView) -> Judged {
    let locks = sum("locks", view.locks.iter().map(|lock| &lock.resources))?;
    let allocations = sum("allocations", view.allocations.iter().map(|row| &row.resources))?;
    let registered = view.registered.as_ref().map(|it| it.resources.clone()).unwrap_or_default();
    for (what, said, listed) in
        [("locked", &view.locked, &locks), ("allocated", &view.allocated, &allocations)]
    {
        if said != listed {
            return wrong(CONSERVATION, format!("it says ({said:?}) is {what}, and lists ({listed:?})"));
        }
    }
    let left = registered.checked_sub(&locks).and_then(|left| left.checked_sub(&allocations));
    match left {
        None => wrong(
            CONSERVATION,
            format!("it lists ({locks:?}) as locked and ({allocations:?}) as allocated of ({registered:?})"),
        ),
        Some(left) if left != view.available => {
            let said = &view.available;
            wrong(CONSERVATION, format!("it says ({said:?}) is available, and ({left:?}) is left"))
        }
        Some(_) => Ok(()),
    }
}

fn sum<'a>(what: &str, mut parts: impl Iterator<Item = &'a Resources>) -> Result<Resources, Wrong> {
    match parts.try_fold(Resources::default(), |sum, part| sum.checked_add(part)) {
        Some(sum) => Ok(sum),
        None => wrong(CONSERVATION, format!("two of its {what} have the same GPU or port")),
    }
}
