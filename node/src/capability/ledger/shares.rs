//! Who may hold how much in locks that it has not invoked, so that nobody locks a machine by asking.
//!
//! 1. Nobody holds more than a quarter of any registered dimension.
//! 2. Except that whoever holds no lock, and is in good standing, may hold one larger than that: a job that needs
//!    more than a quarter of the machine must be able to run.
//! 3. Whatever is held and not invoked adds up ([`dms_storage::Accounts`]): its largest part of a dimension, times how
//!    long it was held, however it ended. Who has held more than the whole machine for one lease
//!    ([`ALLOWANCE`](dms_storage::books::ALLOWANCE)) is in bad standing. All in bad standing hold, *together*, no more
//!    than a sixteenth of any dimension.
//! 4. While more than [`MAX_SUSPECTS`] are in bad standing, a newcomer holds no more than a sixteenth, and all
//!    newcomers *together* no more than a half: identities cost nothing, and the next one may be the same machine
//!    under another name. A newcomer has no allocation that is remembered here. Newcomers share no part with those in
//!    bad standing, so that one that means it gets its turn as soon as the others have lost their good standing.
//! 5. What is held by the exception (2), or by those that 3 and 4 bind, is not renewed.
//!
//! Why time and not a count: giving a lock back and asking again at once costs nothing, so no bound on one lock's time,
//! and no count of late ones, holds; the sum of what was held does, in whatever pieces. It takes from an honest
//! requester what it takes from others: who asks many providers lets most go after an auction of some two of ten
//! seconds, and so may lose twenty auctions of a quarter of the machine in a row, or five of all of it, before the
//! first that it wins. An invocation makes good sixteen leases of what it takes, which is eighty such losses of the same
//! size; a small one does not make good what was held of all. Otherwise time makes the allowance good in an hour,
//! bit by bit. Whoever goes over it is charged twice the allowance, so that it is over it for an hour and not to and fro,
//! and nobody is further over it. The
//! exception (2) needs no pause of its own: each use of it is a large part of the allowance. What this node took back,
//! or was away for, does not count.
//!
//! What it does not do: a newcomer still has no turn as long as new names come without end before it. Who may ask at
//! all is a question of trust, not of shares.
//!
//! None of it binds the node itself. What a part does not even hold once (a GPU of one, a slot of four) is not held
//! by those it binds.

use dms_messages::{Did, Resources};
use dms_storage::books::Holding;
use dms_storage::{Accounts, Books};

/// A requester's part of a dimension: a quarter.
const REQUESTER_DIVISOR: u64 = 4;
/// The part of a dimension for all in bad standing together, and for each one that is bound: a sixteenth.
const SUSPECTS_DIVISOR: u64 = 16;
/// The part of a dimension for all newcomers together, while there are too many in bad standing: a half. With
/// less, those who only ask take longer to use up their allowance, and those who mean it wait for them.
const NEWCOMERS_DIVISOR: u64 = 2;
/// How many may be in bad standing before newcomers are bound together: as many as could lock the whole machine
/// for a lease by their quarters.
const MAX_SUSPECTS: usize = 4;

/// Requesters that may hold only so much together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Company {
    /// What they hold.
    pub held: Resources,
    /// They hold no more than one of so many parts of every dimension.
    pub divisor: u64,
}

/// Who asks for a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asker {
    /// Its name.
    pub did: Did,
    /// True if it is the node itself.
    pub is_me: bool,
    /// Those with whom it shares a part of the machine, if it does.
    pub company: Option<Company>,
}

impl Asker {
    /// What the books say of `requester`.
    pub fn judge(books: &Books, requester: Did, me: Did) -> Self {
        let is_me = requester == me;
        let accounts = books.accounts();
        let suspects = accounts.suspects();
        let company = if is_me {
            None
        } else if is_bad(accounts, requester) {
            Some(Company { held: suspects.resources.clone(), divisor: SUSPECTS_DIVISOR })
        } else if suspects.count > MAX_SUSPECTS && !books.has_allocation_for(requester) {
            Some(Company { held: held_by_newcomers(books, me), divisor: NEWCOMERS_DIVISOR })
        } else {
            None
        };
        Self { did: requester, is_me, company }
    }
}

fn is_bad(accounts: &Accounts, requester: Did) -> bool {
    accounts.holding(requester).is_some_and(Holding::is_suspect)
}

/// A walk over all locks, which are few; taken only for a newcomer while there are too many suspects.
fn held_by_newcomers(books: &Books, me: Did) -> Resources {
    let is_newcomer =
        |did: Did| did != me && !is_bad(books.accounts(), did) && !books.has_allocation_for(did);
    books
        .locks()
        .values()
        .filter(|lock| is_newcomer(lock.requester))
        .fold(Resources::default(), |sum, lock| {
            sum.checked_add(&lock.resources).expect("a part of what is registered")
        })
}

/// Whether `asker` may hold `wanted` beside what it holds.
pub(super) fn may_hold(
    registered: &Resources,
    accounts: &Accounts,
    asker: &Asker,
    wanted: &Resources,
) -> bool {
    if asker.is_me {
        return true;
    }
    let holding = accounts.holding(asker.did).filter(|holding| holding.locks > 0);
    let is_within = |held: Option<&Resources>, divisor| {
        let total = held.map_or_else(|| Some(wanted.clone()), |held| held.checked_add(wanted));
        total.is_some_and(|total| is_part(&total, divisor, registered))
    };
    let own = holding.map(|holding| &holding.resources);
    match &asker.company {
        Some(company) => is_within(Some(&company.held), company.divisor) && is_within(own, SUSPECTS_DIVISOR),
        None => holding.is_none() || is_within(own, REQUESTER_DIVISOR),
    }
}

/// Whether the lease of what `asker` holds may become longer.
pub(super) fn may_renew(registered: &Resources, accounts: &Accounts, asker: &Asker) -> bool {
    let holding = accounts.holding(asker.did);
    asker.is_me
        || (asker.company.is_none()
            && holding.is_some_and(|holding| is_part(&holding.resources, REQUESTER_DIVISOR, registered)))
}

/// True if `part` is at most one `divisor`th of `whole` in every dimension.
fn is_part(part: &Resources, divisor: u64, whole: &Resources) -> bool {
    let mut both = part.amounts().into_iter().zip(whole.amounts());
    both.all(|((_, part), (_, whole))| part.saturating_mul(divisor) <= whole)
}
