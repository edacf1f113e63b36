//! The work that the ledger's figure is measured over: holds and releases in memory, each decided and applied to the
//! accounts as the Node does, with neither signatures nor disk.
//!
//! Called by the benchmarks. It takes no time of its own: whoever calls it has the clock.

use dms_messages::{
    BidId, BidRequestId, Capability, CpuMillis, Did, DiskMib, JobId, Keypair, MemoryMib, Requirement,
    Resources, Timestamp,
};
use dms_storage::{Accounts, Lock, LockEnd};

use super::ledger::{Asker, hold_within};

/// Requesters that take turns: as many as a busy provider meets at the same time.
const REQUESTERS: u8 = 16;
/// Locks that live at the same time: every hold is decided beside so many others.
const LIVE: usize = 64;
/// For how long each is held, in millionths of its lease.
const HELD: u32 = 200_000;

/// Holds `holds` times and releases each again; how many operations that were (a hold or a release is one).
///
/// # Panics
/// If the ledger refuses what fits, or the sums are not what they were at the end: the figure would be of a bug.
pub fn hold_and_release(holds: u32) -> u64 {
    let resources = Resources {
        cpu: CpuMillis(1_000_000),
        memory: MemoryMib(1_000_000),
        disk: DiskMib(1_000_000),
        ..Resources::default()
    };
    let registered = Capability { resources: resources.clone(), ..Capability::default() };
    let mut accounts = Accounts::default();
    accounts.register(Some(resources.clone())).expect("nothing is promised yet");
    let askers: Vec<Asker> = (0..REQUESTERS)
        .map(|seed| Asker { did: Keypair::from_secret(&[seed; 32]).did(), is_me: false, company: None })
        .collect();
    let need = Requirement {
        cpu: CpuMillis(1000),
        memory: MemoryMib(1000),
        disk: DiskMib(1000),
        ..Requirement::default()
    };
    let mut live = std::collections::VecDeque::with_capacity(LIVE + 1);
    let mut operations = 0;
    let release = |accounts: &mut Accounts, bid, asker: Did| {
        assert!(accounts.locks().get(&bid).is_some_and(|lock| lock.requester == asker), "its own");
        accounts.end_lock(bid, LockEnd::Released, HELD, Timestamp(1)).expect("it is held");
    };
    for (number, asker) in (0..holds).zip(askers.iter().cycle()) {
        // Scattered, as random ids are.
        let mut id = [0; 16];
        id[..8].copy_from_slice(&u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        let resources = hold_within(&registered, &accounts, asker, &need).expect("it fits");
        let bid = BidId::from_random(id);
        let lock = Lock {
            bid,
            request: BidRequestId::from_random(id),
            requester: asker.did,
            job: JobId::from_random(id),
            pod: 0,
            resources,
            expires: Timestamp(u64::from(number)),
        };
        accounts.lock(lock).expect("it was free");
        live.push_back((bid, asker.did));
        operations += 1;
        if live.len() > LIVE
            && let Some((oldest, asker)) = live.pop_front()
        {
            release(&mut accounts, oldest, asker);
            operations += 1;
        }
    }
    for (bid, asker) in live {
        release(&mut accounts, bid, asker);
        operations += 1;
    }
    assert_eq!(accounts.available(), &resources, "back to exactly the prior value");
    operations
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_hold_is_released() {
        assert_eq!(super::hold_and_release(1000), 2000);
    }
}
