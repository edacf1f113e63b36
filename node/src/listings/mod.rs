//! What a node has asked, answered, run and agreed on, as lists for people and programs.
//!
//! | file | lists |
//! |---|---|
//! | [`bids`] | requests for bids, bids and declines, of both directions |
//! | [`contracts`] | allocations and contracts, of both roles |
//! | `past` | the same, and jobs, of what is over and no longer in memory |
//!
//! What they share is here, and in `meant`: which ids the beginning of one stands for.
//!
//! Each list is a pure function over the books, called by the Node actor for the API. Lists are newest first
//! and come in pages. Nothing here is kept: a row that was pruned from the books, or from the archive, is in no list.
//! Where the beginning of an id fits something current, that is meant: what is over needs more of its id then.

pub mod bids;
pub mod contracts;
mod meant;
pub(crate) mod past;

use std::cmp::Reverse;
use std::fmt;

use dms_messages::{BidId, JobId, Timestamp};
use dms_storage::books::JobRow;
use dms_storage::{Books, Lock};
use serde::{Deserialize, Serialize};

use self::meant::{Shortened, is_in, meant};
use self::past::Part;
use crate::commands::CommandError;

/// Entries of a page, if nothing is said, and at most: an entry is a few hundred bytes of JSON.
pub const PAGE_LIMIT: (usize, usize) = (50, 1000);

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// How many entries at most; more than [`PAGE_LIMIT`] allows is cut to it. A node that runs its own job has
    /// two entries of one id, sent and received: no page ends between them, so it may hold one entry more.
    pub limit: usize,
    /// The id (or its beginning) of the last entry of the page before; none for the newest.
    pub after: Option<String>,
}

impl Default for Page {
    fn default() -> Self {
        Self { limit: PAGE_LIMIT.0, after: None }
    }
}

/// Which way a word went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From this node.
    Sent,
    /// To this node.
    Received,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "sent",
            Self::Received => "received",
        })
    }
}

/// What this node is in an agreement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It asked.
    Requester,
    /// It ran it.
    Provider,
    /// It ran its own job.
    Both,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requester => "requester",
            Self::Provider => "provider",
            Self::Both => "both",
        })
    }
}

/// A kind of listed thing, for errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    /// A request for bids.
    BidRequest,
    /// A bid.
    Bid,
    /// A live lock, by its bid.
    Lock,
    /// An allocation.
    Allocation,
    /// A contract.
    Contract,
    /// A job of this node's.
    Job,
    /// A capability token.
    Token,
    /// An invite.
    Invite,
    /// Somebody who is trusted.
    TrustedPeer,
}

impl Noun {
    /// The word that programs see.
    pub fn code(self) -> &'static str {
        match self {
            Self::BidRequest => "bid_request",
            Self::Bid => "bid",
            Self::Lock => "lock",
            Self::Allocation => "allocation",
            Self::Contract => "contract",
            Self::Job => "job",
            Self::Token => "token",
            Self::Invite => "invite",
            Self::TrustedPeer => "trusted_peer",
        }
    }

    /// What helps where more of the same id does not: a job may have several contracts.
    pub(crate) fn other_name(self) -> &'static str {
        match self {
            Self::Contract => ", or the CID",
            _ => "",
        }
    }
}

impl fmt::Display for Noun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BidRequest => "bid request",
            Self::Bid => "bid",
            Self::Lock => "lock",
            Self::Allocation => "allocation",
            Self::Contract => "contract",
            Self::Job => "job",
            Self::Token => "token",
            Self::Invite => "invite",
            Self::TrustedPeer => "trusted peer",
        })
    }
}

