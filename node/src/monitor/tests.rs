//! Samples that come, fail, come late or not at all.

use super::*;

const PERIOD: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct NoMeter;

impl HostMeter for NoMeter {
    fn sample(&self) -> Result<MachineSample, MeterError> {
        Err(MeterError("there is no machine".to_owned()))
    }
}

fn monitoring() -> Monitoring {
    Monitoring { meter: Arc::new(NoMeter), period: PERIOD, is_owner_first: true, reserve: Reserve::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn sample(memory_free: u64) -> Result<MachineSample, MeterError> {
    let cpu = CpuMillis(1000);
    Ok(MachineSample { cpu, memory_free: MemoryMib(memory_free), ..MachineSample::default() })
}

/// Takes a sample at `at` that is there after `taken`.
fn take(monitor: &mut Monitor, at: u64, taken: u64, sample: Result<MachineSample, MeterError>) {
    assert!(monitor.begin(seconds(at)));
    let ended = at + taken;
    monitor.end(sample, &monitoring(), (Timestamp(ended * 1000), seconds(ended)));
}

fn memory(monitor: &Monitor, at: u64) -> Option<u64> {
    RoomView::from(monitor.room(Some(&monitoring()), seconds(at))).memory.map(|memory| memory.0)
}

#[test]
fn samples_bound_what_is_promised_until_they_are_three_periods_old() {
    let mut monitor = Monitor::default();
    assert_eq!(memory(&monitor, 0), None, "nothing is known");
    for at in [5, 10, 15] {
        take(&mut monitor, at, 0, sample(100));
    }
    assert_eq!(memory(&monitor, 15), Some(100));
    assert_eq!(memory(&monitor, 30), Some(100));
    assert_eq!(memory(&monitor, 31), None, "of another time");
    assert!(monitor.is_blind(Some(&monitoring()), seconds(31)));
    // After the gap it begins anew: one sample says nothing yet.
    take(&mut monitor, 60, 0, sample(50));
    assert_eq!(memory(&monitor, 60), None);
    take(&mut monitor, 65, 0, sample(50));
    take(&mut monitor, 70, 0, sample(50));
    assert_eq!(memory(&monitor, 70), Some(50));
    let off = Monitoring { is_owner_first: false, ..monitoring() };
    assert_eq!(monitor.room(Some(&off), seconds(70)), Room::UNBOUNDED);
    assert_eq!(monitor.room(None, seconds(70)), Room::UNBOUNDED);
}

#[test]
fn a_meter_that_fails_or_is_late_bounds_nothing_for_long_and_one_that_hangs_is_asked_once() {
    let mut monitor = Monitor::default();
    for at in [5, 10, 15] {
        take(&mut monitor, at, 0, sample(0));
    }
    assert_eq!(memory(&monitor, 15), Some(0), "no bids");
    // It fails from now on.
    for at in [20, 25, 30, 35] {
        take(&mut monitor, at, 0, Err(MeterError("gone".to_owned())));
    }
    assert_eq!(memory(&monitor, 35), None, "not for ever");
    assert_eq!(monitor.newest(10).len(), 3, "what failed is no sample");
    // It comes, and each time twenty seconds late.
    for at in [40, 60, 80] {
        take(&mut monitor, at, 20, sample(0));
    }
    assert_eq!(memory(&monitor, 100), None, "of another time when it comes");
    assert_eq!(monitor.newest(10).len(), 3);
    // It hangs.
    assert!(monitor.begin(seconds(100)));
    for at in 101..200 {
        assert!(!monitor.begin(seconds(at)), "one thread is lost, no more");
        assert_eq!(memory(&monitor, at), None);
    }
}

#[test]
fn an_allocation_is_measured_while_it_lives_over_all_of_its_programs() {
    let allocation = AllocationId::from_random([1; 16]);
    let mut monitor = Monitor::default();
    assert_eq!(monitor.usage(allocation, seconds(1)), None);
    let gauges: [Arc<Gauge>; 2] = Default::default();
    gauges.iter().for_each(|gauge| monitor.attach(allocation, Arc::clone(gauge), seconds(10)));
    for gauge in &gauges {
        gauge.add_cpu(seconds(2));
        gauge.set_memory(10 << 20);
        gauge.set_memory(1);
        gauge.set_disk(3 << 20);
    }
    take(&mut monitor, 15, 0, sample(100));
    let usage = monitor.usage(allocation, seconds(20)).unwrap();
    let expected = AllocationUsage {
        cpu_time: Millis(4000),
        cpu: CpuMillis(800),
        memory: MemoryMib(1),
        peak_memory: MemoryMib(20),
        disk: DiskMib(6),
        run_time: Millis(10_000),
    };
    assert_eq!(usage, expected);
    take(&mut monitor, 20, 0, sample(100));
    assert_eq!(monitor.usage(allocation, seconds(20)).unwrap().cpu, CpuMillis(0), "it waits");
    (0..2 * MAX_GAUGES).for_each(|_| monitor.attach(allocation, Arc::default(), seconds(20)));
    assert_eq!(monitor.programs[&allocation].gauges.len(), MAX_GAUGES);
    monitor.detach(allocation);
    assert_eq!(monitor.usage(allocation, seconds(21)), None);
}

#[test]
fn rates_are_per_second_and_a_count_that_began_anew_is_none() {
    let at = |at: u64, received_bytes: u64, sent_bytes: u64| TimedSample {
        at: Timestamp(at),
        machine: MachineSample { received_bytes, sent_bytes, ..MachineSample::default() },
    };
    let rates = NetworkRates::between(&at(6000, 6000, 10), &at(1000, 1000, 500));
    assert_eq!(rates, Some(NetworkRates { received: 1000, sent: 0 }));
    assert_eq!(NetworkRates::between(&at(1000, 1, 1), &at(1000, 0, 0)), None);
}
