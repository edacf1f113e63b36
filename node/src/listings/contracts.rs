//! Allocations and contracts: what runs or ran, and on what terms.

use dms_actors::{Did, Message};
use dms_messages::{
    Accepted, AllocationId, AllocationResult, AttemptId, BidId, BidRequestId, ContentId, Contract, JobId,
    Millis, Price, Resources, Signed, Timestamp,
};
use dms_storage::Books;
use dms_storage::books::{AllocationRow, AttemptRow, AttemptState, ContractRow};
use serde::{Deserialize, Serialize};

use super::past::Part;
use super::{Entry, Noun, Page, Role, is_in, meant, only, page};
use crate::commands::CommandError;
use crate::monitor::AllocationUsage;

/// Asks for the allocations, here and elsewhere.
#[derive(Debug)]
pub struct ListAllocations {
    /// Which part.
    pub page: Page,
}

impl Message for ListAllocations {
    type Reply = Result<Vec<AllocationView>, CommandError>;
}

/// Asks how an allocation stands.
#[derive(Debug)]
pub struct ShowAllocation {
    /// Its id, or the beginning of it.
    pub id: String,
}

impl Message for ShowAllocation {
    type Reply = Result<AllocationView, CommandError>;
}

/// Asks for the contracts.
#[derive(Debug)]
pub struct ListContracts {
    /// Which part.
    pub page: Page,
}

impl Message for ListContracts {
    type Reply = Result<Vec<ContractView>, CommandError>;
}

/// Asks for a contract with its documents.
#[derive(Debug)]
pub struct ShowContract {
    /// The beginning of its CID, or of the id of its bid, its job or its allocation.
    pub id: String,
}

impl Message for ShowContract {
    type Reply = Result<ContractDocuments, CommandError>;
}

/// A job's attempt as an allocation of capacity, here or elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocationView {
    /// Its id, given by its provider.
    pub id: AllocationId,
    /// What this node is in it.
    pub role: Role,
    /// Who asked.
    pub requester: Did,
    /// Who runs it.
    pub provider: Did,
    /// Which attempt of which job.
    pub attempt: AttemptId,
    /// Which task of the pod, from 0.
    #[serde(default)]
    pub task: u16,
    /// The task's name, where there are several and the contract is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_name: Option<String>,
    /// Under which contract.
    pub contract: ContentId,
    /// By which bid, while the contract is known.
    pub bid: Option<BidId>,
    /// What is granted, while the contract is known.
    pub resources: Option<Resources>,
    /// Price per hour, likewise.
    pub price: Option<Price>,
    /// How long it may run, likewise.
    pub run_time: Option<Millis>,
    /// How it stands, as far as this node knows.
    pub state: AttemptState,
    /// What it left.
    pub result: Option<AllocationResult>,
    /// When it was accepted here, or minted for elsewhere.
    pub began: Timestamp,
    /// When it last moved.
    pub moved: Timestamp,
    /// True once the requester has the result; known at the provider only.
    pub is_acknowledged: Option<bool>,
    /// What it uses now, while it runs; known at the provider only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<AllocationUsage>,
}

/// A contract in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractView {
    /// Its content identifier: that of the document which the requester signed.
    pub cid: ContentId,
    /// What this node is in it.
    pub role: Role,
    /// Who asked, and signed first.
    pub requester: Did,
    /// Who runs, and countersigns.
    pub provider: Did,
    /// Which attempt of which job.
    pub attempt: AttemptId,
    /// On which request.
    pub request: BidRequestId,
    /// By which bid.
    pub bid: BidId,
    /// What is granted.
    pub resources: Resources,
    /// Price per hour.
    pub price: Price,
    /// How long it may run at most.
    pub run_time: Millis,
    /// When the requester signed.
    pub signed_at: Timestamp,
    /// When the provider countersigned; none if it did not.
    pub countersigned_at: Option<Timestamp>,
    /// The provider's allocation, once countersigned: the first task's.
    pub allocation: Option<AllocationId>,
    /// Until when it is to be shown; signatures hold beyond.
    pub expires_at: Timestamp,
}

/// A contract with the documents themselves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContractDocuments {
    /// In short.
    #[serde(flatten)]
    pub view: ContractView,
    /// The terms, whole.
    pub terms: Contract,
    /// The document that the requester signed (in hexadecimal digits, as every document in JSON).
    pub contract_document: Signed<Contract>,
    /// The provider's countersignature, if there is one.
    pub accepted_document: Option<Signed<Accepted>>,
}

