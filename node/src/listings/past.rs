//! The part of a list that is over: read from the archive, and joined to the part that memory has.
//!
//! ```text
//!   actor's turn:    entries of the books ──► Part       (a page of them, or all if the page begins in the archive)
//!   off that turn:   Part ── joined(archive) ──► the page
//! ```
//!
//! Memory's part is taken first and the archive is read when the disk has all that memory let go before: so what moves
//! from one to the other meanwhile is in both, never in neither, and is listed once.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use dms_messages::{AllocationId, ContentId, JobId, Timestamp};
use dms_storage::books::{AttemptRow, ContractRow, JobRow};
use dms_storage::rows::archive::ArchiveId;
use dms_storage::rows::archive_by_time::ArchiveTime;
use dms_storage::{Archive, RowError};

use super::contracts::{self, AllocationView, ContractDocuments, ContractView, allocation_ids};
use super::meant::{Shortened, is_in, meant};
use super::{Entry, Noun, PAGE_LIMIT, Page, last_place, shortened};
use crate::commands::CommandError;
use dms_messages::{BidId, Did};

/// Rows of the archive read at a time.
const CHUNK: usize = 256;
/// Most contracts that are read for the beginning of an id that no index knows: about a second's work. For a whole id
/// all are read.
const MAX_SCANNED: usize = 65_536;
/// Most such searches at a time: each takes a core for as long as it lasts.
const MAX_SCANS: usize = 2;
/// How long one waits for its turn.
const SCAN_PATIENCE: Duration = Duration::from_secs(10);

/// The searches that go on.
static SCANS: Mutex<usize> = Mutex::new(0);
/// Told when one ends.
static SCAN_ENDED: Condvar = Condvar::new();

/// The turn of one search.
#[derive(Debug)]
struct ScanTurn;

impl ScanTurn {
    /// Waits for it, on a thread that may block.
    fn wait() -> Result<Self, CommandError> {
        let scans = SCANS.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut scans, waited) = SCAN_ENDED
            .wait_timeout_while(scans, SCAN_PATIENCE, |scans| *scans >= MAX_SCANS)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(CommandError::Busy);
        }
        *scans += 1;
        Ok(Self)
    }
}

impl Drop for ScanTurn {
    fn drop(&mut self) {
        *SCANS.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        SCAN_ENDED.notify_one();
    }
}

impl From<RowError> for CommandError {
    fn from(error: RowError) -> Self {
        Self::Archive(crate::errors::whole(&error))
    }
}

/// Where a page begins.
#[derive(Debug, Clone)]
enum Begin<I> {
    Newest,
    After((Reverse<Timestamp>, I)),
    /// After something that is not in memory.
    Elsewhere(String),
}

/// Memory's part of a page.
#[derive(Debug, Clone)]
pub(crate) struct Part<I, V> {
    entries: Vec<Entry<I, V>>,
    begin: Begin<I>,
    limit: usize,
    noun: Noun,
}

/// What the archive has at a place in time: an entry of the list, or something that is not listed.
type Placed<I, V> = (ArchiveTime, Option<(I, V)>);

impl<I: Shortened, V> Part<I, V> {
    /// The entries that a page may need of all that memory has, as what `view` makes of them.
    ///
    /// # Errors
    /// The page begins after several things.
    pub(super) fn of<R>(
        mut entries: Vec<Entry<I, R>>,
        page: &Page,
        noun: Noun,
        view: impl Fn(R) -> V,
    ) -> Result<Self, CommandError> {
        let begin = match &page.after {
            None => Begin::Newest,
            Some(after) => match last_place(&entries, after, noun) {
                Ok(place) => Begin::After(place),
                Err(CommandError::UnknownId { .. }) => Begin::Elsewhere(after.clone()),
                Err(error) => return Err(error),
            },
        };
        let limit = page.limit.min(PAGE_LIMIT.1);
        if let Begin::After(last) = &begin {
            entries.retain(|entry| entry.place() > *last);
        }
        if !matches!(begin, Begin::Elsewhere(_)) && limit < entries.len() {
            entries.select_nth_unstable_by_key(limit, Entry::key);
            entries.truncate(limit);
        }
        let view = |Entry { at, id, direction, row }| Entry { at, id, direction, row: view(row) };
        Ok(Self { entries: entries.into_iter().map(view).collect(), begin, limit, noun })
    }

