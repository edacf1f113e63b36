//! What a node has asked, answered, run and agreed on, as lists for people and programs.
//!
//! | file | lists |
//! |---|---|
//! | [`bids`] | requests for bids, bids and declines, of both directions |
//! | [`contracts`] | allocations and contracts, of both roles |
//!
//! Each list is a pure function over the books, called by the Node actor for the API. Lists are newest first
//! and come in pages. Nothing here is kept: a row that was pruned from the books is in no list.

pub mod bids;
pub mod contracts;

use std::cmp::Reverse;
use std::fmt;

use dms_messages::Timestamp;
use serde::{Deserialize, Serialize};

use crate::commands::CommandError;

/// Entries of a page, if nothing is said, and at most: an entry is a few hundred bytes of JSON.
pub const PAGE_LIMIT: (usize, usize) = (50, 1000);

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// How many entries at most; more than [`PAGE_LIMIT`] allows is cut to it.
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
    /// An allocation.
    Allocation,
    /// A contract.
    Contract,
}

impl Noun {
    /// The word that programs see.
    pub fn code(self) -> &'static str {
        match self {
            Self::BidRequest => "bid_request",
            Self::Bid => "bid",
            Self::Allocation => "allocation",
            Self::Contract => "contract",
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
            Self::Allocation => "allocation",
            Self::Contract => "contract",
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

/// True if `id` begins with what a person typed. An empty beginning means nothing.
fn begins(id: &impl fmt::Display, text: &str) -> bool {
    !text.is_empty() && id.to_string().starts_with(&text.to_ascii_lowercase())
}

/// No error repeats more of what was typed than an identifier has.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The wanted page of `rows`, newest first; rows of one instant are in the order of their ids.
///
/// It looks at every row and sorts only the page: contracts are kept for ever.
fn page<I: fmt::Display + Ord + Copy, R>(
    mut rows: Vec<(Timestamp, I, R)>,
    page: &Page,
    noun: Noun,
) -> Result<Vec<R>, CommandError> {
    let key = |row: &(Timestamp, I, R)| (Reverse(row.0), row.1);
    if let Some(after) = &page.after {
        let last = key(only(rows.iter(), |row| begins(&row.1, after), noun, after)?);
        rows.retain(|row| key(row) > last);
    }
    let limit = page.limit.min(PAGE_LIMIT.1);
    if limit < rows.len() {
        rows.select_nth_unstable_by_key(limit, key);
        rows.truncate(limit);
    }
    rows.sort_unstable_by_key(key);
    Ok(rows.into_iter().map(|(_, _, row)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::BidId;

    fn id(number: u8) -> BidId {
        BidId::from_random([number; 16])
    }

    #[test]
    fn pages_are_newest_first_bounded_and_follow_each_other_without_gap_or_repeat() {
        let rows: Vec<_> = (1..=5u8).map(|n| (Timestamp(u64::from(n / 2)), id(n), n)).collect();
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
        let many: Vec<_> = (0..2000u64).map(|n| (Timestamp(n), n, n)).collect();
        let capped = page(many, &Page { limit: usize::MAX, after: None }, Noun::Bid).unwrap();
        assert_eq!((capped.len(), capped[0]), (PAGE_LIMIT.1, 1999));
        assert_eq!(page(rows, &Page { limit: 0, after: None }, Noun::Bid), Ok(vec![]));
    }

    #[test]
    fn a_page_after_something_unknown_or_unclear_is_refused() {
        let rows = vec![(Timestamp(1), id(1), ()), (Timestamp(1), id(2), ())];
        let after = |text: &str| page(rows.clone(), &Page { limit: 9, after: Some(text.into()) }, Noun::Bid);
        let unknown = |id: &str| Err(CommandError::UnknownId { noun: Noun::Bid, id: id.to_owned() });
        assert_eq!(after("ff"), unknown("ff"));
        assert_eq!(after(""), unknown(""));
        assert_eq!(after("0"), Err(CommandError::AmbiguousId { noun: Noun::Bid, id: "0".to_owned() }));
        assert_eq!(after(&"f".repeat(5000)), unknown(&"f".repeat(64)));
    }

    #[test]
    fn a_beginning_is_read_in_either_case() {
        assert!(begins(&id(0xab), "ABAB"));
        assert!(!begins(&id(0xab), "bab"));
    }
}
