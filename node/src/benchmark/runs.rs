//! Many short runs, and the one rate that counts of them.
//!
//! Called by every measure of [`super`]. What else the machine does (other programs, interrupts, a neighbour on the same
//! processor) takes time away from some runs and gives it to none, so slow runs say more of the others than of the
//! machine; the very best one is a stroke of luck, and differs from day to day. In between, the median of the best
//! quarter holds still: it needs an eighth of the runs to be undisturbed, and is not moved by a few that were lucky.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{BenchmarkError, StopFlag};

/// Most rates that are kept: the shortest runs, for the longest time that may be set.
const MAX_RATES: usize = 1 << 20;

/// Into how many windows the time of threads that run together is cut.
const WINDOWS: u32 = 40;
/// The shortest of them.
const LEAST_WINDOW: Duration = Duration::from_millis(1);
/// The longest: many runs of each thread.
const LONGEST_WINDOW: Duration = Duration::from_millis(50);

/// How long is measured, and whether still.
#[derive(Debug)]
pub(super) struct Budget<'a> {
    /// Before it nothing counts: clocks rise, caches and branch predictors fill, a disk wakes.
    warm_up: Duration,
    time: Duration,
    stop: &'a StopFlag,
}

impl<'a> Budget<'a> {
    /// A budget of `time`, and a quarter of it for warming up.
    pub(super) fn new(time: Duration, stop: &'a StopFlag) -> Self {
        Self { warm_up: time / 4, time, stop }
    }

    /// Fails once an end is wished.
    pub(super) fn check(&self) -> Result<(), BenchmarkError> {
        if self.stop.is_set() { Err(BenchmarkError::Stopped) } else { Ok(()) }
    }
}

/// One kind of run.
pub(super) trait Run {
    /// Makes ready what the runs work with, before their time begins.
    fn prepare(&mut self) {}

    /// Does it once, and says how much was done.
    fn run(&mut self) -> Result<u64, BenchmarkError>;
}

/// Repeats a run within its budget, once at least, and gives how much is done in a second.
pub(super) fn repeat(budget: &Budget<'_>, run: &mut dyn Run) -> Result<u64, BenchmarkError> {
    run.prepare();
    let begin = Instant::now() + budget.warm_up;
    let end = begin + budget.time;
    let mut rates = Vec::new();
    loop {
        budget.check()?;
        let started = Instant::now();
        if (started >= end && !rates.is_empty()) || rates.len() == MAX_RATES {
            return Ok(steady(rates));
        }
        let amount = run.run()?;
        if started >= begin {
            rates.push(rate(amount, started.elapsed()));
        }
    }
}

/// Repeats runs on a thread each, all at the same time, and gives what they do together in a second: by the clock that
/// all share. The best moments of each added up would be moments in which the others stood still, and count a core, or
/// the way to the memory, that two of them share, twice.
pub(super) fn together<R: Run + Send>(budget: &Budget<'_>, runs: Vec<R>) -> Result<u64, BenchmarkError> {
    let (team, count) = (Team::default(), runs.len());
    thread::scope(|scope| {
        let mut threads = Vec::with_capacity(count);
        for mut run in runs {
            let builder = thread::Builder::new().name("dms-benchmark".into());
            let team = &team;
            match builder.spawn_scoped(scope, move || team.work(&mut run, budget)) {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    team.is_over.store(true, Ordering::Relaxed);
                    return Err(BenchmarkError::Thread(error));
                }
            }
        }
        let rate = if count == 0 { 0 } else { team.watch(budget, count) };
        for thread in threads {
            // A panic of ours is not made less of.
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(rate)
    })
}

/// What threads that run at the same time share.
#[derive(Default)]
struct Team {
    /// How many have prepared.
    ready: AtomicUsize,
    /// What all of them have done.
    done: AtomicU64,
    is_over: AtomicBool,
}