    /// The page, with what the archive has of it. `find` gives the archived things that an id may mean, `read` those
    /// before a place in time, newest first; `first` is the lowest place of an instant.
    fn joined(
        mut self,
        first: impl Fn(Timestamp) -> ArchiveTime,
        find: impl FnOnce(&RangeInclusive<I>, &str) -> Result<Vec<(Timestamp, I)>, CommandError>,
        mut read: impl FnMut(Option<ArchiveTime>) -> Result<Vec<Placed<I, V>>, RowError>,
    ) -> Result<Vec<V>, CommandError> {
        let last = match std::mem::replace(&mut self.begin, Begin::Newest) {
            Begin::Newest => None,
            Begin::After(place) => Some(place),
            Begin::Elsewhere(text) => {
                let found =
                    meant::<I>(&text).map(|range| find(&range, &text)).transpose()?.unwrap_or_default();
                let id = shortened(&text);
                match found.as_slice() {
                    [(at, one)] => Some((Reverse(*at), *one)),
                    [] => return Err(CommandError::UnknownId { noun: self.noun, id }),
                    _ => return Err(CommandError::AmbiguousId { noun: self.noun, id }),
                }
            }
        };
        let is_after = |entry: &Entry<I, V>| last.is_none_or(|last| entry.place() > last);
        self.entries.retain(is_after);
        let known: BTreeSet<I> = self.entries.iter().map(|entry| entry.id).collect();
        // Things of one instant lie in the other order there: all of the last place's instant are read.
        let mut before = last.map(|(Reverse(at), _)| first(Timestamp(at.0.saturating_add(1))));
        let mut past: Vec<Entry<I, V>> = Vec::new();
        if self.limit == 0 {
            return Ok(Vec::new());
        }
        loop {
            let chunk = read(before)?;
            let Some((oldest, _)) = chunk.last() else { break };
            let oldest = *oldest;
            before = Some(oldest);
            let entries = chunk.into_iter().filter_map(|(time, found)| {
                let (id, row) = found.filter(|(id, _)| !known.contains(id))?;
                Some(Entry { at: time.at, id, direction: None, row })
            });
            past.extend(entries.filter(is_after));
            // Of the oldest instant there may be more.
            if past.iter().filter(|entry| entry.at > oldest.at).count() >= self.limit {
                break;
            }
        }
        self.entries.extend(past);
        self.entries.sort_unstable_by_key(Entry::key);
        self.entries.truncate(self.limit);
        Ok(self.entries.into_iter().map(|entry| entry.row).collect())
    }
}

impl Part<JobId, JobRow> {
    /// The jobs of the page.
    ///
    /// # Errors
    /// The page begins after no job, or the archive cannot be read.
    pub(crate) fn jobs(self, archive: &Archive) -> Result<Vec<JobRow>, CommandError> {
        self.joined(
            |at| ArchiveTime { at, id: ArchiveId::Job(JobId::from_bytes([0; 16])) },
            |range, _| {
                let found = archive.jobs_between(range.clone(), 2)?;
                Ok(found.into_iter().map(|row| (row.job.submitted, row.job.id)).collect())
            },
            |before| {
                let page = archive.jobs(before, CHUNK)?;
                Ok(page.into_iter().map(|(time, row)| (time, Some((row.job.id, row)))).collect())
            },
        )
    }
}

