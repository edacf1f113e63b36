//! The accounts: what is registered, available, locked and allocated, and who holds how much of it.
//!
//! Called by the fold, which changes them, and read by the ledger, which decides over them. They are running sums: a
//! change costs the logarithm of the number of locks and never a walk over them. Every change is checked first and
//! made whole or not at all; [`Accounts::check`] adds everything up again and compares.
//!
//! ```text
//!              lock                 take                    release
//!   available ──────► locked ─────────────────► allocated ──────────► available
//!       ▲               │ end_lock
//!       └───────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use dms_messages::{BidId, Did, Resources, Timestamp};
use serde::{Deserialize, Serialize};

use super::event::{Lock, LockEnd};
use crate::sabotage::{self, Bug};

/// How late a lock that ran out may be swept to count against its requester: a node that sweeps later was away, and
/// nobody could have invoked it.
const AWAY_AFTER: Duration = Duration::from_secs(2);
/// One whole machine, or one whole lease, in the unit of shares: millionths.
const WHOLE: u32 = 1_000_000;
/// How much somebody may hold without invoking it before its standing is bad: the whole machine for one lease, in
/// millionths of that. A quarter of the machine, held for the two seconds of an auction and let go: twenty times.
pub const ALLOWANCE: u32 = WHOLE;
/// The most that counts against anybody, so that an hour always brings back a good standing.
const MOST_UNUSED: u32 = 2 * ALLOWANCE;
/// In what time nothing counts any longer of what makes up the allowance. Slow, because it is given to every name
/// again and again: twenty names get no more than twenty machine leases an hour out of it.
const ALLOWANCE_BACK: Duration = Duration::from_secs(3600);
/// How many leases of what it takes an invocation makes good: who asks a score of providers and chooses one holds
/// nineteen locks for some two seconds each, and should be none the worse for it.
const LEASES_MADE_GOOD: u64 = 16;
/// The least that a lock counts as: how many there may be is a limit too.
const LEAST_SHARE: u64 = WHOLE as u64 / 256;

/// What a requester did with its locks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// How many live locks it has.
    pub locks: usize,
    /// The sum of its live locks.
    pub resources: Resources,
    /// Its standing: what it held without invoking it, in millionths of the whole machine for a whole lease. Locks
    /// count for as long as they were held, however they ended; invocations and time make good.
    pub unused: u32,
    /// As of when.
    pub since: Timestamp,
}

impl Holding {
    /// True if it is not in good standing: it held more than [`ALLOWANCE`] without invoking it.
    pub fn is_suspect(&self) -> bool {
        self.unused > ALLOWANCE
    }
}

/// A requester's standing as it is kept on disk; it is not kept if nothing counts against it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandingRow {
    /// See [`Holding::unused`].
    pub unused: u32,
    /// As of when.
    pub since: Timestamp,
}

/// Those who are not in good standing, together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspects {
    /// How many there are.
    pub count: usize,
    /// The sum of their live locks.
    pub resources: Resources,
}

/// Why the accounts cannot be changed so. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountsError {
    /// Locked and allocated would exceed what is registered, or what is given back was never taken.
    #[error("more would be promised than is registered")]
    Overcommitted,
    /// There is no such lock.
    #[error("there is no such lock")]
    NoLock,
    /// The bid has a lock already.
    #[error("the bid has a lock already")]
    Locked,
}

use AccountsError::{Locked, NoLock, Overcommitted};

/// Running sums of everything that is promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    registered: Resources,
    available: Resources,
    locked: Resources,
    allocated: Resources,
    locks: BTreeMap<BidId, Lock>,
    by_expiry: BTreeSet<(Timestamp, BidId)>,
    holders: BTreeMap<Did, Holding>,
    suspects: Suspects,
}

impl Accounts {
    /// What the machine's owner registered; nothing if the node is not onboarded.
    pub fn registered(&self) -> &Resources {
        &self.registered
    }

    /// What is neither locked nor allocated.
    pub fn available(&self) -> &Resources {
        &self.available
    }

    /// The sum of the live locks.
    pub fn locked(&self) -> &Resources {
        &self.locked
    }

    /// The sum of the live allocations.
    pub fn allocated(&self) -> &Resources {
        &self.allocated
    }