/// A row of either role.
#[derive(Clone, Copy)]
enum Row<'a> {
    Here(&'a AllocationRow),
    /// A task of an attempt that became allocations.
    Elsewhere(AllocationId, u16, &'a AttemptRow),
}

impl Row<'_> {
    fn entry(self) -> Entry<AllocationId, Self> {
        let (at, id) = match self {
            Self::Here(row) => (row.accepted, row.id),
            Self::Elsewhere(id, _, row) => (row.minted, id),
        };
        Entry { at, id, direction: None, row: self }
    }
}

/// Every allocation here, and every attempt elsewhere that became one; a node's own job is listed once.
fn rows(books: &Books) -> impl Iterator<Item = Row<'_>> {
    let attempts = books.jobs().values().flat_map(|job| &job.attempts);
    let elsewhere = attempts
        .flat_map(|attempt| {
            let terms = books.contracts().get(&attempt.contract).map(|row| row.contract.value());
            task_ids(attempt, terms).map(move |(task, id)| Row::Elsewhere(id, task, attempt))
        })
        .filter(|row| !books.allocations().contains_key(&row.entry().id));
    books.allocations().values().map(Row::Here).chain(elsewhere)
}

/// Memory's part of a page of allocations.
///
/// # Errors
/// The page begins after several allocations.
pub(crate) fn allocations_part(
    books: &Books,
    me: Did,
    query: &Page,
) -> Result<Part<AllocationId, AllocationView>, CommandError> {
    let entries = rows(books).map(Row::entry).collect();
    Part::of(entries, query, Noun::Allocation, |row| allocation_view(books, me, row))
}

/// The allocations in memory.
///
/// # Errors
/// The page begins after an allocation that is not known.
pub fn allocations(books: &Books, me: Did, query: &Page) -> Result<Vec<AllocationView>, CommandError> {
    let rows = page(rows(books).map(Row::entry).collect(), query, Noun::Allocation)?;
    Ok(rows.into_iter().map(|row| allocation_view(books, me, row)).collect())
}

/// The one allocation in memory that a person means.
///
/// # Errors
/// None, or several, are meant.
pub fn allocation(books: &Books, me: Did, text: &str) -> Result<AllocationView, CommandError> {
    let range = meant::<AllocationId>(text);
    let is_meant = |row: &Row<'_>| is_in(&range, &row.entry().id);
    let row = only(rows(books), is_meant, Noun::Allocation, text)?;
    Ok(allocation_view(books, me, row))
}

fn allocation_view(books: &Books, me: Did, row: Row<'_>) -> AllocationView {
    let cid = match row {
        Row::Here(row) => row.contract,
        Row::Elsewhere(_, _, row) => row.contract,
    };
    let terms = books.contracts().get(&cid).map(|row| row.contract.value());
    match row {
        Row::Here(row) => view_here(me, row, terms),
        Row::Elsewhere(id, task, row) => view_elsewhere(me, id, task, row, terms),
    }
}

/// The tasks of an attempt, and the allocation of each; none if it was not accepted.
pub(crate) fn task_ids(
    attempt: &AttemptRow,
    terms: Option<&Contract>,
) -> impl Iterator<Item = (u16, AllocationId)> + use<> {
    let count = terms.map_or(attempt.tasks.len().max(1), |terms| terms.pod.tasks.len());
    attempt.allocation.into_iter().flat_map(move |first| {
        (0..u16::try_from(count).unwrap_or(u16::MAX)).map(move |task| (task, first.of_task(task)))
    })
}

/// The name of a task, where there are several.
fn task_name(terms: Option<&Contract>, task: u16) -> Option<String> {
    let pod = &terms.filter(|terms| !terms.pod.is_single())?.pod;
    pod.tasks.get(usize::from(task)).map(|task| task.name.clone())
}

/// How long a task may run.
fn run_time(terms: &Contract, task: u16) -> Millis {
    terms.pod.tasks.get(usize::from(task)).map_or(Millis(0), |task| task.timeout)
}