impl Part<ContentId, ContractView> {
    /// The contracts of the page.
    ///
    /// # Errors
    /// The page begins after no contract, or the archive cannot be read.
    pub(crate) fn contracts(self, archive: &Archive, me: Did) -> Result<Vec<ContractView>, CommandError> {
        self.joined(
            first_contract,
            |range, _| {
                let found = archive.contracts_between(range.clone(), 2)?;
                Ok(found.into_iter().map(|row| (row.first, row.contract.content_id())).collect())
            },
            |before| {
                let page = archive.contracts(before, CHUNK)?;
                let view = |(time, row): (ArchiveTime, ContractRow)| {
                    let cid = cid_of(&time, &row);
                    (time, Some((cid, contracts::contract_view(me, cid, &row))))
                };
                Ok(page.into_iter().map(view).collect())
            },
        )
    }
}

impl Part<AllocationId, AllocationView> {
    /// The allocations of the page. They are read by their contracts, which lie in the order of time for both roles.
    ///
    /// # Errors
    /// The page begins after no allocation, or the archive cannot be read.
    pub(crate) fn allocations(self, archive: &Archive, me: Did) -> Result<Vec<AllocationView>, CommandError> {
        self.joined(
            first_contract,
            |range, text| {
                if let Some(id) = whole(range)
                    && let Some((_, row)) = contract_here(archive, id)?
                {
                    return Ok(vec![(row.first, id)]);
                }
                let is_meant =
                    |_: &ContentId, row: &ContractRow| allocation_ids(row).any(|id| range.contains(&id));
                let found = find_contracts(archive, &sought(Noun::Allocation, text, Some(range)), is_meant)?;
                let ids = found.iter().flat_map(|(_, row)| allocation_ids(row).map(|id| (row.first, id)));
                Ok(ids.filter(|(_, id)| range.contains(id)).collect())
            },
            |before| {
                let mut placed = Vec::new();
                for (time, row) in archive.contracts(before, CHUNK)? {
                    let views = allocation_views(archive, me, cid_of(&time, &row), &row)?;
                    let is_none = views.is_empty();
                    placed.extend(views.into_iter().map(|view| (time, Some((view.id, view)))));
                    placed.extend(is_none.then_some((time, None)));
                }
                Ok(placed)
            },
        )
    }
}

fn first_contract(at: Timestamp) -> ArchiveTime {
    let [lowest, _] = ContentId::extremes();
    ArchiveTime { at, id: ArchiveId::Contract(lowest) }
}

/// The place has the CID: no document is hashed for it.
fn cid_of(time: &ArchiveTime, row: &ContractRow) -> ContentId {
    match time.id {
        ArchiveId::Contract(cid) => cid,
        _ => row.contract.content_id(),
    }
}

/// The archived allocations under an archived contract, in the order of its tasks.
fn allocation_views(
    archive: &Archive,
    me: Did,
    cid: ContentId,
    row: &ContractRow,
) -> Result<Vec<AllocationView>, RowError> {
    let terms = row.contract.value();
    let mut views = Vec::new();
    if terms.provider == me {
        for id in allocation_ids(row) {
            views.extend(archive.allocation(id)?.map(|here| contracts::view_here(me, &here, Some(terms))));
        }
    }
    if terms.requester == me && views.is_empty() && row.accepted.is_some() {
        let job = archive.job(terms.attempt.job)?;
        let attempt = job.and_then(|job| job.attempts.into_iter().find(|it| it.contract == cid));
        let first = row.accepted.as_ref().map(|accepted| accepted.value().allocation);
        views.extend(attempt.into_iter().flat_map(|attempt| {
            let attempt = AttemptRow { allocation: attempt.allocation.or(first), ..attempt };
            let tasks = contracts::task_ids(&attempt, Some(terms));
            tasks
                .map(|(task, id)| contracts::view_elsewhere(me, id, task, &attempt, Some(terms)))
                .collect::<Vec<_>>()
        }));
    }
    Ok(views)
}

/// The only id of a range that has only one.
fn whole<I: Copy + PartialEq>(range: &RangeInclusive<I>) -> Option<I> {
    (range.start() == range.end()).then_some(*range.start())
}

