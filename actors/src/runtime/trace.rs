//! Which work a message belongs to: W3C trace context, carried from handler to handler and over links.
//!
//! What it means to users is said in [the runtime's documentation](super). Where nobody listens to the spans, a
//! context that arrives is passed on as it is, and messages without one cost one relaxed load.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::Span;

use crate::Did;
use crate::clock::Clock;

/// The length of a version 00 `traceparent`.
const TEXT_LENGTH: usize = 55;

/// Whether any context was ever entered in this process; as long as none was, no thread has to look.
static IN_USE: AtomicBool = AtomicBool::new(false);

thread_local! {
    static CURRENT: Cell<Option<TraceContext>> = const { Cell::new(None) };
}

/// A place in a distributed trace, as W3C Trace Context defines it. Its text is the `traceparent` header.
///
/// ```
/// use dms_actors::TraceContext;
///
/// # async fn example() {
/// // At the border, where a request comes in with its header:
/// let header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace: TraceContext = header.parse().unwrap();
/// assert_eq!(trace.to_string(), header);
/// trace.scope(async {
///     // Messages sent here, and what their handlers send, belong to the request's trace.
///     assert_eq!(TraceContext::current(), Some(trace));
/// }).await;
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceContext {
    /// The whole trace; not all zero.
    pub trace_id: [u8; 16],
    /// The span that the holder of this context works in; not all zero.
    pub span_id: [u8; 8],
    /// Bit 0: the trace is recorded by who began it.
    pub flags: u8,
}

/// Why a text is no `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent")]
pub struct TraceError;

impl TraceContext {
    /// The flag of a trace that is recorded.
    pub const SAMPLED: u8 = 1;

    /// The beginning of a new trace.
    pub fn root(clock: &dyn Clock) -> Self {
        Self { trace_id: clock.random(), span_id: span_id(clock), flags: Self::SAMPLED }
    }

    /// A span below this one, in the same trace.
    #[must_use]
    pub fn child(&self, clock: &dyn Clock) -> Self {
        Self { span_id: span_id(clock), ..*self }
    }

    /// The context of the handler, piped future or [scope](Self::scope) that runs on this thread now.
    pub fn current() -> Option<Self> {
        if IN_USE.load(Ordering::Relaxed) { CURRENT.get() } else { None }
    }

    /// Runs `future` in this context: what is sent while it is polled carries it.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        let mut future = pin!(future);
        std::future::poll_fn(|cx| {
            let _entered = self.enter();
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Makes it the thread's current context until the guard is dropped.
    pub(crate) fn enter(self) -> Entered {
        IN_USE.store(true, Ordering::Relaxed);
        Entered { before: CURRENT.replace(Some(self)) }
    }
}

/// Leaves whatever context is current until the guard is dropped.
pub(crate) fn leave() -> Option<Entered> {
    IN_USE.load(Ordering::Relaxed).then(|| Entered { before: CURRENT.take() })
}

fn span_id(clock: &dyn Clock) -> [u8; 8] {
    let random = clock.random();
    std::array::from_fn(|at| random[at])
}

/// Restores the context that was current before.
#[must_use = "it is current until this is dropped"]
pub(crate) struct Entered {
    before: Option<TraceContext>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before);
    }
}

/// Whether somebody listens to the spans of messages.
pub(crate) fn is_enabled() -> bool {
    tracing::span_enabled!(target: "dms_actors::message", tracing::Level::DEBUG)
}

/// The span of one handling of a message: `context` is its own, `parent` its sender's.
pub(crate) fn message_span(
    actor: &'static str,
    message: &'static str,
    sender: Option<&Did>,
    context: &TraceContext,
    parent: Option<&TraceContext>,
) -> Span {
    tracing::debug_span!(
        target: "dms_actors::message",
        parent: None,
        "message",
        actor,
        message,
        sender = sender.map(tracing::field::display),
        trace_id = %Hex(&context.trace_id),
        span_id = %Hex(&context.span_id),
        parent_span_id = parent.map(|parent| tracing::field::display(Hex(&parent.span_id))),
    )
}

/// Lower-case hexadecimal digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", Hex(&self.trace_id), Hex(&self.span_id), self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = TraceError;

    /// Reads version 00, and of later versions the part that is laid out alike, as the standard asks.
    fn from_str(text: &str) -> Result<Self, TraceError> {
        let bytes = text.as_bytes();
        let (version, rest) = bytes.split_at_checked(2).ok_or(TraceError)?;
        let [version] = hex(version)?;
        let has_length = match version {
            0 => bytes.len() == TEXT_LENGTH,
            0xff => false,
            _ => bytes.len() == TEXT_LENGTH || bytes.get(TEXT_LENGTH) == Some(&b'-'),
        };
        let rest = rest.get(..TEXT_LENGTH - 2).filter(|_| has_length).ok_or(TraceError)?;
        let is_divided = [0, 33, 50].into_iter().all(|at| rest[at] == b'-');
        let trace_id = hex(&rest[1..33])?;
        let span_id = hex(&rest[34..50])?;
        let [flags] = hex(&rest[51..])?;
        if !is_divided || trace_id == [0; 16] || span_id == [0; 8] {
            return Err(TraceError);
        }
        Ok(Self { trace_id, span_id, flags })
    }
}

/// Reads exactly `2 * N` lower-case hexadecimal digits.
fn hex<const N: usize>(digits: &[u8]) -> Result<[u8; N], TraceError> {
    let digit = |at: usize| match digits.get(at) {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        _ => Err(TraceError),
    };
    let mut bytes = [0; N];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = digit(2 * at)? << 4 | digit(2 * at + 1)?;
    }
    if digits.len() == 2 * N { Ok(bytes) } else { Err(TraceError) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_traceparent_is_read_and_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let context: TraceContext = text.parse().unwrap();
        assert_eq!((context.trace_id[0], context.span_id[7], context.flags), (0x4b, 0xb7, 1));
        assert_eq!(context.to_string(), text);
        // A later version may go on after the part that is known.
        let later = text.replacen("00", "01", 1) + "-what-comes";
        assert_eq!(later.parse(), Ok(context));
    }

    #[test]
    fn anything_else_is_refused() {
        let table = [
            "",
            "é",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
        ];
        for text in table {
            assert_eq!(text.parse::<TraceContext>(), Err(TraceError), "{text}");
        }
    }

    #[test]
    fn a_child_stays_in_the_trace_and_a_guard_restores_what_was() {
        let clock = SystemClock::shared();
        let root = TraceContext::root(&*clock);
        let child = root.child(&*clock);
        assert_eq!(root.trace_id, child.trace_id);
        assert_ne!(root.span_id, child.span_id);
        let outer = root.enter();
        {
            let _inner = child.enter();
            assert_eq!(TraceContext::current(), Some(child));
        }
        assert_eq!(TraceContext::current(), Some(root));
        drop(outer);
        assert_eq!(TraceContext::current(), None);
    }
}
