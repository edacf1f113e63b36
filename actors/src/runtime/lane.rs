//! The inside of a mailbox: letters up to a bound, a slot for one command, and who waits at either end.
//!
//! One lock guards what senders do, so that the bound holds for all of them and nothing can slip between a
//! command and the letters behind it. It is held for a few moves only: whoever is to be woken is woken, and
//! whatever is to be dropped is dropped, after it is released. The actor takes all letters out in one go, into
//! its [`Hand`], and needs the lock again only when its hand is empty or there is news; a letter keeps its place
//! until it leaves the hand, so the bound counts both.
//!
//! A place that becomes free while senders wait is promised to the first of them and counts as taken from
//! then on; nobody can overtake.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use super::letter::Envelope;
use super::{Actor, ExitReason, Overflow, SendFailure, lock};

/// Places that an empty lane keeps allocated at most: the memory of a deep burst is given back, and waves of
/// fewer letters allocate nothing but themselves.
const IDLE_PLACES: usize = 128;
/// Letters for which it pays to take them out in one go.
const HANDFUL: usize = 2;

/// A command; handled before every message. One slot is enough: a stop outdoes
/// all others, and of what a group says to its member only the last counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Command {
    /// End for this reason, whatever the supervision says.
    Stop(ExitReason),
    /// To a member of a group: start, in the group's turn of this number.
    Start(u32),
    /// To a member of a group: end this state, children first, and wait for the next start.
    Pause(u32),
}

/// A letter of an actor of type `A`, its message's type forgotten.
pub(crate) type Sealed<A> = Box<dyn Envelope<A>>;

/// What the actor finds in its lane.
pub(crate) enum Arrival<A: Actor> {
    Command(Command),
    Letter(Sealed<A>),
}

/// The number of a sender that waits for a place; smaller ones came earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// Letters that an actor has taken out of its lane and has not begun with.
pub(crate) struct Hand<A: Actor>(VecDeque<Sealed<A>>);

impl<A: Actor> Hand<A> {
    pub(crate) fn new() -> Self {
        Self(VecDeque::new())
    }

    /// The letters, of an actor that takes no more.
    pub(crate) fn empty(&mut self) -> VecDeque<Sealed<A>> {
        std::mem::take(&mut self.0)
    }
}

/// The queue of one actor: what senders write.
pub(crate) struct Lane<A: Actor>(Mutex<State<A>>);

/// What the actor reads and writes for each letter. It is to lie away from its [`Lane`]: on one cache line with
/// it, each would wait for the other's core.
#[derive(Default)]
pub(crate) struct Pace {
    /// There is a command, or senders wait for a place: the actor should look before it goes on. Written
    /// under the lane's lock; the actor may see it one letter late, but never misses it when its hand is empty.
    has_news: AtomicBool,
    /// How many letters have left the lane and the hand. Written by the actor, and by senders (under the lock)
    /// only if they displace letters, in which case the actor takes them under the lock as well.
    done: AtomicUsize,
}