/// The archived contract of an allocation that ran here.
fn contract_here(archive: &Archive, id: AllocationId) -> Result<Option<(ContentId, ContractRow)>, RowError> {
    let Some(here) = archive.allocation(id)? else { return Ok(None) };
    Ok(archive.contract(here.contract)?.map(|row| (here.contract, row)))
}

/// What is looked for where no index helps.
#[derive(Debug)]
struct Sought<'a> {
    noun: Noun,
    text: &'a str,
    /// How many contracts are read for it.
    limit: usize,
}

fn sought<'a, I: Copy + PartialEq>(
    noun: Noun,
    text: &'a str,
    range: Option<&RangeInclusive<I>>,
) -> Sought<'a> {
    let is_whole = range.is_some_and(|range| whole(range).is_some());
    Sought { noun, text, limit: if is_whole { usize::MAX } else { MAX_SCANNED } }
}

/// At most two archived contracts that `is_meant`.
///
/// # Errors
/// It would take too long, or the archive cannot be read.
fn find_contracts(
    archive: &Archive,
    sought: &Sought<'_>,
    is_meant: impl Fn(&ContentId, &ContractRow) -> bool,
) -> Result<Vec<(ContentId, ContractRow)>, CommandError> {
    let _turn = ScanTurn::wait()?;
    let read = |before| archive.contracts(before, CHUNK);
    let found = scan(sought, read, |time, row| is_meant(&cid_of(time, row), row))?;
    Ok(found.into_iter().map(|(time, row)| (cid_of(&time, &row), row)).collect())
}

/// At most two rows that `is_meant`: reads one chunk after another, newest first, until two are found.
fn scan<T>(
    sought: &Sought<'_>,
    mut read: impl FnMut(Option<ArchiveTime>) -> Result<Vec<(ArchiveTime, T)>, RowError>,
    is_meant: impl Fn(&ArchiveTime, &T) -> bool,
) -> Result<Vec<(ArchiveTime, T)>, CommandError> {
    let (mut found, mut before, mut count) = (Vec::new(), None, 0);
    loop {
        let chunk = read(before)?;
        let Some((oldest, _)) = chunk.last() else { return Ok(found) };
        if count >= sought.limit {
            let id = shortened(sought.text);
            return Err(CommandError::TooFarBack { noun: sought.noun, id, limit: sought.limit });
        }
        before = Some(*oldest);
        count += chunk.len();
        for (time, row) in chunk {
            if is_meant(&time, &row) {
                found.push((time, row));
            }
            if found.len() > 1 {
                return Ok(found);
            }
        }
    }
}

/// The only thing found.
fn one<T>(found: Vec<T>, noun: Noun, text: &str) -> Result<T, CommandError> {
    let mut found = found.into_iter();
    match (found.next(), found.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => Err(CommandError::UnknownId { noun, id: shortened(text) }),
        (Some(_), Some(_)) => Err(CommandError::AmbiguousId { noun, id: shortened(text) }),
    }
}

/// The one archived job that a person means.
///
/// # Errors
/// None, or several, are meant; or the archive cannot be read.
pub(crate) fn job(archive: &Archive, text: &str) -> Result<JobRow, CommandError> {
    let found = meant(text).map(|range| archive.jobs_between(range, 2)).transpose()?.unwrap_or_default();
    one(found, Noun::Job, text)
}