    /// The live locks.
    pub fn locks(&self) -> &BTreeMap<BidId, Lock> {
        &self.locks
    }

    /// The live locks by when their lease ends, grace included.
    pub fn by_expiry(&self) -> &BTreeSet<(Timestamp, BidId)> {
        &self.by_expiry
    }

    /// Whoever holds a lock, or has something count against it.
    pub fn holders(&self) -> &BTreeMap<Did, Holding> {
        &self.holders
    }

    /// Those who are not in good standing, together.
    pub fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    /// What one requester holds; none if it holds nothing and nothing counts against it.
    pub fn holding(&self, requester: Did) -> Option<&Holding> {
        self.holders.get(&requester)
    }

    /// Changes what is registered (`None`: nothing any more).
    ///
    /// # Errors
    /// [`AccountsError::Overcommitted`] if more than that is promised.
    pub fn register(&mut self, resources: Option<Resources>) -> Result<(), AccountsError> {
        let registered = resources.unwrap_or_default();
        let left = registered.checked_sub(&self.locked).and_then(|left| left.checked_sub(&self.allocated));
        self.available = left.ok_or(Overcommitted)?;
        self.registered = registered;
        Ok(())
    }

    /// Locks capacity.
    ///
    /// # Errors
    /// [`AccountsError::Overcommitted`] if it is not available, [`AccountsError::Locked`] if the bid has a lock.
    pub fn lock(&mut self, lock: Lock) -> Result<(), AccountsError> {
        if self.locks.contains_key(&lock.bid) {
            return Err(Locked);
        }
        let available = self.available.checked_sub(&lock.resources);
        let available = match available {
            None if sabotage::has(Bug::OverCommits) => Resources::default(),
            available => available.ok_or(Overcommitted)?,
        };
        let locked = self.locked.checked_add(&lock.resources).ok_or(Overcommitted)?;
        let holding = self.holders.get(&lock.requester);
        let held = match holding {
            Some(holding) => holding.resources.checked_add(&lock.resources).ok_or(Overcommitted)?,
            None => lock.resources.clone(),
        };
        if holding.is_some_and(Holding::is_suspect) {
            self.suspects.resources =
                self.suspects.resources.checked_add(&lock.resources).ok_or(Overcommitted)?;
        }
        let holding = self.holders.entry(lock.requester).or_default();
        holding.locks += 1;
        holding.resources = held;
        self.available = available;
        self.locked = locked;
        self.by_expiry.insert((lock.expires, lock.bid));
        self.locks.insert(lock.bid, lock);
        Ok(())
    }

    /// Moves the end of a lock's lease; returns where it was.
    ///
    /// # Errors
    /// [`AccountsError::NoLock`].
    pub fn renewed(&mut self, bid: BidId, expires: Timestamp) -> Result<Timestamp, AccountsError> {
        let lock = self.locks.get_mut(&bid).ok_or(NoLock)?;
        let before = std::mem::replace(&mut lock.expires, expires);
        self.by_expiry.remove(&(before, bid));
        self.by_expiry.insert((expires, bid));
        Ok(before)
    }

    /// Ends a lock that was not invoked; its capacity is available again. `held`: for how long it was held, in
    /// millionths of its lease.
    ///
    /// # Errors
    /// [`AccountsError::NoLock`], [`AccountsError::Overcommitted`] if the sums are not those of the locks.
    pub fn end_lock(
        &mut self,
        bid: BidId,
        end: LockEnd,
        held: u32,
        at: Timestamp,
    ) -> Result<Lock, AccountsError> {
        let lock = self.locks.get(&bid).ok_or(NoLock)?;
        let available = self.available.checked_add(&lock.resources).ok_or(Overcommitted)?;
        let lock = self.remove(bid)?;
        self.available = available;
        let is_unused = match end {
            LockEnd::Taken | LockEnd::Withdrawn => false,
            LockEnd::Released => true,
            LockEnd::Expired => at <= lock.expires.saturating_add(AWAY_AFTER),
        };
        if is_unused {
            let share = self.share(&lock.resources).max(LEAST_SHARE);
            let held = share.saturating_mul(u64::from(held)).div_ceil(u64::from(WHOLE));
            self.change_standing(lock.requester, at, |unused| unused.saturating_add(saturated(held)));
        }
        self.forget_if_idle(lock.requester);
        Ok(lock)
    }