/// The only candidate that `is_meant` by what a person typed.
///
/// # Errors
/// [`CommandError::UnknownId`] if there is none, [`CommandError::AmbiguousId`] if there are several.
fn only<T>(
    candidates: impl Iterator<Item = T>,
    is_meant: impl Fn(&T) -> bool,
    noun: Noun,
    text: &str,
) -> Result<T, CommandError> {
    let mut found = candidates.filter(is_meant);
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(CommandError::UnknownId { noun, id: shortened(text) }),
        (Some(_), Some(_)) => Err(CommandError::AmbiguousId { noun, id: shortened(text) }),
    }
}

/// No error repeats more of what was typed than an identifier has.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A row, and where it stands in its list.
#[derive(Debug, Clone)]
struct Entry<I, R> {
    /// When the thing with this id was first heard of: the same for each of its rows, so that they are neighbours.
    at: Timestamp,
    id: I,
    /// What tells two rows of one id apart; none where an id has one row only.
    direction: Option<Direction>,
    row: R,
}

impl<I: Copy + Ord, R> Entry<I, R> {
    /// Newest first; of one instant in the order of the ids.
    fn place(&self) -> (Reverse<Timestamp>, I) {
        (Reverse(self.at), self.id)
    }

    fn key(&self) -> ((Reverse<Timestamp>, I), Option<Direction>) {
        (self.place(), self.direction)
    }
}

/// The wanted page of `entries`, newest first; those of one instant are in the order of their ids.
///
/// It looks at every entry and sorts only the page: contracts are kept for ever.
fn page<I: Shortened, R>(
    mut entries: Vec<Entry<I, R>>,
    page: &Page,
    noun: Noun,
) -> Result<Vec<R>, CommandError> {
    if let Some(after) = &page.after {
        let last = last_place(&entries, after, noun)?;
        entries.retain(|entry| entry.place() > last);
    }
    let mut limit = page.limit.min(PAGE_LIMIT.1);
    if limit < entries.len() {
        let (before, next, _) = entries.select_nth_unstable_by_key(limit, Entry::key);
        // The next page goes on after an id, so both rows of one are in this page.
        if before.iter().any(|entry| entry.id == next.id) {
            limit += 1;
        }
        entries.truncate(limit);
    }
    entries.sort_unstable_by_key(Entry::key);
    Ok(entries.into_iter().map(|entry| entry.row).collect())
}

/// Memory's part of the newest jobs.
///
/// # Errors
/// None: nothing is meant that could be unclear.
pub(crate) fn jobs_part(books: &Books, limit: usize) -> Result<Part<JobId, JobRow>, CommandError> {
    let entries = books.jobs().values().map(|row| {
        let (at, id) = (row.job.submitted, row.job.id);
        Entry { at, id, direction: None, row }
    });
    Part::of(entries.collect(), &Page { limit, after: None }, Noun::Job, JobRow::clone)
}

/// The one job in memory that a person means.
///
/// # Errors
/// None, or several, are meant.
pub(crate) fn job<'a>(books: &'a Books, text: &str) -> Result<&'a JobRow, CommandError> {
    let range = meant::<JobId>(text);
    only(books.jobs().values(), |row| is_in(&range, &row.job.id), Noun::Job, text)
}

/// The one live lock whose bid begins so.
pub(crate) fn lock<'a>(books: &'a Books, text: &str) -> Result<&'a Lock, CommandError> {
    let range = meant::<BidId>(text);
    only(books.locks().values(), |lock| is_in(&range, &lock.bid), Noun::Lock, text)
}

