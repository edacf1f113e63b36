//! Deliberate bugs, for the tests of tests: a judge that does not find them proves nothing.
//!
//! Each is one `if` at the place where a programmer could have made it. Without the feature `failpoints`, which programs
//! for people are built without, nothing of it is compiled in; with it, a bug is there on the thread that asks for it,
//! until it asks no more.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Words leave before what they promise is on the disk.
    SpeaksBeforeSync,
    /// Nothing is ever synced for the sake of a promise.
    NeverSyncs,
    /// A person is told that a job is taken before it is on the disk.
    AnswersBeforeDisk,
    /// A program is started twice.
    StartsTwice,
    /// What ran when the node died is started again.
    RestartsWhatRan,
    /// Locks whose lease is over stay.
    NeverEndsLocks,
    /// What an allocation had is not given back when it ends.
    LosesRelease,
    /// A bid is made without regard to what is promised already.
    OverCommits,
    /// What is said of an older attempt is taken for the newest one's.
    NoFencing,
    /// Every attempt has the same number.
    MintsAgain,
    /// A program goes on although its requester is not heard of any more.
    KeepsOrphans,
    /// That the requester has a result is forgotten.
    LosesAcknowledgements,
    /// The row of a lock stays when the lock ends.
    StaleRows,
    /// Peers never compare what they share.
    NeverReconciles,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::SpeaksBeforeSync,
        Self::NeverSyncs,
        Self::AnswersBeforeDisk,
        Self::StartsTwice,
        Self::RestartsWhatRan,
        Self::NeverEndsLocks,
        Self::LosesRelease,
        Self::OverCommits,
        Self::NoFencing,
        Self::MintsAgain,
        Self::KeepsOrphans,
        Self::LosesAcknowledgements,
        Self::StaleRows,
        Self::NeverReconciles,
    ];
}

/// Whether this bug is there, on this thread.
#[inline]
pub fn has(bug: Bug) -> bool {
    #[cfg(feature = "failpoints")]
    return made::has(bug);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = bug;
        false
    }
}

#[cfg(feature = "failpoints")]
pub use made::{Made, make};

#[cfg(feature = "failpoints")]
mod made {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static MADE: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    pub(super) fn has(bug: Bug) -> bool {
        MADE.get() == Some(bug)
    }

    /// The bug is there until this is dropped.
    #[derive(Debug)]
    #[must_use = "the bug is gone when this is dropped"]
    pub struct Made(());

    /// Makes a bug on this thread, instead of the one that was there.
    pub fn make(bug: Bug) -> Made {
        MADE.set(Some(bug));
        Made(())
    }

    impl Drop for Made {
        fn drop(&mut self) {
            MADE.set(None);
        }
    }
}