    /// Turns a lock into an allocation; what is available stays as it is.
    ///
    /// # Errors
    /// [`AccountsError::NoLock`], [`AccountsError::Overcommitted`] if the sums are not those of the locks.
    pub fn take(&mut self, bid: BidId, at: Timestamp) -> Result<Lock, AccountsError> {
        let lock = self.locks.get(&bid).ok_or(NoLock)?;
        let allocated = self.allocated.checked_add(&lock.resources).ok_or(Overcommitted)?;
        let lock = self.remove(bid)?;
        self.allocated = allocated;
        if self.holding(lock.requester).is_some_and(|holding| holding.unused > 0) {
            let good = self.share(&lock.resources).saturating_mul(LEASES_MADE_GOOD);
            self.change_standing(lock.requester, at, |unused| unused.saturating_sub(saturated(good)));
        }
        self.forget_if_idle(lock.requester);
        Ok(lock)
    }

    /// Gives back what an allocation had.
    ///
    /// # Errors
    /// [`AccountsError::Overcommitted`] if so much is not allocated.
    pub fn release(&mut self, resources: &Resources) -> Result<(), AccountsError> {
        let allocated = self.allocated.checked_sub(resources).ok_or(Overcommitted)?;
        self.available = self.available.checked_add(resources).ok_or(Overcommitted)?;
        self.allocated = allocated;
        Ok(())
    }

    /// Takes off what time has made good; whose standing that changed.
    pub fn forgive(&mut self, at: Timestamp) -> Vec<Did> {
        self.change_standings(|accounts, did| accounts.change_standing(did, at, |unused| unused))
    }

    /// Forgives everybody everything; whose standing that changed.
    pub fn forgive_all(&mut self) -> Vec<Did> {
        self.change_standings(|accounts, did| accounts.restore_standing(did, StandingRow::default()))
    }

    /// A requester's standing, as it is kept on disk; none if nothing counts against it.
    pub fn standing(&self, requester: Did) -> Option<StandingRow> {
        let holding = self.holders.get(&requester).filter(|holding| holding.unused > 0)?;
        Some(StandingRow { unused: holding.unused, since: holding.since })
    }

