//! Messages for a running program: a bounded inbox with two ends, one for the Allocation actor and one for the guest.
//!
//! ```text
//!   Letterbox::deliver ──► at most 64 messages, 1 MiB ──► Inbox::next ──► the program
//!          │ full, deaf, not yet, over: a typed refusal         │ Message::reply
//!          └─────────────────────◄ Asked ◄──────────────────────┘
//! ```
//!
//! The node never waits for a guest: what does not fit is refused at once. An executor that gives its guest no way to
//! read messages drops the [`Inbox`], and whoever sends learns that nobody listens.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dms_messages::{AllocationRefusal, MessageContent};
use tokio::sync::{Notify, oneshot};

/// Messages that wait in one inbox: a burst, while the program does something else. A program that needs more reads
/// faster, or its senders wait for its replies.
pub const INBOX_MESSAGES: usize = 64;
/// Bytes that wait in one inbox, over all its messages: what a live allocation may cost the node beside its grant.
pub const INBOX_BYTES: usize = 1 << 20;

/// Comes when the program replies; ends without a word if it never will.
pub type Asked = oneshot::Receiver<MessageContent>;

/// Whether anybody listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ear {
    /// The guest is being prepared.
    NotYet,
    /// The guest takes messages.
    Open,
    /// It never will.
    Deaf,
    /// It did, and has ended.
    Gone,
}

#[derive(Debug)]
struct State {
    ear: Ear,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    delivered: u64,
}

/// What both ends hold. A lock, because the actor and the guest's thread share it; held for one look or one change.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Told once for each message; the guest is the only one that waits.
    arrived: Notify,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic is done under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message that the guest has taken.
#[derive(Debug)]
pub struct Message {
    /// What is said.
    pub content: MessageContent,
    reply: Option<oneshot::Sender<MessageContent>>,
}

impl Message {
    /// True if somebody still waits for a reply to it.
    pub fn is_reply_wanted(&self) -> bool {
        self.reply.as_ref().is_some_and(|reply| !reply.is_closed())
    }

    /// Replies to it, once; false if nobody waits for that, or not any more.
    pub fn reply(&mut self, content: MessageContent) -> bool {
        self.reply.take().is_some_and(|reply| reply.send(content).is_ok())
    }
}

/// Makes the two ends of an inbox.
pub fn inbox() -> (Letterbox, Inbox) {
    let state = State { ear: Ear::NotYet, waiting: VecDeque::new(), waiting_bytes: 0, delivered: 0 };
    let shared = Arc::new(Shared { state: Mutex::new(state), arrived: Notify::new() });
    (Letterbox(Arc::clone(&shared)), Inbox(Arc::new(GuestEnd(shared))))
}

/// The node's end.
#[derive(Debug)]
pub struct Letterbox(Arc<Shared>);

impl Letterbox {
    /// Puts a message in; with `wants_reply`, gives what its reply comes by.
    ///
    /// # Errors
    /// [`AllocationRefusal`] if nobody listens (`NotStarted`, `NotListening`, `Ended`), or there is no room.
    pub fn deliver(
        &self,
        content: MessageContent,
        wants_reply: bool,
    ) -> Result<Option<Asked>, AllocationRefusal> {
        let mut state = self.0.lock();
        match state.ear {
            Ear::NotYet => return Err(AllocationRefusal::NotStarted),
            Ear::Deaf => return Err(AllocationRefusal::NotListening),
            Ear::Gone => return Err(AllocationRefusal::Ended),
            Ear::Open => {}
        }
        let bytes = state.waiting_bytes + content.length();
        if state.waiting.len() >= INBOX_MESSAGES || bytes > INBOX_BYTES {
            return Err(AllocationRefusal::InboxFull);
        }
        let (reply, asked) = wants_reply.then(oneshot::channel).unzip();
        state.waiting.push_back(Message { content, reply });
        state.waiting_bytes = bytes;
        state.delivered += 1;
        drop(state);
        self.0.arrived.notify_one();
        Ok(asked)
    }

    /// How many messages were put in, and how many of them wait.
    pub fn counts(&self) -> (u64, u64) {
        let state = self.0.lock();
        (state.delivered, state.waiting.len() as u64)
    }
}

/// The guest's end: when its last clone goes, nobody listens any more, and what waits is dropped.
#[derive(Clone)]
pub struct Inbox(Arc<GuestEnd>);

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

struct GuestEnd(Arc<Shared>);

impl Drop for GuestEnd {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ear = if state.ear == Ear::Open { Ear::Gone } else { Ear::Deaf };
        state.waiting_bytes = 0;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // Outside of the lock: whoever waits for a reply is woken by it.
        drop(waiting);
    }
}

