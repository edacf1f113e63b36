//! Requests for bids, the bids on them and the declines, as they were sent and received.

use std::collections::{BTreeMap, BTreeSet};

use dms_actors::{Did, Message};
use dms_messages::{
    AllocationId, BidId, BidRequestId, DeclineReason, JobId, Millis, Price, Requirement, Resources, Retry,
    Timestamp,
};
use dms_storage::books::{
    BidReceivedRow, BidRequestReceivedRow, BidRequestSentRow, BidSentRow, LockState, NodeAnswer,
};
use dms_storage::{Books, LockEnd};
use serde::{Deserialize, Serialize};

use super::{Direction, Entry, Noun, Page, meant, only, page};
use crate::commands::CommandError;

/// Asks for the requests for bids.
#[derive(Debug)]
pub struct ListBidRequests {
    /// Only those of one direction, if said.
    pub direction: Option<Direction>,
    /// Which part.
    pub page: Page,
}

impl Message for ListBidRequests {
    type Reply = Result<Vec<BidRequestView>, CommandError>;
}

/// Asks for the bids, and with a request for the declines too.
#[derive(Debug)]
pub struct ListBids {
    /// Only those of one direction, if said.
    pub direction: Option<Direction>,
    /// Only those on one request: its id, or the beginning of it.
    pub request: Option<String>,
    /// Which part.
    pub page: Page,
}

impl Message for ListBids {
    type Reply = Result<BidList, CommandError>;
}

/// A request for bids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BidRequestView {
    /// Its id.
    pub id: BidRequestId,
    /// Which way it went.
    pub direction: Direction,
    /// Who asked; none if this node did.
    pub requester: Option<Did>,
    /// For which job.
    pub job: JobId,
    /// What is needed.
    pub requirement: Requirement,
    /// How long it may run at most.
    pub run_time: Millis,
    /// Highest acceptable price per hour, if there is a limit.
    pub max_price: Option<Price>,
    /// How many bids are wanted.
    pub wanted: u16,
    /// When it was put out, or answered.
    pub at: Timestamp,
    /// When it is void, if this node put it out.
    pub expires: Option<Timestamp>,
    /// Bids on it: those received, or that of this node.
    pub bid_count: usize,
    /// Who won it, if it was sent and somebody did.
    pub winner: Option<Did>,
    /// Why this node declined it, if it did.
    pub declined: Option<DeclineReason>,
}

/// Bids, and who declined.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BidList {
    /// The bids, newest first.
    pub bids: Vec<BidView>,
    /// Who declined; only in the list of one request.
    pub declines: Vec<DeclineView>,
}

/// A bid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BidView {
    /// Its id.
    pub id: BidId,
    /// Which way it went.
    pub direction: Direction,
    /// The other party: who asked, or who bid.
    pub peer: Did,
    /// On which request.
    pub request: BidRequestId,
    /// For which job, while the request is known.
    pub job: Option<JobId>,
    /// What is locked for it.
    pub resources: Resources,
    /// Price per hour.
    pub price: Price,
    /// When it was made, or arrived.
    pub at: Timestamp,
    /// How long its lock still holds, if it does.
    pub lease_left: Option<Millis>,
    /// What became of it.
    pub outcome: BidOutcome,
}

/// What became of a bid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum BidOutcome {
    /// Sent: its lock holds.
    Held,
    /// Sent: it was taken.
    Taken {
        /// The allocation that it became, while that is known.
        allocation: Option<AllocationId>,
    },
    /// Sent: its lock was given back.
    Released,
    /// Sent: nobody took it within its lease.
    Expired,
    /// Sent: its lock was taken back for reasons of our own.
    Withdrawn,
    /// Received: the auction goes on.
    Waiting,
    /// Received: it won.
    Chosen {
        /// Which attempt of the job.
        attempt: u32,
    },
    /// Received: it was let go.
    NotChosen,
}

/// A no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclineView {
    /// Who; none if this node did.
    pub provider: Option<Did>,
    /// The reason for programs: the code of a [`DeclineReason`], or `not_asked`.
    pub code: String,
    /// The reason for people.
    pub text: String,
    /// True if asking again later may help.
    pub is_later: bool,
}

impl DeclineView {
    fn of(provider: Option<Did>, reason: &DeclineReason) -> Self {
        // The codes are the words of the wire, which serde knows.
        let code = serde_json::to_value(reason).ok();
        let code = code.as_ref().and_then(|value| value["code"].as_str()).unwrap_or("unknown").to_owned();
        Self { provider, code, text: reason.to_string(), is_later: reason.retry() == Retry::Later }
    }
}

