//! Standing: what counts against a requester, what forgives it, and the sums of those it counts against.

use dms_messages::{BidRequestId, CpuMillis, JobId, Keypair, Millis};

use super::*;

fn did(seed: u8) -> Did {
    Keypair::from_secret(&[seed; 32]).did()
}

fn cpu(millis: u64) -> Resources {
    Resources { cpu: CpuMillis(millis), ..Resources::default() }
}

fn lock(number: u8, requester: Did, millis: u64) -> Lock {
    Lock {
        bid: BidId::from_random([number; 16]),
        request: BidRequestId::from_random([number; 16]),
        requester,
        job: JobId::from_random([number; 16]),
        pod: 0,
        resources: cpu(millis),
        expires: Timestamp(10_000),
    }
}

fn accounts() -> Accounts {
    let mut accounts = Accounts::default();
    accounts.register(Some(cpu(8000))).unwrap();
    accounts
}

fn check(accounts: &Accounts, allocated: &[Resources]) {
    accounts.check(allocated.iter()).unwrap();
}

const LEASE: u32 = WHOLE;

#[test]
fn a_lock_counts_by_its_part_and_its_time_unless_the_node_took_it_back() {
    let table = [
        ("given back at once", LockEnd::Released, 0, 1_000, 0),
        ("given back after an auction", LockEnd::Released, LEASE / 5, 3_000, WHOLE / 40),
        ("given back before half of the lease", LockEnd::Released, LEASE * 49 / 100, 4_900, WHOLE * 49 / 800),
        ("ran out", LockEnd::Expired, LEASE, 10_000, WHOLE / 8),
        ("swept a moment later", LockEnd::Expired, LEASE, 12_000, WHOLE / 8),
        ("ran out while the node was away", LockEnd::Expired, LEASE, 12_001, 0),
        ("taken back", LockEnd::Withdrawn, LEASE, 10_000, 0),
    ];
    for (name, end, held, at, unused) in table {
        let mut accounts = accounts();
        let lock = lock(1, did(2), 1000);
        accounts.lock(lock.clone()).unwrap();
        accounts.end_lock(lock.bid, end, held, Timestamp(at)).unwrap();
        assert_eq!(accounts.standing(did(2)).map_or(0, |standing| standing.unused), unused, "{name}");
        assert_eq!(accounts.suspects().count, 0, "{name}: within the allowance");
        assert_eq!(accounts.available(), &cpu(8000), "{name}");
        check(&accounts, &[]);
    }
}

#[test]
fn it_adds_up_in_whatever_pieces_and_is_made_good_by_use_and_by_time() {
    let mut accounts = accounts();
    let hold = |accounts: &mut Accounts, millis, held, at| {
        let lock = lock(9, did(2), millis);
        accounts.lock(lock.clone()).unwrap();
        accounts.end_lock(lock.bid, LockEnd::Released, held, Timestamp(at)).unwrap();
        accounts.standing(did(2)).unwrap().unused
    };
    assert_eq!(hold(&mut accounts, 8000, LEASE * 49 / 100, 0), WHOLE * 49 / 100);
    assert_eq!(hold(&mut accounts, 8000, LEASE * 49 / 100, 0), WHOLE * 98 / 100);
    assert_eq!(accounts.suspects().count, 0);
    assert_eq!(hold(&mut accounts, 8000, LEASE * 49 / 100, 0), MOST_UNUSED, "over it, for an hour");
    assert_eq!(accounts.suspects().count, 1);
    assert_eq!(hold(&mut accounts, 8000, u32::MAX, 0), MOST_UNUSED, "no further than an hour");
    // A small invocation makes good as much as it is.
    let take = |accounts: &mut Accounts, millis, at| {
        accounts.lock(lock(9, did(2), millis)).unwrap();
        accounts.take(lock(9, did(2), millis).bid, Timestamp(at)).unwrap();
        accounts.release(&cpu(millis)).unwrap();
        accounts.standing(did(2)).map_or(0, |standing| standing.unused)
    };
    assert_eq!(take(&mut accounts, 8, 0), MOST_UNUSED - WHOLE * 16 / 1000);
    assert_eq!(take(&mut accounts, 250, 0), MOST_UNUSED - WHOLE * 16 / 1000 - WHOLE / 2);
    assert_eq!(take(&mut accounts, 1000, 0), 0);
    // Time makes good the whole allowance in an hour, and what is over it in one more.
    hold(&mut accounts, 8000, LEASE * 11 / 10, 0);
    let hour = Millis::from(ALLOWANCE_BACK).0;
    assert_eq!(accounts.suspects().count, 1);
    assert_eq!(accounts.forgive(Timestamp(hour)), [did(2)]);
    assert_eq!(accounts.suspects().count, 0);
    assert_eq!(accounts.standing(did(2)).unwrap().unused, ALLOWANCE);
    assert_eq!(accounts.forgive(Timestamp(hour)), [did(2)]);
    assert_eq!(accounts.standing(did(2)).unwrap().unused, ALLOWANCE, "not twice for the same time");
    assert_eq!(accounts.forgive(Timestamp(2 * hour)), [did(2)]);
    assert_eq!(accounts, self::accounts(), "nobody is remembered");
    assert_eq!(accounts.forgive(Timestamp(hour * 9)), []);
}

