//! Holds a guest to its CPU share by pausing it between two polls.
//!
//! [`super::Run`] wraps the guest's whole future in it. The guest's own sleeping and waiting are not
//! charged, only the time it keeps its thread busy; a thread the system preempts is charged as if it ran.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::EPOCH;
use crate::executors::Gauge;

/// A whole core in thousandths; a guest has one thread and can never use more.
const WHOLE_CORE_MILLIS: u64 = 1000;

/// Drives `guest` so that it is busy for at most `cpu_millis` thousandths of the time. A share of 0 is
/// taken as 1: it was granted something, or it would not run. The gauge is told how long it was busy.
pub(super) async fn throttled<F: Future>(cpu_millis: u64, gauge: &Gauge, guest: F) -> F::Output {
    let mut guest = pin!(guest);
    let share = cpu_millis.clamp(1, WHOLE_CORE_MILLIS);
    let mut busy = Duration::ZERO;
    loop {
        let ended = poll_fn(|context| {
            let since = Instant::now();
            let poll = guest.as_mut().poll(context);
            let spent = since.elapsed();
            busy += spent;
            gauge.add_cpu(spent);
            match poll {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if share < WHOLE_CORE_MILLIS && busy >= EPOCH => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
        match ended {
            Some(output) => return output,
            None => tokio::time::sleep(pause(busy, share)).await,
        }
        busy = Duration::ZERO;
    }
}

/// How long a guest with this share rests after it was busy.
fn pause(busy: Duration, share: u64) -> Duration {
    let nanos = busy.as_nanos() * u128::from(WHOLE_CORE_MILLIS - share) / u128::from(share);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_follows_the_share() {
        let busy = Duration::from_millis(10);
        for (share, expected) in [(1000, 0), (500, 10), (250, 30), (100, 90), (1, 9_990)] {
            assert_eq!(pause(busy, share), Duration::from_millis(expected), "share {share}");
        }
    }

    /// A future that keeps its thread busy for `slices` times one epoch, yielding in between.
    async fn busy(slices: u32) {
        for _ in 0..slices {
            let since = Instant::now();
            while since.elapsed() < EPOCH {
                std::hint::spin_loop();
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_quarter_of_a_core_takes_four_times_as_long() {
        let since = Instant::now();
        let gauge = Gauge::default();
        throttled(250, &gauge, busy(10)).await;
        assert!(since.elapsed() >= Duration::from_millis(390), "{:?}", since.elapsed());
        let busy = gauge.read().cpu;
        assert!(busy >= Duration::from_millis(99) && busy <= since.elapsed(), "{busy:?}");
    }

    #[tokio::test]
    async fn waiting_is_not_charged() {
        let since = Instant::now();
        throttled(1, &Gauge::default(), tokio::time::sleep(Duration::from_millis(200))).await;
        // Charged, it would be 200 s.
        assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    }
}