    /// Adds everything up again, from the locks and the live allocations' parts, and compares.
    ///
    /// # Errors
    /// [`AccountsError::Overcommitted`] if a sum differs or does not fit.
    pub fn check<'a>(&self, allocated: impl Iterator<Item = &'a Resources>) -> Result<(), AccountsError> {
        let mut again = Self::default();
        again.register(Some(self.registered.clone()))?;
        for part in allocated {
            again.restore_allocated(part)?;
        }
        for lock in self.locks.values() {
            again.lock(lock.clone())?;
        }
        for requester in self.holders.keys() {
            if let Some(standing) = self.standing(*requester) {
                again.restore_standing(*requester, standing);
            }
        }
        // In order: what differs in `available` but nowhere else is a broken law.
        if again == *self { Ok(()) } else { Err(Overcommitted) }
    }

    /// Adds a live allocation that was accepted before.
    pub(crate) fn restore_allocated(&mut self, resources: &Resources) -> Result<(), AccountsError> {
        let available = self.available.checked_sub(resources).ok_or(Overcommitted)?;
        self.allocated = self.allocated.checked_add(resources).ok_or(Overcommitted)?;
        self.available = available;
        Ok(())
    }

    /// Sets a requester's standing, changed or as it was kept.
    pub(crate) fn restore_standing(&mut self, requester: Did, standing: StandingRow) {
        let holding = self.holders.entry(requester).or_default();
        let was_suspect = holding.is_suspect();
        holding.unused = standing.unused;
        // Nothing is all the same, since whenever it is nothing.
        holding.since = if standing.unused > 0 { standing.since } else { Timestamp::default() };
        let is_suspect = holding.is_suspect();
        let suspects = &mut self.suspects;
        let resources = match (was_suspect, is_suspect) {
            (false, true) => {
                suspects.count += 1;
                suspects.resources.checked_add(&holding.resources)
            }
            (true, false) => {
                suspects.count -= 1;
                suspects.resources.checked_sub(&holding.resources)
            }
            _ => return,
        };
        suspects.resources = resources.expect("a part of the locks, which are summed up");
    }

    /// Brings a standing up to date, and changes it.
    fn change_standing(&mut self, requester: Did, at: Timestamp, change: impl FnOnce(u32) -> u32) {
        let before = self.standing(requester).unwrap_or_default();
        let spent = at.saturating_since(before.since).as_millis().saturating_mul(u128::from(ALLOWANCE));
        let good = u32::try_from(spent / ALLOWANCE_BACK.as_millis()).unwrap_or(u32::MAX);
        let left = before.unused.saturating_sub(good);
        let unused = match change(left) {
            // Whoever goes over it is over it for as long as one can be, and not to and fro.
            unused if unused > ALLOWANCE && left <= ALLOWANCE => MOST_UNUSED,
            unused => unused.min(MOST_UNUSED),
        };
        self.restore_standing(requester, StandingRow { unused, since: at.max(before.since) });
    }

    /// Changes every standing; whose it was.
    fn change_standings(&mut self, change: impl Fn(&mut Self, Did)) -> Vec<Did> {
        let has_standing = |holding: &Holding| holding.unused > 0;
        let of: Vec<Did> =
            self.holders.iter().filter(|(_, holding)| has_standing(holding)).map(|(did, _)| *did).collect();
        for did in &of {
            change(self, *did);
            self.forget_if_idle(*did);
        }
        of
    }

    /// The largest part of a registered dimension that these are, in millionths.
    fn share(&self, resources: &Resources) -> u64 {
        let both = resources.amounts().into_iter().zip(self.registered.amounts());
        let parts = both.filter(|(_, (_, whole))| *whole > 0);
        let share = |part: u64, whole: u64| {
            let share = (u128::from(part) * u128::from(WHOLE)).div_ceil(u128::from(whole));
            u64::try_from(share).unwrap_or(u64::MAX)
        };
        parts.map(|((_, part), (_, whole))| share(part, whole)).max().unwrap_or(0)
    }

    /// Takes a lock out of the sums of locks; where its capacity goes is the caller's.
    fn remove(&mut self, bid: BidId) -> Result<Lock, AccountsError> {
        let lock = self.locks.get(&bid).ok_or(NoLock)?;
        let locked = self.locked.checked_sub(&lock.resources).ok_or(Overcommitted)?;
        let holding = self.holders.get_mut(&lock.requester).ok_or(Overcommitted)?;
        let held = holding.resources.checked_sub(&lock.resources).ok_or(Overcommitted)?;
        if holding.is_suspect() {
            self.suspects.resources =
                self.suspects.resources.checked_sub(&lock.resources).ok_or(Overcommitted)?;
        }
        holding.locks = holding.locks.checked_sub(1).ok_or(Overcommitted)?;
        holding.resources = held;
        self.locked = locked;
        let lock = self.locks.remove(&bid).ok_or(NoLock)?;
        self.by_expiry.remove(&(lock.expires, bid));
        Ok(lock)
    }

    /// A requester that holds nothing, and against whom nothing counts, is not remembered.
    fn forget_if_idle(&mut self, requester: Did) {
        if self.holders.get(&requester).is_some_and(|holding| holding.locks == 0 && holding.unused == 0) {
            self.holders.remove(&requester);
        }
    }
}