/// An allocation that runs or ran here.
pub(super) fn view_here(me: Did, row: &AllocationRow, terms: Option<&Contract>) -> AllocationView {
    AllocationView {
        id: row.id,
        role: if row.requester == me { Role::Both } else { Role::Provider },
        requester: row.requester,
        provider: me,
        attempt: row.attempt,
        task: row.task,
        task_name: task_name(terms, row.task),
        contract: row.contract,
        bid: Some(row.bid),
        resources: Some(row.resources.clone()),
        price: terms.map(|terms| terms.price),
        run_time: terms.map(|terms| run_time(terms, row.task)),
        state: AttemptState::Observed { state: row.state.clone() },
        result: row.result.clone(),
        began: row.accepted,
        moved: row.moved,
        is_acknowledged: Some(row.is_acknowledged),
        usage: None,
    }
}

/// An allocation that a provider runs or ran for us.
pub(super) fn view_elsewhere(
    me: Did,
    id: AllocationId,
    task: u16,
    row: &AttemptRow,
    terms: Option<&Contract>,
) -> AllocationView {
    let share = |terms: &Contract| terms.pod.shares(&terms.resources)?.into_iter().nth(usize::from(task));
    // What was not heard of a task is what is known of its pod.
    let (state, result, moved) = match row.tasks.get(usize::from(task)) {
        Some(task) => (AttemptState::Observed { state: task.state.clone() }, task.result.clone(), task.moved),
        None => (row.state.clone(), row.result.clone(), row.moved),
    };
    // One that was not heard of to the end shares the end of its attempt.
    let state = if row.state.is_over() && !state.is_over() { row.state.clone() } else { state };
    AllocationView {
        id,
        role: if row.provider == me { Role::Both } else { Role::Requester },
        requester: me,
        provider: row.provider,
        attempt: row.id,
        task,
        task_name: task_name(terms, task),
        contract: row.contract,
        bid: terms.map(|terms| terms.bid),
        resources: terms.and_then(share),
        price: terms.map(|terms| terms.price),
        run_time: terms.map(|terms| run_time(terms, task)),
        state,
        result,
        began: row.minted,
        moved,
        is_acknowledged: None,
        usage: None,
    }
}

/// Memory's part of a page of contracts.
///
/// # Errors
/// The page begins after several contracts.
pub(crate) fn contracts_part(
    books: &Books,
    me: Did,
    query: &Page,
) -> Result<Part<ContentId, ContractView>, CommandError> {
    Part::of(contract_entries(books), query, Noun::Contract, |(cid, row)| contract_view(me, cid, row))
}

/// The contracts in memory.
///
/// # Errors
/// The page begins after a contract that is not known.
pub fn contracts(books: &Books, me: Did, query: &Page) -> Result<Vec<ContractView>, CommandError> {
    let rows = page(contract_entries(books), query, Noun::Contract)?;
    Ok(rows.into_iter().map(|(cid, row)| contract_view(me, cid, row)).collect())
}

fn contract_entries(books: &Books) -> Vec<Entry<ContentId, (ContentId, &ContractRow)>> {
    // By this node's own clock: the signed time is in whole seconds.
    books
        .contracts()
        .iter()
        .map(|(cid, row)| Entry { at: row.first, id: *cid, direction: None, row: (*cid, row) })
        .collect()
}

/// The one contract in memory that a person means, with its documents.
///
/// # Errors
/// None, or several, are meant.
pub fn contract(books: &Books, me: Did, text: &str) -> Result<ContractDocuments, CommandError> {
    let (cid, row) = find_contract(books, text)?;
    Ok(documents(me, cid, row))
}

/// A contract with its documents.
pub(super) fn documents(me: Did, cid: ContentId, row: &ContractRow) -> ContractDocuments {
    ContractDocuments {
        view: contract_view(me, cid, row),
        terms: row.contract.value().clone(),
        contract_document: row.contract.clone(),
        accepted_document: row.accepted.clone(),
    }
}