#[test]
fn the_locks_of_those_in_bad_standing_are_summed_up_as_they_come_and_go() {
    let mut accounts = accounts();
    let waste = |accounts: &mut Accounts, number, who| {
        let lock = lock(number, who, 100);
        accounts.lock(lock.clone()).unwrap();
        accounts.end_lock(lock.bid, LockEnd::Released, 100 * LEASE, Timestamp(10_000)).unwrap();
    };
    let sum = |accounts: &Accounts| (accounts.suspects().count, accounts.suspects().resources.cpu.0);
    // What somebody holds counts from when it loses its good standing.
    accounts.lock(lock(1, did(2), 1000)).unwrap();
    assert_eq!(sum(&accounts), (0, 0));
    waste(&mut accounts, 2, did(2));
    assert_eq!(sum(&accounts), (1, 1000));
    accounts.lock(lock(3, did(2), 500)).unwrap();
    waste(&mut accounts, 4, did(3));
    waste(&mut accounts, 5, did(3));
    accounts.lock(lock(6, did(4), 4000)).unwrap();
    assert_eq!(sum(&accounts), (2, 1500), "whoever is in good standing is not among them");
    check(&accounts, &[]);
    // An invocation makes good.
    accounts.take(lock(3, did(2), 500).bid, Timestamp(10_000)).unwrap();
    assert_eq!(sum(&accounts), (1, 0));
    check(&accounts, &[cpu(500)]);
    assert_eq!(accounts.forgive_all().len(), 2);
    assert_eq!(sum(&accounts), (0, 0));
    check(&accounts, &[cpu(500)]);
    accounts.end_lock(lock(1, did(2), 0).bid, LockEnd::Released, 0, Timestamp(1)).unwrap();
    accounts.end_lock(lock(6, did(4), 0).bid, LockEnd::Released, 0, Timestamp(1)).unwrap();
    accounts.release(&cpu(500)).unwrap();
    assert_eq!(accounts, self::accounts(), "back to exactly the prior value, and nobody is remembered");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let mut accounts = accounts();
    accounts.lock(lock(1, did(2), 6000)).unwrap();
    let before = accounts.clone();
    let none = BidId::from_random([9; 16]);
    assert_eq!(accounts.lock(lock(1, did(2), 1)), Err(AccountsError::Locked));
    assert_eq!(accounts.lock(lock(2, did(2), 2001)), Err(AccountsError::Overcommitted));
    assert_eq!(accounts.register(Some(cpu(5999))), Err(AccountsError::Overcommitted));
    assert_eq!(accounts.register(None), Err(AccountsError::Overcommitted));
    assert_eq!(accounts.release(&cpu(1)), Err(AccountsError::Overcommitted));
    assert_eq!(accounts.take(none, Timestamp(1)), Err(AccountsError::NoLock));
    assert_eq!(accounts.renewed(none, Timestamp(1)), Err(AccountsError::NoLock));
    assert_eq!(accounts.end_lock(none, LockEnd::Expired, LEASE, Timestamp(1)), Err(AccountsError::NoLock));
    assert_eq!(accounts, before);
    assert_eq!(
        accounts.renewed(before.by_expiry().first().unwrap().1, Timestamp(20_000)),
        Ok(Timestamp(10_000))
    );
    assert_eq!(accounts.by_expiry().first().unwrap().0, Timestamp(20_000));
    check(&accounts, &[]);
}