/// The place of the only id that is meant by `after`, which may have two rows.
fn last_place<I: Shortened, R>(
    entries: &[Entry<I, R>],
    after: &str,
    noun: Noun,
) -> Result<(Reverse<Timestamp>, I), CommandError> {
    let range = meant::<I>(after);
    let is_meant = |entry: &&Entry<I, R>| is_in(&range, &entry.id);
    let mut found = entries.iter().filter(is_meant);
    let first = found.next().ok_or_else(|| CommandError::UnknownId { noun, id: shortened(after) })?;
    if found.any(|entry| entry.id != first.id) {
        return Err(CommandError::AmbiguousId { noun, id: shortened(after) });
    }
    Ok(first.place())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::BidId;

    fn id(number: u8) -> BidId {
        BidId::from_random([number; 16])
    }

    fn entry<R>(at: u64, id: BidId, row: R) -> Entry<BidId, R> {
        Entry { at: Timestamp(at), id, direction: None, row }
    }

    #[test]
    fn pages_are_newest_first_bounded_and_follow_each_other_without_gap_or_repeat() {
        let rows: Vec<_> = (1..=5u8).map(|n| entry(u64::from(n / 2), id(n), n)).collect();
        let whole = page(rows.clone(), &Page { limit: 10, after: None }, Noun::Bid).unwrap();
        assert_eq!(whole, [4, 5, 2, 3, 1]);
        let mut joined = Vec::new();
        let mut after = None;
        loop {
            let part = page(rows.clone(), &Page { limit: 2, after }, Noun::Bid).unwrap();
            let Some(last) = part.last() else { break };
            assert!(part.len() <= 2);
            after = Some(id(*last).to_string()[..8].to_owned());
            joined.extend(part);
        }
        assert_eq!(joined, whole);
        let numbered = |n: u64| BidId::from_random((u128::from(n) << 64).to_be_bytes());
        let many: Vec<_> = (0..2000).map(|n| entry(n, numbered(n), n)).collect();
        let capped = page(many, &Page { limit: usize::MAX, after: None }, Noun::Bid).unwrap();
        assert_eq!((capped.len(), capped[0]), (PAGE_LIMIT.1, 1999));
        assert_eq!(page(rows, &Page { limit: 0, after: None }, Noun::Bid), Ok(vec![]));
    }

    #[test]
    fn an_id_with_two_rows_is_gone_on_after_and_no_page_ends_between_them() {
        let both = [Direction::Received, Direction::Sent];
        let twins = (1..=6u8).flat_map(|n| both.map(|direction| (n, direction)));
        // One id has a single row, and all but the first two are of one instant.
        let rows: Vec<_> = twins
            .filter(|twin| *twin != (3, Direction::Sent))
            .map(|twin| Entry { direction: Some(twin.1), ..entry(u64::from(twin.0 / 3), id(twin.0), twin) })
            .collect();
        let whole = page(rows.clone(), &Page { limit: 99, after: None }, Noun::Bid).unwrap();
        assert_eq!(whole.len(), 11);
        assert_eq!(whole[..3], [(6, Direction::Sent), (6, Direction::Received), (3, Direction::Received)]);
        for limit in 1..=11 {
            for length in [2, 36] {
                let (mut joined, mut after) = (Vec::new(), None);
                loop {
                    let part = page(rows.clone(), &Page { limit, after }, Noun::Bid).unwrap();
                    let Some(last) = part.last() else { break };
                    assert!(part.len() <= limit + 1, "{limit}: {part:?}");
                    after = Some(id(last.0).to_string()[..length].to_owned());
                    joined.extend(part);
                }
                assert_eq!(joined, whole, "{limit}");
            }
        }
        assert_eq!(page(rows, &Page { limit: 0, after: None }, Noun::Bid), Ok(vec![]));
    }

    #[test]
    fn a_page_after_something_unknown_or_unclear_is_refused() {
        let rows = vec![entry(1, id(1), ()), entry(1, id(2), ())];
        let after = |text: &str| page(rows.clone(), &Page { limit: 9, after: Some(text.into()) }, Noun::Bid);
        let unknown = |id: &str| Err(CommandError::UnknownId { noun: Noun::Bid, id: id.to_owned() });
        assert_eq!(after("ff"), unknown("ff"));
        assert_eq!(after(""), unknown(""));
        assert_eq!(after("0"), Err(CommandError::AmbiguousId { noun: Noun::Bid, id: "0".to_owned() }));
        assert_eq!(after(&"f".repeat(5000)), unknown(&"f".repeat(64)));
    }
}