/// The one contract that a person means. Its CID is the key of its row: no document is hashed for it.
fn find_contract<'a>(books: &'a Books, text: &str) -> Result<(ContentId, &'a ContractRow), CommandError> {
    let cids = meant::<ContentId>(text);
    // A whole CID, or enough of one: no other id is as long.
    if let Some(range) = cids.clone().filter(|range| range.start() == range.end()) {
        let rows = books.contracts().range(range).map(|(cid, row)| (*cid, row));
        return only(rows, |_| true, Noun::Contract, text);
    }
    let (bids, jobs) = (meant::<BidId>(text), meant::<JobId>(text));
    let allocations = meant::<AllocationId>(text);
    let is_meant = |(cid, row): &(ContentId, &ContractRow)| {
        let terms = row.contract.value();
        is_in(&cids, cid)
            || is_in(&bids, &terms.bid)
            || is_in(&jobs, &terms.attempt.job)
            || allocation_ids(row).any(|allocation| is_in(&allocations, &allocation))
    };
    let rows = books.contracts().iter().map(|(cid, row)| (*cid, row));
    only(rows, is_meant, Noun::Contract, text)
}

/// The allocations under a contract, in the order of its tasks; none if it was not countersigned.
pub(super) fn allocation_ids(row: &ContractRow) -> impl Iterator<Item = AllocationId> + use<> {
    let first = row.accepted.as_ref().map(|accepted| accepted.value().allocation);
    let count = u16::try_from(row.contract.value().pod.tasks.len()).unwrap_or(u16::MAX);
    first.into_iter().flat_map(move |first| (0..count).map(move |task| first.of_task(task)))
}

