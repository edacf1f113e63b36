//! [`Probe`]: an actor that records what it is told, for the test to look at.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::runtime::{
    Actor, ActorRef, ActorSystem, Address, Answer, Context, Handler, Recipient, RegisterError, Responder,
    Supervision, lock,
};
use crate::{Did, Message, WireMessage};

/// How long a probe waits unless it is told otherwise: longer than anything takes on a busy machine, and
/// nothing at all in virtual time.
const PATIENCE: Duration = Duration::from_secs(10);
/// Messages that a probe keeps for the test. With more its mailbox fills, and its senders wait as they would
/// for any actor that does not keep up.
const RECORDS: usize = 1024;

/// A message as the probe got it.
pub struct Received<M: Message> {
    message: M,
    sender: Did,
    responder: Option<Responder<M::Reply>>,
}

impl<M: Message> Received<M> {
    /// Who sent it; the system's own DID if it came from inside.
    pub fn sender(&self) -> Did {
        self.sender
    }

    /// Answers it, unless a scripted reply has, and gives the message. Dropping it instead tells whoever asks
    /// that the answer is lost.
    pub fn reply(self, reply: M::Reply) -> M {
        if let Some(responder) = self.responder {
            responder.reply(reply);
        }
        self.message
    }

    /// The message; an ask that no script answered is lost.
    pub fn into_message(self) -> M {
        self.message
    }
}

impl<M: Message> Deref for Received<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.message
    }
}

impl<M: Message + fmt::Debug> fmt::Debug for Received<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received").field("message", &self.message).field("sender", &self.sender).finish()
    }
}

/// What [`Probe::answer_with`] was given.
type AnswerWith<M> = Box<dyn FnMut(&M) -> Option<<M as Message>::Reply> + Send>;

/// Answers messages as the test has said.
enum Script<M: Message> {
    /// One after the other; then none.
    Replies(VecDeque<M::Reply>),
    /// Whatever it says.
    Answer(AnswerWith<M>),
}

/// The script is behind a mutex because the test writes it while the actor, on its thread, follows it.
type SharedScript<M> = Arc<Mutex<Script<M>>>;

/// Stands where an actor of the application would stand, and records. Ends when it is dropped.
///
/// An ask is answered by the script ([`Self::will_reply`], [`Self::answer_with`]), or by the test
/// ([`Self::next_received`], [`Received::reply`]), or is lost.
///
/// ```
/// use dms_actors::testing::{self, Probe};
///
/// struct Add(u32);
/// impl dms_actors::Message for Add { type Reply = u32; }
///
/// testing::run(1, |world| async move {
///     let system = world.system("one");
///     let mut probe = Probe::<Add>::of(&system);
///     probe.will_reply(42);
///     // The application would be given `probe.recipient()`.
///     assert_eq!(probe.recipient().ask(Add(2)).await.unwrap(), 42);
///     assert_eq!(probe.next().await.0, 2);
///     drop(probe);
///     world.stop().await;
/// });
/// ```
pub struct Probe<M: Message> {
    actor: ActorRef<Recorder<M>>,
    records: mpsc::Receiver<Received<M>>,
    script: SharedScript<M>,
    address: Option<Address>,
    patience: Duration,
    count: usize,
}

impl<M: Message> Probe<M> {
    /// A probe in `system`, reached by its [`recipient`](Self::recipient).
    pub fn of(system: &ActorSystem) -> Self {
        let (sender, records) = mpsc::channel(RECORDS);
        let script: SharedScript<M> = Arc::new(Mutex::new(Script::Replies(VecDeque::new())));
        let its = script.clone();
        let recorder = move || Recorder { records: sender.clone(), script: its.clone() };
        let actor = system.spawn(recorder, Supervision::never());
        Self { actor, records, script, address: None, patience: PATIENCE, count: 0 }
    }

    /// A probe at `path` of `system`, which is reached from everywhere.
    ///
    /// # Errors
    /// As [`ActorSystem::register`].
    pub fn at(system: &ActorSystem, path: &str) -> Result<Self, RegisterError>
    where
        M: WireMessage,
        M::Reply: Serialize + DeserializeOwned,
    {
        let mut probe = Self::of(system);
        let registration = system.register(path, &probe.actor)?.accepts::<M>();
        probe.address = Some(Address { did: system.me(), path: registration.path().clone() });
        Ok(probe)
    }