/// The one archived allocation that a person means.
///
/// # Errors
/// None, or several, are meant; it would take too long to find; or the archive cannot be read.
pub(crate) fn allocation(archive: &Archive, me: Did, text: &str) -> Result<AllocationView, CommandError> {
    let range = meant::<AllocationId>(text)
        .ok_or_else(|| CommandError::UnknownId { noun: Noun::Allocation, id: shortened(text) })?;
    if let Some(id) = whole(&range)
        && let Some(here) = archive.allocation(id)?
    {
        let contract = archive.contract(here.contract)?;
        return Ok(contracts::view_here(me, &here, contract.as_ref().map(|row| row.contract.value())));
    }
    let is_meant = |_: &ContentId, row: &ContractRow| allocation_ids(row).any(|id| range.contains(&id));
    let found = find_contracts(archive, &sought(Noun::Allocation, text, Some(&range)), is_meant)?;
    let (cid, row) = one(found, Noun::Allocation, text)?;
    let views = allocation_views(archive, me, cid, &row)?;
    let mut meant = views.into_iter().filter(|view| range.contains(&view.id));
    let (first, second) = (meant.next(), meant.next());
    if second.is_some() {
        return Err(CommandError::AmbiguousId { noun: Noun::Allocation, id: shortened(text) });
    }
    first.ok_or_else(|| CommandError::UnknownId { noun: Noun::Allocation, id: shortened(text) })
}

/// The one archived contract that a person means, with its documents.
///
/// # Errors
/// None, or several, are meant; it would take too long to find; or the archive cannot be read.
pub(crate) fn contract(archive: &Archive, me: Did, text: &str) -> Result<ContractDocuments, CommandError> {
    let cids = meant::<ContentId>(text);
    let allocations = meant::<AllocationId>(text);
    let found = if let Some(cid) = cids.as_ref().and_then(whole) {
        archive.contract(cid)?.map(|row| (cid, row)).into_iter().collect()
    } else if let Some(id) = allocations.as_ref().and_then(whole)
        && let Some(found) = contract_here(archive, id)?
    {
        vec![found]
    } else {
        let (bids, jobs) = (meant::<BidId>(text), meant::<JobId>(text));
        // The ids of bids, jobs and allocations are whole alike.
        find_contracts(archive, &sought(Noun::Contract, text, allocations.as_ref()), |cid, row| {
            let terms = row.contract.value();
            is_in(&cids, cid)
                || is_in(&bids, &terms.bid)
                || is_in(&jobs, &terms.attempt.job)
                || allocation_ids(row).any(|allocation| is_in(&allocations, &allocation))
        })?
    };
    let (cid, row) = one(found, Noun::Contract, text)?;
    Ok(contracts::documents(me, cid, &row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_is_looked_for_so_far_back_and_a_whole_id_everywhere() {
        let ids = meant::<AllocationId>("ab");
        let one = ids.as_ref().map(|range| *range.start()..=*range.start());
        assert_eq!(sought(Noun::Allocation, "ab", ids.as_ref()).limit, MAX_SCANNED);
        assert_eq!(sought(Noun::Allocation, "ab", one.as_ref()).limit, usize::MAX);
        let place = |number: u8| ArchiveTime {
            at: Timestamp(u64::from(number)),
            id: ArchiveId::Job(JobId::from_bytes([number; 16])),
        };
        // Nine rows, three at a time, the newest has the highest number.
        let read = |before: Option<ArchiveTime>| {
            let before = before.map_or(10, |place| place.at.0 as u8);
            Ok((1..before).rev().take(3).map(|number| (place(number), number)).collect())
        };
        // Nothing where it was given up.
        type Case<'a> = (usize, &'a [u8], Option<&'a [u8]>);
        let table: [Case<'_>; 6] = [
            (9, &[1], Some(&[1])),
            (9, &[20], Some(&[])),
            (6, &[9, 5, 1], Some(&[9, 5])),
            // There might be a second one.
            (6, &[9], None),
            (6, &[1], None),
            (usize::MAX, &[1], Some(&[1])),
        ];
        for (limit, meant, expected) in table {
            let sought = Sought { noun: Noun::Allocation, text: "ab", limit };
            let found = scan(&sought, read, |_, number| meant.contains(number));
            let found = found.map(|rows| rows.into_iter().map(|(_, number)| number).collect::<Vec<_>>());
            let far = CommandError::TooFarBack { noun: Noun::Allocation, id: "ab".to_owned(), limit };
            assert_eq!(found, expected.map(<[u8]>::to_vec).ok_or(far), "{limit} {meant:?}");
        }
    }
}