fn saturated(amount: u64) -> u32 {
    u32::try_from(amount).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod standing;

#[cfg(test)]
mod tests {
    use dms_messages::{BidRequestId, CpuMillis, GpuId, JobId, Keypair, MemoryMib};
    use proptest::prelude::*;

    use super::*;

    /// One change, by small numbers so that they meet.
    #[derive(Debug, Clone)]
    enum Change {
        Register(Option<(u64, u16)>),
        Lock(u8, u8, u64, Option<u16>),
        Renew(u8, u64),
        End(u8, LockEnd, u32),
        Take(u8),
        Release(usize),
        Forgive(u64),
    }

    fn change() -> impl Strategy<Value = Change> {
        let gpu = || proptest::option::of(0..3u16);
        let end = prop_oneof![Just(LockEnd::Released), Just(LockEnd::Expired), Just(LockEnd::Withdrawn)];
        prop_oneof![
            proptest::option::of((0..40u64, 0..3u16)).prop_map(Change::Register),
            (0..8u8, 0..3u8, 0..12u64, gpu()).prop_map(|(b, r, c, g)| Change::Lock(b, r, c, g)),
            (0..8u8, 0..9u64).prop_map(|(b, at)| Change::Renew(b, at)),
            (0..8u8, end, 0..3 * WHOLE).prop_map(|(b, e, h)| Change::End(b, e, h)),
            (0..8u8).prop_map(Change::Take),
            (0..4usize).prop_map(Change::Release),
            (0..200u64).prop_map(Change::Forgive),
        ]
    }

    fn resources(cpu: u64, gpus: impl IntoIterator<Item = u16>) -> Resources {
        Resources {
            cpu: CpuMillis(cpu),
            memory: MemoryMib(cpu),
            gpus: gpus.into_iter().map(GpuId).collect(),
            ..Resources::default()
        }
    }

    fn bid(n: u8) -> BidId {
        BidId::from_random([n; 16])
    }

    proptest! {
        /// The running sums are those of the parts, whatever happens; and what is refused changes nothing.
        #[test]
        fn running_sums_are_those_of_their_parts(changes in proptest::collection::vec(change(), 0..120)) {
            let requesters: Vec<Did> = (0..3).map(|n| Keypair::from_secret(&[n; 32]).did()).collect();
            let mut accounts = Accounts::default();
            let mut live: Vec<Resources> = Vec::new();
            for (at, change) in (0..).zip(changes) {
                let (before, at) = (accounts.clone(), Timestamp(at));
                let outcome = match change {
                    Change::Register(of) => {
                        accounts.register(of.map(|(cpu, gpus)| resources(cpu, 0..gpus)))
                    }
                    Change::Lock(n, requester, cpu, gpu) => accounts.lock(Lock {
                        bid: bid(n),
                        request: BidRequestId::from_random([n; 16]),
                        requester: requesters[usize::from(requester)],
                        job: JobId::from_random([n; 16]),
                        pod: 0,
                        resources: resources(cpu, gpu),
                        expires: at,
                    }),
                    Change::Renew(n, expires) => accounts.renewed(bid(n), Timestamp(expires)).map(drop),
                    Change::End(n, end, held) => accounts.end_lock(bid(n), end, held, at).map(drop),
                    Change::Take(n) => accounts.take(bid(n), at).map(|lock| live.push(lock.resources)),
                    Change::Release(n) if n < live.len() => accounts.release(&live.swap_remove(n)),
                    Change::Release(_) => accounts.release(&resources(1_000, None)),
                    Change::Forgive(hours) => {
                        accounts.forgive(Timestamp(hours * 60_000));
                        Ok(())
                    }
                };
                if outcome.is_err() {
                    prop_assert_eq!(&accounts, &before);
                }
                prop_assert_eq!(accounts.check(live.iter()), Ok(()));
                let promised = accounts.locked().checked_add(accounts.allocated());
                let whole = promised.and_then(|promised| promised.checked_add(accounts.available()));
                prop_assert_eq!(whole.as_ref(), Some(accounts.registered()));
                prop_assert_eq!(accounts.by_expiry().len(), accounts.locks().len());
            }
        }
    }

    #[test]
    fn a_check_finds_every_sum_that_is_wrong() {
        let mut sound = Accounts::default();
        sound.register(Some(resources(100, [0]))).unwrap();
        type Damage = fn(&mut Accounts);
        let table: [(&str, Damage); 6] = [
            ("registered", |accounts| accounts.registered = resources(101, [0])),
            ("available", |accounts| accounts.available = resources(99, [0])),
            ("locked", |accounts| accounts.locked = resources(1, None)),
            ("allocated", |accounts| accounts.allocated = resources(1, None)),
            ("expiry", |accounts| assert!(accounts.by_expiry.insert((Timestamp(1), bid(1))))),
            ("holders", |accounts| {
                drop(accounts.holders.insert(Keypair::from_secret(&[1; 32]).did(), Holding::default()));
            }),
        ];
        assert_eq!(sound.check([].iter()), Ok(()));
        assert_eq!(sound.check([resources(101, None)].iter()), Err(Overcommitted), "more than there is");
        for (name, wrong) in table {
            let mut accounts = sound.clone();
            wrong(&mut accounts);
            assert_eq!(accounts.check([].iter()), Err(Overcommitted), "{name}");
        }
    }
}
