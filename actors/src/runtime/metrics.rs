//! What is counted and timed of actors, for whichever recorder the application gives the `metrics` facade
//! (feature `metrics`; without it nothing of this is compiled).
//!
//! Their names are documented in [the runtime's own documentation](super).

#[cfg(feature = "metrics")]
pub(crate) use on::{Meter, Sent, dead_letter};

#[cfg(not(feature = "metrics"))]
pub(crate) use off::{Meter, Sent, dead_letter};

#[cfg(feature = "metrics")]
mod on {
    use std::cell::Cell;
    use std::time::Instant;

    use ::metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

    use super::super::{Actor, DeadLetterReason};

    /// One message in so many is timed: three looks at the clock cost as much as a message, and shared among so many
    /// they disappear.
    const SAMPLE: u32 = 64;

    thread_local! {
        static SENT: Cell<u32> = const { Cell::new(0) };
    }

    /// When a message that is to be timed was sent.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Sent(Instant);

    impl Sent {
        /// Now, if the message sent now is one of those that are timed.
        pub(crate) fn sample() -> Option<Self> {
            let sent = SENT.get().wrapping_add(1);
            SENT.set(sent);
            sent.is_multiple_of(SAMPLE).then(|| Self(Instant::now()))
        }
    }

    /// When a handler began, if it is timed.
    pub(crate) type Timing = Option<Instant>;

    /// The handles of one actor.
    pub(crate) struct Meter {
        messages: Counter,
        handle: Histogram,
        wait: Histogram,
        depth: Gauge,
        restarts: Counter,
        panics: Counter,
        /// Handled and not yet counted.
        handled: u32,
        /// The depth that the gauge knows of.
        known_depth: usize,
    }

    impl Meter {
        pub(crate) fn of<A: Actor>() -> Self {
            let actor = std::any::type_name::<A>();
            Self {
                messages: counter!("dms_actor_messages_total", "actor" => actor),
                handle: histogram!("dms_actor_handle_seconds", "actor" => actor),
                wait: histogram!("dms_actor_wait_seconds", "actor" => actor),
                depth: gauge!("dms_actor_mailbox_depth", "actor" => actor),
                restarts: counter!("dms_actor_restarts_total", "actor" => actor),
                panics: counter!("dms_actor_panics_total", "actor" => actor),
                handled: 0,
                known_depth: 0,
            }
        }

        /// A message is going to be handled, with so many behind it.
        pub(crate) fn begin(&mut self, sent: Option<Sent>, depth: impl FnOnce() -> usize) -> Timing {
            self.handled += 1;
            let Sent(sent) = sent?;
            self.report(depth());
            let begun = Instant::now();
            self.wait.record(begun.saturating_duration_since(sent));
            Some(begun)
        }

        /// The handler of that message has returned.
        pub(crate) fn end(&self, timing: Timing) {
            if let Some(begun) = timing {
                self.handle.record(begun.elapsed());
            }
        }

        /// There is nothing to do, with so many messages waiting.
        pub(crate) fn idle(&mut self, depth: impl FnOnce() -> usize) {
            let depth = depth();
            if self.handled > 0 || self.known_depth != depth {
                self.report(depth);
            }
        }

        pub(crate) fn restarted(&self) {
            self.restarts.increment(1);
        }

        pub(crate) fn panicked(&self) {
            self.panics.increment(1);
        }

        fn report(&mut self, depth: usize) {
            self.messages.increment(u64::from(std::mem::take(&mut self.handled)));
            #[expect(clippy::cast_precision_loss, reason = "no mailbox holds 2^53 messages")]
            self.depth.increment(depth as f64 - self.known_depth as f64);
            self.known_depth = depth;
        }
    }

    impl Drop for Meter {
        fn drop(&mut self) {
            self.idle(|| 0);
        }
    }

    /// A message was lost.
    pub(crate) fn dead_letter(reason: &DeadLetterReason) {
        counter!("dms_dead_letters_total", "reason" => reason.name()).increment(1);
    }
}

#[cfg(not(feature = "metrics"))]
mod off {
    use super::super::{Actor, DeadLetterReason};

    /// Never made.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Sent {}

    impl Sent {
        pub(crate) fn sample() -> Option<Self> {
            None
        }
    }

    pub(crate) struct Timing;

    pub(crate) struct Meter;

    impl Meter {
        #[expect(clippy::extra_unused_type_parameters, reason = "as with the feature")]
        pub(crate) fn of<A: Actor>() -> Self {
            Self
        }

        pub(crate) fn begin(&mut self, _: Option<Sent>, _: impl FnOnce() -> usize) -> Timing {
            Timing
        }

        pub(crate) fn end(&self, _: Timing) {}

        pub(crate) fn idle(&mut self, _: impl FnOnce() -> usize) {}

        pub(crate) fn restarted(&self) {}

        pub(crate) fn panicked(&self) {}
    }

    pub(crate) fn dead_letter(_: &DeadLetterReason) {}
}
