//! An actor at `/node` that hears what a provider says, for requesters that tests make by hand.

use dms_actors::{Actor, ActorSystem, Answer, Context, Handler, Supervision};
use dms_messages::{Accepted, AllocationStatus, Bid, Decline, Refused, Signed};
use tokio::sync::mpsc;

/// More than any test is told at a time.
const CAPACITY: usize = 1024;

/// What a provider said.
#[derive(Debug)]
pub enum Said {
    /// It would run it.
    Bid(Signed<Bid>),
    /// It would not.
    Decline(Decline),
    /// It runs it.
    Accepted(Accepted),
    /// It does not.
    Refused(Refused),
    /// So it stands.
    Status(AllocationStatus),
}

struct Ear(mpsc::Sender<Said>);

impl Actor for Ear {}

macro_rules! hear {
    ($word:ty, $into:expr) => {
        impl Handler<$word> for Ear {
            fn handle(&mut self, word: $word, _: &mut Context<'_, Self>) -> Answer<()> {
                let into: fn($word) -> Said = $into;
                // Whoever is told more than it listens to waits for it in vain, until its deadline.
                let _ = self.0.try_send(into(word));
                ().into()
            }
        }
    };
}
hear!(Signed<Bid>, Said::Bid);
hear!(Signed<Decline>, |word| Said::Decline(word.into_value()));
hear!(Signed<Accepted>, |word| Said::Accepted(word.into_value()));
hear!(Signed<Refused>, |word| Said::Refused(word.into_value()));
hear!(Signed<AllocationStatus>, |word| Said::Status(word.into_value()));

/// Puts an ear at the system's `/node`; what it hears comes in order.
pub fn listen(system: &ActorSystem) -> mpsc::Receiver<Said> {
    let (tx, heard) = mpsc::channel(CAPACITY);
    let ear = system.spawn(move || Ear(tx.clone()), Supervision::never());
    system
        .register("/node", &ear)
        .expect("nobody else is there")
        .accepts::<Signed<Bid>>()
        .accepts::<Signed<Decline>>()
        .accepts::<Signed<Accepted>>()
        .accepts::<Signed<Refused>>()
        .accepts::<Signed<AllocationStatus>>();
    heard
}