impl Inbox {
    /// Takes messages from now on.
    pub fn open(&self) {
        let mut state = self.0.0.lock();
        if state.ear == Ear::NotYet {
            state.ear = Ear::Open;
        }
    }

    /// Takes none, ever: the guest cannot read them.
    pub fn close(&self) {
        let mut state = self.0.0.lock();
        if state.ear == Ear::NotYet {
            state.ear = Ear::Deaf;
        }
    }

    /// The oldest message, at once.
    pub fn try_next(&self) -> Option<Message> {
        let mut state = self.0.0.lock();
        let message = state.waiting.pop_front()?;
        state.waiting_bytes -= message.content.length();
        Some(message)
    }

    /// The oldest message, when there is one. Nothing is lost if the future is dropped.
    pub async fn next(&self) -> Message {
        loop {
            if let Some(message) = self.try_next() {
                return message;
            }
            // One that came in between has left its notice.
            self.0.0.arrived.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: usize) -> MessageContent {
        MessageContent::new("x", vec![7; length]).unwrap()
    }

    #[test]
    fn who_listens_decides_what_a_sender_is_told() {
        let (letterbox, inbox) = inbox();
        let told = |letterbox: &Letterbox| letterbox.deliver(content(1), false).map(|_| ());
        assert_eq!(told(&letterbox), Err(AllocationRefusal::NotStarted));
        inbox.open();
        assert_eq!(told(&letterbox), Ok(()));
        let second = inbox.clone();
        drop(inbox);
        assert_eq!(told(&letterbox), Ok(()), "one end is still held");
        drop(second);
        assert_eq!(told(&letterbox), Err(AllocationRefusal::Ended));
        assert_eq!(letterbox.counts(), (2, 0), "what waited is dropped");

        let (letterbox, inbox) = super::inbox();
        inbox.close();
        inbox.open();
        assert_eq!(told(&letterbox), Err(AllocationRefusal::NotListening), "what is deaf stays so");
        let (letterbox, inbox) = super::inbox();
        drop(inbox);
        assert_eq!(told(&letterbox), Err(AllocationRefusal::NotListening), "an executor without messages");
    }

    #[test]
    fn an_inbox_is_bounded_in_messages_and_in_bytes_and_takes_more_once_it_is_read() {
        for (length, most) in [(0, INBOX_MESSAGES), (64 * 1024, INBOX_BYTES / (64 * 1024) - 1)] {
            let (letterbox, inbox) = inbox();
            inbox.open();
            for _ in 0..most {
                assert!(letterbox.deliver(content(length), false).is_ok(), "{length}");
            }
            for _ in 0..1000 {
                let refused = letterbox.deliver(content(length), true);
                assert_eq!(refused.unwrap_err(), AllocationRefusal::InboxFull);
            }
            assert_eq!(letterbox.counts(), (most as u64, most as u64));
            assert!(inbox.try_next().is_some());
            assert!(letterbox.deliver(content(length), false).is_ok());
            assert!(letterbox.deliver(content(length), false).is_err());
            assert_eq!(std::iter::from_fn(|| inbox.try_next()).count(), most);
        }
    }

    #[tokio::test]
    async fn a_reply_comes_once_and_its_end_is_heard_when_it_never_will() {
        let (letterbox, inbox) = inbox();
        inbox.open();
        let asked = letterbox.deliver(content(1), true).unwrap().unwrap();
        let mut message = inbox.next().await;
        assert!(message.is_reply_wanted());
        assert!(message.reply(content(2)));
        assert!(!message.reply(content(3)) && !message.is_reply_wanted());
        assert_eq!(asked.await, Ok(content(2)));

        let read = letterbox.deliver(content(1), true).unwrap().unwrap();
        let waiting = letterbox.deliver(content(1), true).unwrap().unwrap();
        drop(inbox.next().await);
        assert!(read.await.is_err(), "the guest went on");
        drop(inbox);
        assert!(waiting.await.is_err(), "the guest ended");
    }

    #[tokio::test]
    async fn whoever_waits_gets_what_came_before_and_what_comes_after() {
        let (letterbox, inbox) = inbox();
        inbox.open();
        letterbox.deliver(content(1), false).unwrap();
        letterbox.deliver(content(2), false).unwrap();
        assert_eq!(inbox.next().await.content, content(1));
        assert_eq!(inbox.next().await.content, content(2));
        let (next, ()) = tokio::join!(inbox.next(), async {
            letterbox.deliver(content(3), false).unwrap();
        });
        assert_eq!(next.content, content(3));
    }
}
