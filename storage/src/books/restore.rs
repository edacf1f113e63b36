//! Puts the books together again from rows that were written before: the way back from a snapshot.
//!
//! Called by the snapshot's reader with every row of one instant, in the order of [`Family::tag`], so that what is
//! registered is there before what is promised of it. Derived rows are not needed: sums and look-ups are made again.
//! It refuses rows that do not fit each other; whether they are the right ones is the store's to compare.

use super::Books;
use crate::rows::{
    Index, RowError, allocations::Allocations, bid_requests_received::BidRequestsReceived,
    bid_requests_sent::BidRequestsSent, bids_received::BidsReceived, bids_sent::BidsSent, card::Card,
    contracts::Contracts, jobs::Jobs, locked::Locked, preferences::Preferences, registered::Registered,
    seen_ids::SeenIds, standing::Standing, trust::Trust,
};
use crate::schema::Family;

impl Books {
    /// Whether the books are put together from this family's rows; all others are derived from these, or not theirs.
    pub(crate) fn is_restored_from(family: Family) -> bool {
        match family {
            Family::Meta
            | Family::Registered
            | Family::Locked
            | Family::BidRequestsSent
            | Family::BidRequestsReceived
            | Family::BidsSent
            | Family::BidsReceived
            | Family::Jobs
            | Family::Allocations
            | Family::Contracts
            | Family::SeenIds
            | Family::Standing
            | Family::Trust => true,
            Family::Events
            | Family::Available
            | Family::Allocated
            | Family::LocksByExpiry
            | Family::ContractsByPeer
            | Family::Archive
            | Family::ArchiveByTime
            | Family::Snapshot
            | Family::Notes => false,
        }
    }

    /// Adds one row.
    ///
    /// # Errors
    /// [`RowError`] if it cannot be read, lies under another's key, or does not fit those before it.
    pub(crate) fn restore(&mut self, family: Family, key: &[u8], value: &[u8]) -> Result<(), RowError> {
        let unfit = |_| RowError::Value { family: family.name(), source: None };
        let own = |is_own: bool| if is_own { Ok(()) } else { Err(RowError::Key { family: family.name() }) };
        match family {
            Family::Meta if Preferences::key(key).is_ok() => {
                self.preferences = Some(read::<Preferences>(key, value)?.1.into());
            }
            Family::Meta => self.card = Some(read::<Card>(key, value)?.1),
            Family::Registered => {
                let (_, capability) = read::<Registered>(key, value)?;
                self.accounts.register(Some(capability.resources.clone())).map_err(unfit)?;
                self.registered = Some(capability);
            }
            Family::Locked => {
                let (id, lock) = read::<Locked>(key, value)?;
                own(lock.bid == id)?;
                self.accounts.lock(lock).map_err(unfit)?;
            }
            Family::BidRequestsSent => {
                let (id, row) = read::<BidRequestsSent>(key, value)?;
                own(row.request.id == id)?;
                self.requests_sent.insert(id, row);
            }
            Family::BidRequestsReceived => {
                let (id, row) = read::<BidRequestsReceived>(key, value)?;
                own(row.request.id == id)?;
                self.requests_received.insert(id, row);
            }
            Family::BidsSent => {
                let (id, row) = read::<BidsSent>(key, value)?;
                if let Some(started) = row.started {
                    self.allocation_of.insert((row.requester, started.attempt), started.allocation);
                }
                self.bids_sent.insert(id, row);
            }
            Family::BidsReceived => {
                let (id, row) = read::<BidsReceived>(key, value)?;
                self.bids_received.insert(id, row);
            }
            Family::Jobs => {
                let (id, row) = read::<Jobs>(key, value)?;
                own(row.job.id == id)?;
                if row.phase.is_terminal() {
                    self.ended_jobs.insert((row.moved, id));
                }
                self.jobs.insert(id, row);
            }
            Family::Allocations => {
                let (id, row) = read::<Allocations>(key, value)?;
                own(row.id == id)?;
                if let Some(ended) = row.ended() {
                    self.ended_allocations.insert((ended, id));
                }
                if !row.state.is_terminal() {
                    self.accounts.restore_allocated(&row.resources).map_err(unfit)?;
                    self.live.insert(id);
                }
                if row.task == 0 {
                    self.allocation_of.insert((row.requester, row.attempt), id);
                }
                self.allocations.insert(id, row);
            }
            Family::Contracts => {
                let (id, row) = read::<Contracts>(key, value)?;
                self.contracts.insert(id, row);
            }
            Family::SeenIds => {
                let (id, until) = read::<SeenIds>(key, value)?;
                self.seen.insert(id, until);
            }
            Family::Standing => {
                let (requester, standing) = read::<Standing>(key, value)?;
                self.accounts.restore_standing(requester, standing);
            }
            Family::Trust => {
                let (key, row) = read::<Trust>(key, value)?;
                own(self.trust.restore(key, row))?;
            }
            _ => return Err(RowError::Family { family: family.name() }),
        }
        Ok(())
    }

    /// Makes again what needs all rows at once.
    pub(crate) fn finish_restore(&mut self) {
        let contracts: Vec<_> = self.contracts.keys().copied().collect();
        contracts.into_iter().for_each(|id| self.note_contract(id));
    }
}

fn read<I: Index>(key: &[u8], value: &[u8]) -> Result<(I::Key, I::Value), RowError> {
    Ok((I::key(key)?, I::decode(value)?))
}