/// However a thread ends, the others do not go on alone.
struct End<'a>(&'a AtomicBool);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Team {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn work(&self, run: &mut dyn Run, budget: &Budget<'_>) -> Result<(), BenchmarkError> {
        let _end = End(&self.is_over);
        run.prepare();
        self.ready.fetch_add(1, Ordering::Relaxed);
        while !self.is_over() {
            budget.check()?;
            self.done.fetch_add(run.run()?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks at what is done, window by window, until the time is over or a thread has ended.
    #[expect(clippy::disallowed_methods, reason = "it rests between two looks at what other threads do")]
    fn watch(&self, budget: &Budget<'_>, count: usize) -> u64 {
        while self.ready.load(Ordering::Relaxed) < count && !self.is_over() {
            thread::sleep(LEAST_WINDOW);
        }
        let window = (budget.time / WINDOWS).clamp(LEAST_WINDOW, LONGEST_WINDOW);
        let begin = Instant::now() + budget.warm_up;
        let end = begin + budget.time;
        let mut rates = Vec::new();
        let (mut before, mut done) = (Instant::now(), self.done.load(Ordering::Relaxed));
        let (started, done_first) = (before, done);
        while !self.is_over() {
            thread::sleep(window);
            let (now, done_now) = (Instant::now(), self.done.load(Ordering::Relaxed));
            if before >= begin {
                rates.push(rate(done_now - done, now - before));
            }
            (before, done) = (now, done_now);
            if now >= end && rates.iter().any(|rate| *rate > 0) {
                self.is_over.store(true, Ordering::Relaxed);
            }
        }
        // On a machine that is so busy that in most windows nothing was done, what was done in all of them.
        steady(rates).max(rate(done - done_first, before - started)).max(1)
    }
}

/// How much is done in a second, by a run that did `amount` in `time`.
fn rate(amount: u64, time: Duration) -> u64 {
    let rate = u128::from(amount) * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

/// The median of the best quarter; 0 of nothing.
fn steady(mut rates: Vec<u64>) -> u64 {
    rates.sort_unstable_by(|a, b| b.cmp(a));
    let best = rates.len().div_ceil(4);
    rates.get(best / 2).or(rates.last()).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts its runs, and fails at one of them.
    struct Counted {
        count: u64,
        fails_at: u64,
    }

    impl Run for Counted {
        fn run(&mut self) -> Result<u64, BenchmarkError> {
            self.count += 1;
            if self.count == self.fails_at { Err(BenchmarkError::Wasm("no".to_owned())) } else { Ok(1) }
        }
    }

    #[test]
    fn the_median_of_the_best_quarter_counts() {
        let table: &[(&[u64], u64)] = &[
            (&[], 0),
            (&[5], 5),
            (&[1, 9], 9),
            (&[4, 3, 2, 1], 4),
            (&[1, 2, 3, 4, 5], 4),
            // Slow runs, however many and however slow, and one stroke of luck change nothing.
            (&[100, 100, 100, 100, 100, 100, 100, 100], 100),
            (&[1, 2, 3, 4, 5, 100, 100, 900], 100),
            (&[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 100, 100, 100, 900], 100),
        ];
        for (rates, expected) in table {
            assert_eq!(steady(rates.to_vec()), *expected, "{rates:?}");
        }
    }

    #[test]
    fn rates_are_whole_and_never_divide_by_nothing() {
        let table = [
            (1, Duration::from_secs(1), 1),
            (256, Duration::from_millis(1), 256_000),
            (7, Duration::ZERO, 7_000_000_000),
            (0, Duration::from_secs(1), 0),
            (u64::MAX, Duration::from_nanos(1), u64::MAX),
        ];
        for (amount, time, expected) in table {
            assert_eq!(rate(amount, time), expected);
        }
    }

    #[test]
    fn without_any_time_there_is_one_run_and_a_failure_ends_them() {
        let stop = StopFlag::default();
        let budget = Budget::new(Duration::ZERO, &stop);
        let mut run = Counted { count: 0, fails_at: 0 };
        assert!(repeat(&budget, &mut run).unwrap() > 0);
        assert!(run.count >= 1);
        let failed = repeat(&budget, &mut Counted { count: 0, fails_at: 1 });
        assert!(matches!(failed, Err(BenchmarkError::Wasm(_))));
        stop.set();
        let stopped = repeat(&budget, &mut Counted { count: 0, fails_at: 0 });
        assert!(matches!(stopped, Err(BenchmarkError::Stopped)));
    }

    /// Does one at a time with all the others of its kind, however many threads there are.
    struct Shared<'a>(&'a std::sync::Mutex<()>);

    impl Run for Shared<'_> {
        fn run(&mut self) -> Result<u64, BenchmarkError> {
            let _turn = self.0.lock().unwrap();
            let started = Instant::now();
            while started.elapsed() < Duration::from_micros(100) {}
            Ok(1)
        }
    }

    #[test]
    fn what_threads_share_is_not_counted_twice() {
        let stop = StopFlag::default();
        let budget = Budget::new(Duration::from_millis(40), &stop);
        let turn = std::sync::Mutex::new(());
        let rate = together(&budget, (0..4).map(|_| Shared(&turn)).collect()).unwrap();
        // 100 us each: 10,000 a second, and in a window of a millisecond up to two more that end in it; not 40,000.
        assert!((1..=20_000).contains(&rate), "{rate}");
    }

    #[test]
    fn threads_add_up_and_one_that_fails_fails_all() {
        let stop = StopFlag::default();
        let budget = Budget::new(Duration::from_millis(2), &stop);
        let runs = |fails_at| (0..3).map(|_| Counted { count: 0, fails_at }).collect::<Vec<_>>();
        assert!(together(&budget, runs(0)).unwrap() > 0);
        assert!(matches!(together(&budget, runs(2)), Err(BenchmarkError::Wasm(_))));
        assert_eq!(together(&budget, Vec::<Counted>::new()).unwrap(), 0);
    }
}