/// A row of either direction.
#[derive(Clone, Copy)]
enum Request<'a> {
    Sent(&'a BidRequestSentRow),
    Received(&'a BidRequestReceivedRow),
}

/// The entry of a row; `other` is when the row of the other direction began, if this node has both: then it asked
/// itself.
fn entry<I, R>(id: I, at: Timestamp, other: Option<Timestamp>, direction: Direction, row: R) -> Entry<I, R> {
    Entry { at: other.map_or(at, |other| at.min(other)), id, direction: Some(direction), row }
}

/// The requests for bids.
///
/// # Errors
/// The page begins after a request that is not known.
pub fn requests(books: &Books, query: &ListBidRequests) -> Result<Vec<BidRequestView>, CommandError> {
    let wants = |direction| query.direction.is_none_or(|wanted| wanted == direction);
    let sent = books.requests_sent().iter().filter(|_| wants(Direction::Sent));
    let received = books.requests_received().iter().filter(|_| wants(Direction::Received));
    let rows = sent.map(|(id, row)| {
        let other = books.requests_received().get(id).map(|row| row.at);
        entry(*id, row.at, other, Direction::Sent, Request::Sent(row))
    });
    let rows = rows.chain(received.map(|(id, row)| {
        let other = books.requests_sent().get(id).map(|row| row.at);
        entry(*id, row.at, other, Direction::Received, Request::Received(row))
    }));
    let rows = rows.collect();
    let mut counts: BTreeMap<BidRequestId, usize> = BTreeMap::new();
    for row in books.bids_received().values() {
        *counts.entry(row.bid.value().request).or_default() += 1;
    }
    let rows = page(rows, &query.page, Noun::BidRequest)?;
    Ok(rows.into_iter().map(|row| request_view(books, &counts, row)).collect())
}

fn request_view(
    books: &Books,
    counts: &BTreeMap<BidRequestId, usize>,
    request: Request<'_>,
) -> BidRequestView {
    let (direction, asked, at) = match request {
        Request::Sent(row) => (Direction::Sent, &row.request, row.at),
        Request::Received(row) => (Direction::Received, &row.request, row.at),
    };
    let mut view = BidRequestView {
        id: asked.id,
        direction,
        requester: None,
        job: asked.job,
        requirement: asked.requirement.clone(),
        run_time: asked.run_time,
        max_price: asked.max_price,
        wanted: asked.wanted,
        at,
        expires: None,
        bid_count: counts.get(&asked.id).copied().unwrap_or(0),
        winner: None,
        declined: None,
    };
    match request {
        Request::Sent(row) => {
            view.expires = Some(row.expires);
            let attempts = books.jobs().get(&asked.job).map(|job| job.attempts.as_slice());
            view.winner = attempts.unwrap_or_default().iter().find_map(|attempt| {
                let contract = books.contracts().get(&attempt.contract)?;
                (contract.contract.value().request == asked.id).then_some(attempt.provider)
            });
        }
        Request::Received(row) => {
            view.requester = Some(row.requester);
            // A request is answered once: with a bid or with a reason.
            view.bid_count = usize::from(row.declined.is_none());
            view.declined.clone_from(&row.declined);
        }
    }
    view
}

/// A row of either direction.
#[derive(Clone, Copy)]
enum Bid<'a> {
    Sent(&'a BidSentRow),
    Received(&'a BidReceivedRow),
}

/// The bids, and with a request the declines too.
///
/// # Errors
/// The request, or the bid after which the page begins, is not known.
pub fn bids(books: &Books, query: &ListBids, now: Timestamp) -> Result<BidList, CommandError> {
    let request = query.request.as_deref().map(|text| find_request(books, text)).transpose()?;
    let wants = |direction| query.direction.is_none_or(|wanted| wanted == direction);
    let is_on = |on: BidRequestId| request.is_none_or(|request| request == on);
    let sent = books.bids_sent().iter().filter(|_| wants(Direction::Sent));
    let received = books.bids_received().iter().filter(|_| wants(Direction::Received));
    let sent = sent.filter(|(_, row)| is_on(row.bid.value().request)).map(|(id, row)| {
        let other = books.bids_received().get(id).map(|row| row.at);
        entry(*id, row.at, other, Direction::Sent, Bid::Sent(row))
    });
    let received = received.filter(|(_, row)| is_on(row.bid.value().request)).map(|(id, row)| {
        let other = books.bids_sent().get(id).map(|row| row.at);
        entry(*id, row.at, other, Direction::Received, Bid::Received(row))
    });
    let rows = sent.chain(received).collect();
    let allocations = books.allocations().values().map(|row| (row.bid, row.id)).collect();
    let rows = page(rows, &query.page, Noun::Bid)?;
    let bids = rows.into_iter().map(|row| match row {
        Bid::Sent(row) => sent_view(books, &allocations, row, now),
        Bid::Received(row) => received_view(books, row, now),
    });
    let declines = request.map(|request| declines(books, request, wants)).unwrap_or_default();
    Ok(BidList { bids: bids.collect(), declines })
}

fn find_request(books: &Books, text: &str) -> Result<BidRequestId, CommandError> {
    // A node that asks itself knows a request from both sides.
    let ids: BTreeSet<BidRequestId> = meant::<BidRequestId>(text)
        .into_iter()
        .flat_map(|range| {
            let sent = books.requests_sent().range(range.clone()).map(|(id, _)| *id);
            sent.chain(books.requests_received().range(range).map(|(id, _)| *id))
        })
        .collect();
    only(ids.into_iter(), |_| true, Noun::BidRequest, text)
}

/// Whoever said no to a request. Of requests of ours the books keep the last answer of each node on the
/// job: a node that answered a later request of the same job differently is listed with its later answer.
fn declines(books: &Books, request: BidRequestId, wants: impl Fn(Direction) -> bool) -> Vec<DeclineView> {
    let mut declines = Vec::new();
    if wants(Direction::Received)
        && let Some(sent) = books.requests_sent().get(&request)
        && let Some(job) = books.jobs().get(&sent.request.job)
    {
        declines.extend(job.answers.iter().filter_map(|(did, answer)| match answer {
            NodeAnswer::Declined { reason } => Some(DeclineView::of(Some(*did), reason)),
            NodeAnswer::NotAsked { reason } => Some(DeclineView {
                provider: Some(*did),
                code: "not_asked".to_owned(),
                text: reason.clone(),
                is_later: true,
            }),
            NodeAnswer::Bid { .. } => None,
        }));
    }
    if wants(Direction::Sent)
        && let Some(received) = books.requests_received().get(&request)
        && let Some(reason) = &received.declined
    {
        declines.push(DeclineView::of(None, reason));
    }
    declines
}

fn sent_view(
    books: &Books,
    allocations: &BTreeMap<BidId, AllocationId>,
    row: &BidSentRow,
    now: Timestamp,
) -> BidView {
    let bid = row.bid.value();
    let lease_left = books.locks().get(&bid.id).map(|lock| Millis::from(lock.expires.saturating_since(now)));
    let outcome = match row.lock {
        LockState::Held => BidOutcome::Held,
        LockState::Ended(LockEnd::Taken) => {
            BidOutcome::Taken { allocation: allocations.get(&bid.id).copied() }
        }
        LockState::Ended(LockEnd::Released) => BidOutcome::Released,
        LockState::Ended(LockEnd::Expired) => BidOutcome::Expired,
        LockState::Ended(LockEnd::Withdrawn) => BidOutcome::Withdrawn,
    };
    BidView {
        id: bid.id,
        direction: Direction::Sent,
        peer: row.requester,
        request: bid.request,
        job: books.requests_received().get(&bid.request).map(|row| row.request.job),
        resources: bid.resources.clone(),
        price: bid.price,
        at: row.at,
        lease_left,
        outcome,
    }
}

fn received_view(books: &Books, row: &BidReceivedRow, now: Timestamp) -> BidView {
    let bid = row.bid.value();
    let job = books.jobs().get(&row.job);
    let attempts = job.map(|job| job.attempts.as_slice()).unwrap_or_default();
    let chosen = attempts.iter().find(|attempt| {
        let contract = books.contracts().get(&attempt.contract);
        contract.is_some_and(|contract| contract.contract.value().bid == bid.id)
    });
    // Ours is the shorter view of a lease: it began when the request was put out, before the bid came.
    let left = row.at.saturating_add(bid.lease.duration()).saturating_since(now);
    let is_open = !left.is_zero() && job.is_some_and(|job| job.phase == dms_messages::JobPhase::Bidding);
    let outcome = match chosen {
        Some(attempt) => BidOutcome::Chosen { attempt: attempt.id.number },
        None if is_open => BidOutcome::Waiting,
        None => BidOutcome::NotChosen,
    };
    BidView {
        id: bid.id,
        direction: Direction::Received,
        peer: row.bid.issuer(),
        request: bid.request,
        job: Some(row.job),
        resources: bid.resources.clone(),
        price: bid.price,
        at: row.at,
        lease_left: (outcome == BidOutcome::Waiting).then(|| Millis::from(left)),
        outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{StillClock, apply, bid, books, contract, did, job, lock, request, resources};
    use crate::testing::{sign_contract, signer};
    use dms_messages::{Accepted, JobPhase, Shortfall};
    use dms_storage::{Event, Lock};
    use std::sync::Arc;
    use std::time::Duration;

    const START: Timestamp = Timestamp(1_700_000_000_000);

    fn all(direction: Option<Direction>) -> ListBids {
        ListBids { direction, request: None, page: Page::default() }
    }

    fn outcomes(books: &Books, now: Timestamp) -> Vec<BidOutcome> {
        bids(books, &all(None), now).unwrap().bids.iter().map(|bid| bid.outcome).collect()
    }

    #[test]
    fn a_bid_of_ours_is_followed_to_its_end() {
        let clock = Arc::new(StillClock::default());
        let (requester, provider) = (signer(1, &clock), signer(2, &clock));
        let with_lock = |change: &dyn Fn(&mut Books, &Lock)| {
            let mut books = books(4000, 4096);
            let lock = lock(&mut books, &provider, requester.me(), 7, resources(1000, 64));
            change(&mut books, &lock);
            books
        };
        let ended =
            |end| with_lock(&move |books, lock| apply(books, Event::LockEnded { bid: lock.bid, end }));
        assert_eq!(outcomes(&ended(LockEnd::Released), START), [BidOutcome::Released]);
        assert_eq!(outcomes(&ended(LockEnd::Expired), START), [BidOutcome::Expired]);
        assert_eq!(outcomes(&ended(LockEnd::Withdrawn), START), [BidOutcome::Withdrawn]);
        let allocation = AllocationId::from_random([3; 16]);
        let taken = with_lock(&|books, lock| {
            let contract = sign_contract(contract(lock, &requester, provider.me(), 1), &requester);
            let accepted =
                Accepted { attempt: contract.value().attempt, contract: contract.content_id(), allocation };
            let accepted = provider.sign(accepted, None, Duration::from_secs(60)).unwrap();
            apply(books, Event::AllocationAccepted { allocation, contract, accepted });
        });
        assert_eq!(outcomes(&taken, START), [BidOutcome::Taken { allocation: Some(allocation) }]);

        let held = with_lock(&|_, _| {});
        let now = START.saturating_add(Duration::from_secs(4));
        let list = bids(&held, &all(Some(Direction::Sent)), now).unwrap();
        assert_eq!(list.bids[0].outcome, BidOutcome::Held);
        assert_eq!(list.bids[0].lease_left, Some(Millis(7000)));
        assert_eq!(
            (list.bids[0].peer, list.bids[0].job),
            (requester.me(), Some(JobId::from_random([7; 16])))
        );
        assert_eq!(bids(&held, &all(Some(Direction::Received)), now), Ok(BidList::default()));
        let asked = requests(&held, &ListBidRequests { direction: None, page: Page::default() }).unwrap();
        assert_eq!((asked[0].requester, asked[0].bid_count), (Some(requester.me()), 1));
        assert_eq!(asked[0].declined, None);
    }

    /// A job of ours, put out to bid, with a bid of node 2 on it.
    fn asked() -> (Books, BidRequestId, dms_messages::Signed<dms_messages::Bid>) {
        let clock = Arc::new(StillClock::default());
        let (job, provider) = (job(), signer(2, &clock));
        let request = request(&job);
        let bid = bid(&request, 5, &provider);
        let mut books = Books::default();
        apply(&mut books, Event::JobSubmitted { job: job.clone() });
        apply(&mut books, Event::JobMoved { job: job.id, phase: JobPhase::Bidding });
        let id = request.id;
        apply(&mut books, Event::BidRequestSent { request, expires: START });
        apply(&mut books, Event::BidReceived { job: job.id, bid: bid.clone() });
        (books, id, bid)
    }

    #[test]
    fn a_bid_of_a_peers_waits_wins_or_is_not_chosen() {
        let (mut books, request, bid) = asked();
        assert_eq!(outcomes(&books, START), [BidOutcome::Waiting]);
        let late = START.saturating_add(Duration::from_secs(11));
        assert_eq!(outcomes(&books, late), [BidOutcome::NotChosen], "its lease is over");
        let clock = Arc::new(StillClock::default());
        let requester = signer(1, &clock);
        let lock = Lock {
            bid: bid.value().id,
            request,
            requester: requester.me(),
            job: job().id,
            pod: 0,
            resources: resources(1000, 64),
            expires: START,
        };
        let contract = sign_contract(contract(&lock, &requester, did(2), 1), &requester);
        let attempt = contract.value().attempt;
        let minted = Event::AttemptMinted { attempt, provider: did(2), addresses: vec![], contract };
        apply(&mut books, minted);
        assert_eq!(outcomes(&books, START), [BidOutcome::Chosen { attempt: 1 }]);
        let view = requests(&books, &ListBidRequests { direction: None, page: Page::default() }).unwrap();
        assert_eq!((view[0].winner, view[0].bid_count, view[0].requester), (Some(did(2)), 1, None));
    }

    #[test]
    fn a_node_that_runs_its_own_jobs_pages_through_both_rows_of_each() {
        let clock = Arc::new(StillClock::default());
        let me = signer(1, &clock);
        let mut books = books(4000, 4096);
        // The same request and bid as this node sent them and as it heard of them later, in another order.
        for number in [7u8, 8, 9] {
            let lock = lock(&mut books, &me, me.me(), number, resources(100, 64));
            let bid = books.bids_sent()[&lock.bid].bid.clone();
            let request = books.requests_received()[&lock.request].request.clone();
            let (id, at) = (lock.job, START.saturating_add(Duration::from_secs(u64::from(20 - number))));
            for event in [
                Event::JobSubmitted { job: dms_messages::Job { id, ..job() } },
                Event::JobMoved { job: id, phase: JobPhase::Bidding },
                Event::BidRequestSent { request, expires: START },
                Event::BidReceived { job: id, bid },
            ] {
                books.apply(&dms_storage::Entry { at, event }).unwrap();
            }
            books.check().unwrap();
        }
        let bids_page = |page| {
            let query = ListBids { page, ..all(None) };
            let list = bids(&books, &query, START).unwrap().bids;
            list.iter().map(|bid| (bid.id.to_string(), bid.direction)).collect::<Vec<_>>()
        };
        let requests_page = |page| {
            let list = requests(&books, &ListBidRequests { direction: None, page }).unwrap();
            list.iter().map(|request| (request.id.to_string(), request.direction)).collect::<Vec<_>>()
        };
        let lists: [&dyn Fn(Page) -> Vec<(String, Direction)>; 2] = [&bids_page, &requests_page];
        for list in lists {
            let whole = list(Page::default());
            assert_eq!(whole.len(), 6, "{whole:?}");
            for limit in 1..=6 {
                let (mut joined, mut after) = (Vec::new(), None);
                loop {
                    let part = list(Page { limit, after });
                    let Some((last, _)) = part.last() else { break };
                    after = Some(last.clone());
                    joined.extend(part);
                }
                assert_eq!(joined, whole, "{limit}");
            }
        }
        let request = books.requests_sent().keys().next().unwrap().to_string();
        let on = ListBids { request: Some(request), ..all(None) };
        assert_eq!(bids(&books, &on, START).unwrap().bids.len(), 2, "a whole id is not ambiguous");
    }

    #[test]
    fn declines_are_listed_with_their_request_only_and_in_the_words_of_the_wire() {
        let (mut books, request, _) = asked();
        let shortfall = Shortfall {
            dimension: dms_messages::Dimension::Memory,
            needed: 8192,
            had: 1024,
            is_owners: false,
        };
        let reason = DeclineReason::TooBig { shortfalls: vec![shortfall] };
        apply(&mut books, Event::DeclineReceived { job: job().id, provider: did(3), reason });
        let reason = "gave no answer in time".to_owned();
        apply(&mut books, Event::NotAsked { job: job().id, provider: did(4), reason });
        assert_eq!(bids(&books, &all(None), START).unwrap().declines, []);
        let on = |text: &str| bids(&books, &ListBids { request: Some(text.to_owned()), ..all(None) }, START);
        let list = on(&request.to_string()[..6]).unwrap();
        assert_eq!(list.bids.len(), 1);
        let mut codes: Vec<_> =
            list.declines.iter().map(|no| (no.code.as_str(), no.text.as_str(), no.is_later)).collect();
        codes.sort();
        assert_eq!(
            codes,
            [
                ("not_asked", "gave no answer in time", true),
                ("too_big", "needs 8 GiB memory, have 1 GiB", false)
            ]
        );
        assert_eq!(
            on("ffff").unwrap_err(),
            CommandError::UnknownId { noun: Noun::BidRequest, id: "ffff".to_owned() }
        );
    }
}
