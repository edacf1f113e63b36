//! What the owner leaves, sample by sample.

use dms_messages::{Capability, Requirement};

use super::*;
use crate::capability::ledger::hold_within;
use crate::testing::did;

/// A machine of four cores, 16 GiB and 100 GiB of disk, of which nobody uses anything.
fn idle() -> MachineSample {
    MachineSample {
        cpu: CpuMillis(4000),
        memory: MemoryMib(16_384),
        memory_free: MemoryMib(10_000),
        disk: DiskMib(200_000),
        disk_free: DiskMib(100_000),
        load_hundredths: Some(20),
        ..MachineSample::default()
    }
}

fn room(change: impl Fn(&mut MachineSample)) -> Room {
    let mut sample = idle();
    change(&mut sample);
    Room::of(&sample, &OwnUse::default(), &Reserve::default())
}

#[test]
fn the_owners_use_takes_room_and_our_own_does_not() {
    let whole = u64::MAX;
    type Change = fn(&mut MachineSample);
    let table: [(&str, Change, (u64, u64, u64)); 10] = [
        ("idle", |_| {}, (whole, 10_000, 100_000)),
        ("background", |it| it.cpu_used.0 = 400, (whole, 10_000, 100_000)),
        ("the owner computes", |it| it.cpu_used.0 = 2400, (2000, 10_000, 100_000)),
        ("our programs compute", |it| (it.cpu_used.0, it.cpu_own.0) = (3900, 3800), (whole, 10_000, 100_000)),
        ("both do", |it| (it.cpu_used.0, it.cpu_own.0) = (4000, 1000), (1400, 10_000, 100_000)),
        (
            "counted in two moments",
            |it| (it.cpu_used.0, it.cpu_own.0) = (100, 4000),
            (whole, 10_000, 100_000),
        ),
        (
            "our programs fill the memory",
            |it| (it.memory_free.0, it.memory_own.0) = (1000, 9000),
            (whole, 10_000, 100_000),
        ),
        ("the owner fills it", |it| it.memory_free.0 = 1000, (whole, 1000, 100_000)),
        ("tasks wait for the disk", |it| it.load_hundredths = Some(1700), (0, 10_000, 100_000)),
        ("the system does not say", |it| it.load_hundredths = None, (whole, 10_000, 100_000)),
    ];
    for (name, change, (cpu, memory, disk)) in table {
        let found = room(change);
        assert_eq!((found.cpu.0, found.memory.0, found.disk.0), (cpu, memory, disk), "{name}");
    }
    let ours = OwnUse { disk: DiskMib(5000), running: 20 };
    let reserve = Reserve { cpu: CpuMillis(500), memory: MemoryMib(512), disk: DiskMib(200_000) };
    let busy = MachineSample { load_hundredths: Some(2100), ..idle() };
    let found = Room::of(&busy, &ours, &reserve);
    assert_eq!((found.cpu.0, found.memory.0), (3500, 9488), "our programs wait in the load, too");
    assert_eq!(found.disk, DiskMib(0), "a reserve beyond what there is leaves nothing");
    assert_eq!(Room::of(&busy, &ours, &Reserve::default()).disk, DiskMib(105_000));
}

#[test]
fn what_a_small_machine_shares_by_default_may_be_promised_to_the_last() {
    // What was free at onboarding, in MiB: four fifths are registered, and the node itself takes its part.
    for free in [200, 512, 2048, 10_000] {
        let registered = free * 80 / 100;
        let node = 60;
        for used in [0, registered / 2, registered] {
            let sample = MachineSample {
                cpu: CpuMillis(1000),
                cpu_used: CpuMillis(if used == 0 { 30 } else { 1000 }),
                cpu_own: CpuMillis(if used == 0 { 0 } else { 950 }),
                memory_free: MemoryMib(u64::saturating_sub(free, node + used)),
                memory_own: MemoryMib((node + used).min(free)),
                ..idle()
            };
            let room = Room::of(&sample, &OwnUse::default(), &Reserve::default());
            assert!(room.memory.0 >= registered && room.cpu.0 >= 800, "{free} MiB, {used} used: {room:?}");
        }
    }
}