pub(super) fn contract_view(me: Did, cid: ContentId, row: &ContractRow) -> ContractView {
    let terms = row.contract.value();
    let header = row.contract.header();
    let role = match (terms.requester == me, terms.provider == me) {
        (true, true) => Role::Both,
        (true, false) => Role::Requester,
        _ => Role::Provider,
    };
    ContractView {
        cid,
        role,
        requester: terms.requester,
        provider: terms.provider,
        attempt: terms.attempt,
        request: terms.request,
        bid: terms.bid,
        resources: terms.resources.clone(),
        price: terms.price,
        run_time: terms.pod.run_time(),
        signed_at: header.issued_at,
        countersigned_at: row.accepted.as_ref().map(|accepted| accepted.header().issued_at),
        allocation: row.accepted.as_ref().map(|accepted| accepted.value().allocation),
        expires_at: header.expires_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{StillClock, apply, books, contract, job, lock, resources, sign_contract, signer};
    use dms_messages::AllocationState;
    use dms_storage::Event;
    use std::sync::Arc;
    use std::time::Duration;

    /// The books of provider and requester after one contract; what they agreed on.
    fn agreed(is_heard: bool) -> (Books, Books, Signed<Contract>, AllocationId) {
        let clock = Arc::new(StillClock::default());
        let (requester, provider) = (signer(1, &clock), signer(2, &clock));
        let mut theirs = books(4000, 4096);
        let lock = lock(&mut theirs, &provider, requester.me(), 1, resources(1000, 64));
        let contract = sign_contract(contract(&lock, &requester, provider.me(), 1), &requester);
        let allocation = AllocationId::from_random([3; 16]);
        let attempt = contract.value().attempt;
        let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
        let accepted = provider.sign(accepted, Some(requester.me()), Duration::from_secs(60)).unwrap();
        apply(
            &mut theirs,
            Event::AllocationAccepted { allocation, contract: contract.clone(), accepted: accepted.clone() },
        );
        let mut ours = Books::default();
        apply(&mut ours, Event::JobSubmitted { job: job() });
        apply(
            &mut ours,
            Event::AttemptMinted {
                attempt,
                provider: provider.me(),
                addresses: vec![],
                contract: contract.clone(),
            },
        );
        if is_heard {
            apply(&mut ours, Event::AttemptAccepted { accepted });
        }
        (theirs, ours, contract, allocation)
    }

    #[test]
    fn an_allocation_is_the_same_thing_from_both_sides() {
        let (theirs, ours, contract, id) = agreed(true);
        let (requester, provider) = (contract.value().requester, contract.value().provider);
        let here = allocations(&theirs, provider, &Page::default()).unwrap().remove(0);
        let there = allocations(&ours, requester, &Page::default()).unwrap().remove(0);
        assert_eq!((here.role, there.role), (Role::Provider, Role::Requester));
        assert_eq!((here.is_acknowledged, there.is_acknowledged), (Some(false), None));
        let accepted = AttemptState::Observed { state: AllocationState::Accepted };
        assert_eq!((&here.state, &there.state), (&accepted, &accepted));
        let seen_there = AllocationView { role: Role::Requester, is_acknowledged: None, ..here.clone() };
        assert_eq!(there, seen_there);
        assert_eq!(allocation(&theirs, provider, &id.to_string()[..4]), Ok(here));
        let unknown = CommandError::UnknownId { noun: Noun::Allocation, id: "ff".to_owned() };
        assert_eq!(allocation(&theirs, provider, "ff"), Err(unknown));
    }

    #[test]
    fn contracts_of_one_second_are_newest_first_as_their_allocations_are() {
        let clock = Arc::new(StillClock::default());
        let (requester, provider) = (signer(1, &clock), signer(2, &clock));
        let (mut ours, mut theirs) = (Books::default(), books(4000, 4096));
        let mut minted = Vec::new();
        // All signed in one second, each a few milliseconds after the one before.
        for number in 1..=9u8 {
            clock.advance(Duration::from_millis(7));
            let at = requester.now();
            let record = |books: &mut Books, event| {
                books.apply(&dms_storage::Entry { at, event }).unwrap();
            };
            let lock = lock(&mut theirs, &provider, requester.me(), number, resources(100, 64));
            let contract = sign_contract(contract(&lock, &requester, provider.me(), 1), &requester);
            let attempt = contract.value().attempt;
            let allocation = AllocationId::from_random([number; 16]);
            let accepted = Accepted { attempt, contract: contract.content_id(), allocation };
            let accepted = provider.sign(accepted, None, Duration::from_secs(60)).unwrap();
            minted.push(contract.content_id());
            let job = dms_messages::Job { id: attempt.job, ..job() };
            record(&mut ours, Event::JobSubmitted { job });
            let (addresses, provider) = (vec![], provider.me());
            let signed = contract.clone();
            record(&mut ours, Event::AttemptMinted { attempt, provider, addresses, contract: signed });
            record(&mut ours, Event::AttemptAccepted { accepted: accepted.clone() });
            record(&mut theirs, Event::AllocationAccepted { allocation, contract, accepted });
        }
        minted.reverse();
        for books in [&ours, &theirs] {
            let me = requester.me();
            let list = |limit| Page { limit, after: None };
            let cids = |limit| -> Vec<ContentId> {
                contracts(books, me, &list(limit)).unwrap().into_iter().map(|view| view.cid).collect()
            };
            assert_eq!(cids(50), minted);
            assert_eq!(cids(1), minted[..1], "the newest of all");
            let of_allocations = allocations(books, me, &list(50)).unwrap();
            assert_eq!(of_allocations.into_iter().map(|view| view.contract).collect::<Vec<_>>(), minted);
        }
    }

    #[test]
    fn what_was_not_accepted_is_a_contract_of_one_and_no_allocation() {
        let (_, ours, contract, _) = agreed(false);
        let me = contract.value().requester;
        assert_eq!(allocations(&ours, me, &Page::default()), Ok(vec![]));
        let list = contracts(&ours, me, &Page::default()).unwrap();
        assert_eq!((list[0].countersigned_at, list[0].allocation), (None, None));
        let documents = super::contract(&ours, me, &contract.content_id().to_string()).unwrap();
        assert_eq!(documents.accepted_document, None);
        assert_eq!(documents.contract_document, contract);
    }

    #[test]
    fn a_contract_goes_by_many_names_and_travels_as_json() {
        let (theirs, ours, contract, id) = agreed(true);
        let terms = contract.value();
        let names = [
            contract.content_id().to_string()[..18].to_owned(),
            terms.bid.to_string(),
            terms.attempt.job.to_string()[..8].to_owned(),
            id.to_string()[..8].to_owned(),
        ];
        for name in names {
            for (books, me, role) in
                [(&theirs, terms.provider, Role::Provider), (&ours, terms.requester, Role::Requester)]
            {
                let documents = super::contract(books, me, &name).unwrap();
                assert_eq!((documents.view.role, documents.view.allocation), (role, Some(id)), "{name}");
                let json = serde_json::to_string(&documents).unwrap();
                let read: ContractDocuments = serde_json::from_str(&json).unwrap();
                assert_eq!(read.contract_document.bytes(), contract.bytes());
                assert_eq!(read.accepted_document, documents.accepted_document);
            }
        }
        assert!(matches!(
            super::contract(&ours, terms.requester, ""),
            Err(CommandError::UnknownId { noun: Noun::Contract, .. })
        ));
    }
}
