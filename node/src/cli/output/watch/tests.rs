//! Screens of every size, of nodes with nothing and with much.

use dms_actors::Keypair;
use dms_messages::{AllocationId, AttemptId, Capability, JobId, Millis, NodeId, NodeUuid};

use super::*;
use crate::capability::headroom::TimedSample;

fn watched(allocations: usize) -> Watched {
    let did = Keypair::from_secret(&[1; 32]).did();
    let resources = |cpu, memory, disk| Resources {
        cpu: CpuMillis(cpu),
        memory: MemoryMib(memory),
        disk: DiskMib(disk),
        ..Resources::default()
    };
    let metered = |number: usize| MeteredAllocation {
        id: AllocationId::from_random([u8::try_from(number % 250).unwrap() + 1; 16]),
        requester: did,
        attempt: AttemptId { job: JobId::from_random([9; 16]), pod: 0, number: 1 },
        granted: resources(1000, 512, 1024),
        usage: (number % 3 != 2).then_some(AllocationUsage {
            cpu_time: Millis(90_000),
            cpu: CpuMillis(950),
            memory: MemoryMib(300),
            peak_memory: MemoryMib(400),
            disk: DiskMib(3),
            run_time: Millis(100_000),
        }),
    };
    let machine = MachineSample {
        cpu: CpuMillis(8000),
        cpu_used: CpuMillis(3040),
        cpu_own: CpuMillis(960),
        load_hundredths: Some(124),
        memory: MemoryMib(16_000),
        memory_free: MemoryMib(4000),
        memory_own: MemoryMib(700),
        disk: DiskMib(500_000),
        disk_free: DiskMib(100_000),
        temperature: Some(54),
        ..MachineSample::default()
    };
    Watched {
        status: NodeStatus {
            id: NodeId {
                uuid: NodeUuid::from_random([1; 16]),
                cid: dms_messages::ContentId::of_bytes(b"card"),
                peer_id: did.peer_id(),
                did,
            },
            mode: NodeMode::Serving,
            is_private: false,
            is_onboarded: true,
            is_offboarding: false,
            peers: Vec::new(),
            mesh_size: 1,
            unreached_bootstraps: Vec::new(),
            addresses: Vec::new(),
            active_job_count: 2,
            job_count: 2,
            active_allocation_count: allocations,
            lock_count: 0,
            event_count: 5,
            difference_count: 0,
            waiting_messages: 0,
            task_count: 0,
            api_listen: None,
            started: Timestamp(0),
            version: "1".to_owned(),
        },
        capability: CapabilityView {
            registered: Some(Capability {
                resources: resources(6400, 8000, 90_000),
                ..Capability::default()
            }),
            available: resources(5400, 7488, 88_976),
            allocated: resources(1000, 512, 1024),
            ..CapabilityView::default()
        },
        samples: SamplesView {
            period: Some(Millis(5000)),
            is_owner_first: true,
            offered: resources(5400, 7488, 88_976),
            rates: Some(NetworkRates { received: 1_300_000, sent: 900 }),
            allocations: (0..allocations).map(metered).collect(),
            samples: vec![TimedSample { at: Timestamp(3_600_000), machine }],
            ..SamplesView::default()
        },
    }
}

const NOW: Timestamp = Timestamp(3_601_000);

#[test]
fn the_machine_the_books_and_what_runs_are_on_one_screen() {
    let screen = watch(&watched(2), NOW, 100, 40).join("\n");
    for part in [
        "serving, up for 60 min  1970-01-01 01:00:01 UTC",
        "0 peers, 2 jobs, 2 allocations, 0 locks",
        " 38 %  of 8 cores, this node 12 %",
        " 75 %  of 15.6 GiB, this node 700 MiB",
        " 80 %  of 488 GiB",
        "load 1.24   54 °C   net in 1.2 MiB/s, out 900 B/s",
        "allocated   1      512 MiB",
        "0.95/1 ",
        "300 MiB/512 MiB",
        "400 MiB",
        "100 s",
    ] {
        assert!(screen.contains(part), "{part:?} is not in\n{screen}");
    }
    assert!(!screen.contains("owner"));
    let mut bounded = watched(0);
    bounded.samples.offered.memory = MemoryMib(10);
    let screen = watch(&bounded, NOW, 100, 40).join("\n");
    assert!(screen.contains("less is free than the books have: the machine's owner uses it"), "{screen}");
    assert!(screen.contains("nothing runs here"), "{screen}");
}

#[test]
fn no_screen_is_wider_or_higher_than_the_terminal_and_what_is_left_out_is_counted() {
    let others = [watched(0), watched(1), watched(200)];
    for width in [1, 5, 20, 40, 63, 64, 80, 200] {
        for height in [1, 5, 14, 24, 60] {
            for watched in &others {
                let screen = watch(watched, NOW, width, height);
                assert!(screen.len() <= height, "{width} × {height}: {screen:#?}");
                let widest = screen.iter().map(|line| measure_text_width(line)).max().unwrap();
                assert!(widest <= width, "{width} × {height}: {screen:#?}");
            }
        }
    }
    assert_eq!(watch(&others[2], NOW, 80, 10)[9], "… the rest needs more lines");
    let whole = watch(&others[1], NOW, 80, 40);
    assert!(whole.iter().all(|line| !line.contains('…') || line.contains("serving")), "{whole:#?}");
    let screen = watch(&others[2], NOW, 80, 30);
    assert_eq!(screen.len(), 30, "{screen:#?}");
    let shown = screen.iter().filter(|line| line.contains("/512") || line.contains("not started")).count();
    assert_eq!(screen[29], format!("… and {} more (dms alloc ls)", 200 - shown));
}

#[test]
fn a_machine_that_says_nothing_is_said_to() {
    let text = |change: fn(&mut SamplesView)| {
        let mut watched = watched(0);
        change(&mut watched.samples);
        (watch(&watched, NOW, 80, 24).join("\n"), watch_line(&watched, NOW))
    };
    assert!(text(|it| it.period = None).0.contains("the machine is not measured"));
    assert!(text(|it| it.samples.clear()).0.contains("has not said yet"));
    let (screen, line) = text(|it| it.is_stale = true);
    assert!(screen.contains("the machine has said nothing for 1 s"), "{screen}");
    assert!(!line.contains("cpu"), "{line}");
    let (_, line) = text(|_| {});
    assert!(
        line.contains("cpu 38 %, memory 75 %, disk 80 %, load 1.24, 54 °C, 2 jobs, 0 allocations"),
        "{line}"
    );
    assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
}

#[test]
fn amounts_have_three_digits_or_so() {
    let table = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1_300_000, "1.2 MiB"),
        (150 << 20, "150 MiB"),
        (u64::MAX, "1677721 TiB"),
    ];
    for (amount, text) in table {
        assert_eq!(bytes(amount), text);
    }
}