    /// How long [`Self::next`] waits from now on; 10 s without it.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// A way to send to it.
    pub fn recipient(&self) -> Recipient<M> {
        self.actor.recipient()
    }

    /// Where it is, if it has a path.
    pub fn address(&self) -> Option<&Address> {
        self.address.as_ref()
    }

    /// Answers the next message that no earlier call has spoken for.
    pub fn will_reply(&self, reply: M::Reply) {
        match &mut *lock(&self.script) {
            Script::Replies(replies) => replies.push_back(reply),
            script => *script = Script::Replies(VecDeque::from([reply])),
        }
    }

    /// Answers every message from now on as `answer` says; `None` leaves it to the test.
    pub fn answer_with(&self, answer: impl FnMut(&M) -> Option<M::Reply> + Send + 'static) {
        *lock(&self.script) = Script::Answer(Box::new(answer));
    }

    /// The next message. See [`Self::next_received`].
    ///
    /// # Panics
    /// As [`Self::next_received`].
    #[track_caller]
    #[expect(clippy::should_implement_trait, reason = "nobody takes a probe for an iterator")]
    pub fn next(&mut self) -> impl Future<Output = M> + use<'_, M> {
        let next = self.next_received();
        async move { next.await.into_message() }
    }

    /// The next message, with its sender and the way to answer it.
    ///
    /// # Panics
    /// If none comes within the probe's patience, saying how many came before and whether the probe still
    /// lives.
    #[track_caller]
    pub fn next_received(&mut self) -> impl Future<Output = Received<M>> + use<'_, M> {
        let caller = Location::caller();
        async move {
            match timeout(self.patience, self.records.recv()).await {
                Ok(Some(received)) => {
                    self.count += 1;
                    received
                }
                Ok(None) => panic!("{caller}: {self:?} can get no more messages: it has ended"),
                Err(_) => panic!("{caller}: {self:?} got no message within {:?}", self.patience),
            }
        }
    }

    /// Waits for `time` and sees that nothing comes.
    ///
    /// # Panics
    /// If something does.
    #[track_caller]
    pub fn expect_none_for(&mut self, time: Duration) -> impl Future<Output = ()> + use<'_, M> {
        let caller = Location::caller();
        async move {
            if let Ok(Some(received)) = timeout(time, self.records.recv()).await {
                panic!(
                    "{caller}: {self:?} got a message from {} that was not expected within {time:?}",
                    received.sender.short()
                );
            }
        }
    }

    /// What has come and was not taken yet, without waiting.
    pub fn drain(&mut self) -> Vec<M> {
        let mut messages = Vec::new();
        while let Ok(received) = self.records.try_recv() {
            self.count += 1;
            messages.push(received.into_message());
        }
        messages
    }
}

impl<M: Message> fmt::Debug for Probe<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.actor.is_alive() { "alive" } else { "ended" };
        write!(f, "Probe<{}> ({state}, {} taken before)", std::any::type_name::<M>(), self.count)
    }
}

impl<M: Message> Drop for Probe<M> {
    fn drop(&mut self) {
        self.actor.stop();
    }
}

/// The actor of a probe.
struct Recorder<M: Message> {
    records: mpsc::Sender<Received<M>>,
    script: SharedScript<M>,
}

impl<M: Message> Actor for Recorder<M> {}

impl<M: Message> Handler<M> for Recorder<M> {
    fn handle(&mut self, message: M, ctx: &mut Context<'_, Self>) -> Answer<M::Reply> {
        let scripted = match &mut *lock(&self.script) {
            Script::Replies(replies) => replies.pop_front(),
            Script::Answer(answer) => answer(&message),
        };
        let (responder, answer) = match scripted {
            Some(reply) => (None, reply.into()),
            None => {
                let (responder, answer) = Answer::later();
                (Some(responder), answer)
            }
        };
        let received = Received { message, sender: ctx.sender(), responder };
        if let Err(mpsc::error::TrySendError::Full(received)) = self.records.try_send(received) {
            let records = self.records.clone();
            // The test is behind: the lane waits for it.
            ctx.exclusive(async move { drop(records.send(received).await) }, |_, (), _| {});
        }
        answer
    }
}
