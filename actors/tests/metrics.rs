//! What a recorder of the `metrics` facade hears of actors.

#![cfg(feature = "metrics")]
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::*;
use dms_actors::{Context, Supervision};
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};

/// Sums what is counted and set, and counts what is recorded, by name and label.
#[derive(Clone, Default)]
struct Sums(Arc<Mutex<BTreeMap<String, f64>>>);

struct Sum {
    sums: Sums,
    key: String,
}

impl Sums {
    fn of(&self, key: &Key) -> Arc<Sum> {
        let labels: Vec<_> = key.labels().map(|label| label.value().to_owned()).collect();
        Arc::new(Sum { sums: self.clone(), key: format!("{} {}", key.name(), labels.join(" ")) })
    }

    fn get(&self, name: &str) -> f64 {
        let key = format!("{name} {}", std::any::type_name::<Probe>());
        self.0.lock().unwrap().get(&key).copied().unwrap_or_default()
    }

    fn lost(&self, reason: &str) -> f64 {
        self.0.lock().unwrap().get(&format!("dms_dead_letters_total {reason}")).copied().unwrap_or_default()
    }
}

impl Sum {
    fn change(&self, to: impl FnOnce(f64) -> f64) {
        let mut sums = self.sums.0.lock().unwrap();
        let sum = sums.entry(self.key.clone()).or_default();
        *sum = to(*sum);
    }
}

impl CounterFn for Sum {
    fn increment(&self, value: u64) {
        self.change(|sum| sum + value as f64);
    }

    fn absolute(&self, value: u64) {
        self.change(|_| value as f64);
    }
}

impl GaugeFn for Sum {
    fn increment(&self, value: f64) {
        self.change(|sum| sum + value);
    }

    fn decrement(&self, value: f64) {
        self.change(|sum| sum - value);
    }

    fn set(&self, value: f64) {
        self.change(|_| value);
    }
}

impl HistogramFn for Sum {
    fn record(&self, _: f64) {
        self.change(|sum| sum + 1.0);
    }
}

impl Recorder for Sums {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

// One test: the recorder is the process's.
#[tokio::test]
async fn a_recorder_hears_of_messages_times_depth_restarts_panics_and_losses() {
    let sums = Sums::default();
    metrics::set_global_recorder(sums.clone()).unwrap();
    let system = builder(1).start().unwrap();
    let seen = Seen::default();
    let quick = Supervision { backoff_min: Duration::from_millis(1), ..Supervision::transient() };
    let actor = probe(&system, &seen, quick);
    for n in 0..320 {
        actor.tell(Note(n)).await.unwrap();
    }
    until("all are counted", || sums.get("dms_actor_messages_total") == 320.0).await;
    // All were sent by this thread: one in 64 is timed.
    assert_eq!(sums.get("dms_actor_handle_seconds"), 5.0);
    assert_eq!(sums.get("dms_actor_wait_seconds"), 5.0);
    assert_eq!(sums.get("dms_actor_mailbox_depth"), 0.0);

    actor.tell(Panic).await.unwrap();
    until("it restarts", || seen.count("probe started") == 2).await;
    assert_eq!(sums.get("dms_actor_restarts_total"), 1.0);
    assert_eq!(sums.get("dms_actor_panics_total"), 1.0);
    assert_eq!(sums.lost("panicked"), 1.0);

    // What waits while messages are held is not forgotten.
    let release = hold(&actor).await;
    let (_again, released) = tokio::sync::oneshot::channel::<()>();
    let holds = Do::new(move |_: &mut Probe, ctx: &mut Context<'_, Probe>| {
        ctx.exclusive(released, |_, _, _| {});
    });
    actor.tell(holds).await.unwrap();
    actor.tell(Note(0)).await.unwrap();
    actor.tell(Note(1)).await.unwrap();
    drop(release);
    until("the gauge sees what waits", || sums.get("dms_actor_mailbox_depth") == 2.0).await;
    actor.stop();
    actor.closed().await;
    assert_eq!(sums.lost("actor-ended"), 2.0);
    until("the gauge forgets it", || sums.get("dms_actor_mailbox_depth") == 0.0).await;
    stop(&[&system]).await;
}