impl Pace {
    /// The oldest letter has left.
    fn leaves(&self) {
        self.done.store(self.done.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// Senders that wait for a place, in their order.
#[derive(Default)]
struct Waiting {
    senders: BTreeMap<Ticket, Waker>,
    next_ticket: u64,
}

struct State<A: Actor> {
    letters: VecDeque<Sealed<A>>,
    /// How many places were ever taken. Those of [`Pace::done`] are free again.
    begun: usize,
    /// [`Pace::done`] when somebody last had to look.
    known_done: usize,
    /// Senders without a place. While there are any, there is no room for others. Made when it is needed, like
    /// the command, since most mailboxes never do and every byte here is one per actor.
    waiting: Option<Box<Waiting>>,
    command: Option<Box<Command>>,
    /// The actor, while it has nothing to do.
    receiver: Option<Waker>,
    /// Whether a letter is something to do, or only a command.
    wants_letters: bool,
    is_closed: bool,
}

/// Senders that have a place now: mostly none, else mostly one.
type Woken = Option<(Waker, Vec<Waker>)>;

/// To be called when the lock is released.
fn wake(woken: Woken) {
    if let Some((first, others)) = woken {
        first.wake();
        others.into_iter().for_each(Waker::wake);
    }
}

impl<A: Actor> State<A> {
    fn has_waiting(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| !waiting.senders.is_empty())
    }

    /// How many places are taken.
    fn taken(&mut self, pace: &Pace) -> usize {
        self.known_done = pace.done.load(Ordering::Relaxed);
        self.begun.wrapping_sub(self.known_done)
    }

    fn has_room(&mut self, pace: &Pace, capacity: usize) -> bool {
        let seems_free = self.begun.wrapping_sub(self.known_done) < capacity;
        (seems_free || self.taken(pace) < capacity) && !self.has_waiting()
    }

    fn receiver_of_letters(&mut self) -> Option<Waker> {
        if self.wants_letters { self.receiver.take() } else { None }
    }
}

impl<A: Actor> Lane<A> {
    /// How many letters may wait.
    pub(crate) const CAPACITY: usize = if A::MAILBOX == 0 { 1 } else { A::MAILBOX };
    /// An oldest letter that may have to make room is left where senders find it.
    const HAS_HAND: bool = !matches!(A::OVERFLOW, Overflow::DropOldest);

    pub(crate) fn new() -> Self {
        Self(Mutex::new(State {
            letters: VecDeque::new(),
            begun: 0,
            known_done: 0,
            waiting: None,
            command: None,
            receiver: None,
            wants_letters: false,
            is_closed: false,
        }))
    }

    /// Promises every free place to who has waited longest; they are to be woken.
    fn pass_on(state: &mut State<A>, pace: &Pace) -> Woken {
        let mut woken: Woken = None;
        while state.has_waiting() && state.taken(pace) < Self::CAPACITY {
            let Some((_, waker)) = state.waiting.as_mut().and_then(|waiting| waiting.senders.pop_first())
            else {
                break;
            };
            state.begun = state.begun.wrapping_add(1);
            match &mut woken {
                None => woken = Some((waker, Vec::new())),
                Some((_, others)) => others.push(waker),
            }
        }
        woken
    }

    /// Puts `letter` in if that is possible now, and gives back the one that it displaced. A letter that
    /// is not taken stays where it is.
    pub(crate) fn try_put<L: Envelope<A> + 'static>(
        &self,
        pace: &Pace,
        letter: &mut Option<Box<L>>,
    ) -> Result<Option<Sealed<A>>, SendFailure> {
        let mut state = lock(&self.0);
        if state.is_closed {
            return Err(SendFailure::Closed);
        }
        let displaced = if state.has_room(pace, Self::CAPACITY) {
            None
        } else {
            match A::OVERFLOW {
                Overflow::Wait | Overflow::Reject => return Err(SendFailure::Full),
                Overflow::DropOldest => Self::displace(&mut state, pace),
            }
        };
        state.begun = state.begun.wrapping_add(1);
        Self::push(state, letter);
        Ok(displaced)
    }

    fn displace(state: &mut State<A>, pace: &Pace) -> Option<Sealed<A>> {
        let oldest = state.letters.pop_front();
        pace.leaves();
        oldest
    }

    /// Puts `letter` in, waiting for a place if the actor's overflow policy is to wait. `ticket` belongs to
    /// this letter and is to be [given back](Self::leave) if its sender gives up.
    pub(crate) fn poll_put<L: Envelope<A> + 'static>(
        &self,
        pace: &Pace,
        letter: &mut Option<Box<L>>,
        ticket: &mut Option<Ticket>,
        cx: &Context<'_>,
    ) -> Poll<Result<Option<Sealed<A>>, SendFailure>> {
        let mut state = lock(&self.0);
        if state.is_closed {
            *ticket = None;
            return Poll::Ready(Err(SendFailure::Closed));
        }
        let mut displaced = None;
        if let Some(mine) = *ticket {
            let waiting = state.waiting.as_mut();
            if let Some(waker) = waiting.and_then(|waiting| waiting.senders.get_mut(&mine)) {
                let changed = !waker.will_wake(cx.waker());
                let old = changed.then(|| std::mem::replace(waker, cx.waker().clone()));
                drop(state);
                drop(old);
                return Poll::Pending;
            }
            // It waits no more, so the place that was promised is its own.
            *ticket = None;
            Self::push(state, letter);
            return Poll::Ready(Ok(None));
        }
        if !state.has_room(pace, Self::CAPACITY) {
            match A::OVERFLOW {
                Overflow::Wait => {
                    let waiting = state.waiting.get_or_insert_default();
                    let mine = Ticket(waiting.next_ticket);
                    waiting.next_ticket += 1;
                    waiting.senders.insert(mine, cx.waker().clone());
                    *ticket = Some(mine);
                    pace.has_news.store(true, Ordering::Relaxed);
                    return Poll::Pending;
                }
                Overflow::Reject => return Poll::Ready(Err(SendFailure::Full)),
                Overflow::DropOldest => displaced = Self::displace(&mut state, pace),
            }
        }
        state.begun = state.begun.wrapping_add(1);
        Self::push(state, letter);
        Poll::Ready(Ok(displaced))
    }