#[test]
fn the_bound_falls_after_three_samples_and_rises_after_twelve_and_bursts_move_nothing() {
    let of = |memory| Room { memory: MemoryMib(memory), ..Room::UNBOUNDED };
    let mut headroom = Headroom::default();
    let mut note = |memory: u64, times: usize| {
        (0..times).for_each(|_| headroom.note(of(memory)));
        headroom.room().memory.0
    };
    assert_eq!(note(100, 2), u64::MAX, "nothing is bounded before it is known");
    assert_eq!(note(100, 1), 100);
    assert_eq!(note(20, 2), 100, "a burst");
    assert_eq!(note(110, 1), 100);
    assert_eq!(note(60, 1), 100);
    assert_eq!(note(50, 1), 100);
    assert_eq!(note(55, 1), 60, "three in a row: the most of them");
    assert_eq!(note(90, 11), 60, "a pause of the owner's");
    assert_eq!(note(90, 1), 90);
    // Up and down for an hour: it stays where it fell to.
    let mut changes = 0;
    let mut before = 90;
    for step in 0..720 {
        let after = note(if step % 5 < 3 { 40 } else { 200 }, 1);
        changes += usize::from(after != before);
        before = after;
    }
    assert_eq!((changes, before), (1, 40));
}

#[test]
fn a_request_that_fits_the_books_and_not_the_headroom_is_busy_with_the_owners_shortfall() {
    let registered = Capability {
        resources: Resources {
            cpu: CpuMillis(4000),
            memory: MemoryMib(8000),
            disk: DiskMib(9000),
            ..Resources::default()
        },
        ..Capability::default()
    };
    let mut accounts = Accounts::default();
    accounts.register(Some(registered.resources.clone())).unwrap();
    let asker = crate::capability::ledger::Asker { did: did(2), is_me: true, company: None };
    let need = Requirement { cpu: CpuMillis(1000), memory: MemoryMib(1000), ..Requirement::default() };
    let wanted = hold_within(&registered, &accounts, &asker, &need).unwrap();
    let room = |cpu, memory| Room { cpu: CpuMillis(cpu), memory: MemoryMib(memory), ..Room::UNBOUNDED };
    let short = |dimension, needed, had| Shortfall { dimension, needed, had, is_owners: true };
    let table = [
        (Room::UNBOUNDED, vec![]),
        (room(1000, 1000), vec![]),
        (room(4000, 999), vec![short(Dimension::Memory, 1000, 999)]),
        (room(0, 0), vec![short(Dimension::Cpu, 1000, 0), short(Dimension::Memory, 1000, 0)]),
    ];
    for (room, shortfalls) in table {
        let expected = if shortfalls.is_empty() { Ok(()) } else { Err(DeclineReason::Busy { shortfalls }) };
        assert_eq!(room.admit(&accounts, &wanted), expected, "{room:?}");
    }
    let reason = room(4000, 300).admit(&accounts, &wanted).unwrap_err();
    assert_eq!(reason.retry(), dms_messages::Retry::Later);
    let text = "busy: needs 1000 MiB memory, have 300 MiB while the machine's owner uses it";
    assert_eq!(reason.to_string(), text);
    // What is promised comes out of the room; the books' own sums are not touched.
    let before = accounts.clone();
    accounts
        .lock(dms_storage::Lock {
            bid: dms_messages::BidId::from_random([1; 16]),
            request: dms_messages::BidRequestId::from_random([1; 16]),
            requester: did(2),
            job: dms_messages::JobId::from_random([1; 16]),
            pod: 0,
            resources: wanted.clone(),
            expires: Timestamp(1),
        })
        .unwrap();
    assert_eq!(room(4000, 1500).available(&accounts).memory, MemoryMib(500));
    assert_eq!(
        room(4000, 500).available(&accounts).memory,
        MemoryMib(0),
        "below what is promised: nothing new"
    );
    assert_eq!(room(4000, 1500).available(&before).memory, MemoryMib(1500));
    assert_eq!(accounts.available().memory, MemoryMib(7000));
}