    fn push<L: Envelope<A> + 'static>(mut state: MutexGuard<'_, State<A>>, letter: &mut Option<Box<L>>) {
        if let Some(letter) = letter.take() {
            state.letters.push_back(letter);
        }
        let receiver = state.receiver_of_letters();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// A sender gives up its place in the row, or the place that it was promised.
    pub(crate) fn leave(&self, pace: &Pace, ticket: Ticket) {
        let mut state = lock(&self.0);
        if state.is_closed {
            return;
        }
        let waited = state.waiting.as_mut().and_then(|waiting| waiting.senders.remove(&ticket));
        if waited.is_none() {
            state.begun = state.begun.wrapping_sub(1);
        }
        let woken = Self::pass_on(&mut state, pace);
        drop(state);
        drop(waited);
        wake(woken);
    }

    /// Leaves a command for the actor: the stronger one stays, of two stops the first, and of what a group
    /// says the last.
    pub(crate) fn command(&self, pace: &Pace, command: Command) {
        let mut state = lock(&self.0);
        if state.is_closed || matches!(state.command.as_deref(), Some(Command::Stop(_))) {
            return;
        }
        state.command = Some(Box::new(command));
        pace.has_news.store(true, Ordering::Relaxed);
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }

    /// Takes the command that waits, if any.
    pub(crate) fn take_command(&self, pace: &Pace) -> Option<Command> {
        if pace.has_news.load(Ordering::Relaxed) {
            lock(&self.0).command.take().map(|command| *command)
        } else {
            None
        }
    }

    /// Takes what comes next, a command before any letter; letters only if they are wanted now. If there is
    /// nothing, the caller is woken when there is.
    pub(crate) fn take(
        &self,
        pace: &Pace,
        hand: &mut Hand<A>,
        wants_letters: bool,
        cx: &Context<'_>,
    ) -> Option<Arrival<A>> {
        if wants_letters
            && !pace.has_news.load(Ordering::Relaxed)
            && let Some(letter) = hand.0.pop_front()
        {
            pace.leaves();
            return Some(Arrival::Letter(letter));
        }
        let mut state = lock(&self.0);
        let has_news = pace.has_news.load(Ordering::Relaxed);
        if has_news && let Some(command) = state.command.take() {
            return Some(Arrival::Command(*command));
        }
        let mut letter = None;
        if wants_letters {
            letter = hand.0.pop_front().or_else(|| state.letters.pop_front());
            if Self::HAS_HAND && hand.0.is_empty() && state.letters.len() >= HANDFUL {
                std::mem::swap(&mut hand.0, &mut state.letters);
            }
        }
        if letter.is_some() {
            pace.leaves();
        }
        let mut woken = None;
        if has_news {
            woken = Self::pass_on(&mut state, pace);
            pace.has_news.store(state.has_waiting(), Ordering::Relaxed);
        }
        if let Some(letter) = letter {
            drop(state);
            wake(woken);
            return Some(Arrival::Letter(letter));
        }
        if wants_letters {
            for letters in [&mut hand.0, &mut state.letters] {
                if letters.capacity() > IDLE_PLACES {
                    letters.shrink_to(IDLE_PLACES);
                }
            }
        }
        state.wants_letters = wants_letters;
        let is_known = state.receiver.as_ref().is_some_and(|receiver| receiver.will_wake(cx.waker()));
        let old = if is_known { None } else { state.receiver.replace(cx.waker().clone()) };
        drop(state);
        drop(old);
        wake(woken);
        None
    }

    /// Takes no more, from nobody; the letters that waited are handed out.
    pub(crate) fn close(&self, pace: &Pace) -> VecDeque<Sealed<A>> {
        let mut state = lock(&self.0);
        state.is_closed = true;
        pace.done.store(state.begun, Ordering::Relaxed);
        let letters = std::mem::take(&mut state.letters);
        let waiting = std::mem::take(&mut state.waiting);
        let receiver = state.receiver.take();
        drop(state);
        drop(receiver);
        waiting.into_iter().flat_map(|waiting| waiting.senders.into_values()).for_each(Waker::wake);
        letters
    }

    /// It takes no more.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.0).is_closed
    }

    /// How many places are taken.
    pub(crate) fn depth(&self, pace: &Pace) -> usize {
        lock(&self.0).taken(pace)
    }
}
