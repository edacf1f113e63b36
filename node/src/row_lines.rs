//! Rows of the database as lines that people read: under which name, and what the row says in words.
//!
//! Called for `dms db query`, by a running node and without one. Pure, and in the words of [`crate::log_lines`]: a row
//! is what its events left. Texts of peers stand in the words as they came: whoever prints them escapes them.

use dms_messages::{JobEnd, Timestamp};
use dms_storage::ArchivedRow;
use dms_storage::books::{AllocationRow, ContractRow, JobRow, LockState};
use dms_storage::reader::{AnyRow, QueriedRow};
use serde::{Deserialize, Serialize};

use crate::log_lines::{an_hour, asked, attempt, cid, declined_because, id, left, text_of, trust_row};
use crate::time_text::to_the_second;

/// One row, as people and programs see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowLine {
    /// The bytes of its key, as hexadecimal digits.
    pub key: String,
    /// The key for people: an id, a time, a number.
    pub name: String,
    /// What it says, in words. May hold texts of peers.
    pub text: String,
    /// The whole row, if it was asked for; signed documents as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row: Option<serde_json::Value>,
}

impl RowLine {
    /// The line of a row; with the whole row if `is_whole`.
    pub fn of(queried: &QueriedRow, is_whole: bool) -> Self {
        Self {
            key: hex(&queried.key),
            name: queried.name.clone(),
            text: text(&queried.row),
            row: is_whole.then(|| serde_json::to_value(&queried.row).expect("a row is plain data")),
        }
    }
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn text(row: &AnyRow) -> String {
    match row {
        AnyRow::SchemaVersion(version) => format!("schema version {version}"),
        AnyRow::Card(card) => format!("this node is {}", card.issuer().short()),
        AnyRow::Preferences(text) => format!("preferences of {} lines", text.lines().count()),
        AnyRow::Event(entry) => {
            format!("{}  {}: {}", to_the_second(entry.at), entry.event.name(), text_of(entry))
        }
        AnyRow::Registered(capability) => capability.resources.to_string(),
        AnyRow::Resources(resources) => resources.to_string(),
        AnyRow::Lock(lock) => {
            let until = to_the_second(lock.expires);
            format!(
                "for {}, job {}: {}, until {until}",
                lock.requester.short(),
                id(&lock.job),
                lock.resources
            )
        }
        AnyRow::BidRequestSent(row) => format!("sent {}: {}", to_the_second(row.at), asked(&row.request)),
        AnyRow::BidRequestReceived(row) => {
            let answer = match &row.declined {
                None => "a bid was made".to_owned(),
                Some(reason) => format!("declined: {}", declined_because(reason)),
            };
            let asked = asked(&row.request);
            format!("received {} from {}: {asked}; {answer}", to_the_second(row.at), row.requester.short())
        }
        AnyRow::BidSent(row) => {
            let lock = match row.lock {
                LockState::Held => "its lock holds".to_owned(),
                LockState::Ended(end) => format!("its lock {}", crate::log_lines::ended(end)),
            };
            format!(
                "sent {} to {}, request {}: {}; {lock}",
                to_the_second(row.at),
                row.requester.short(),
                id(&row.bid.value().request),
                an_hour(row.bid.value().price)
            )
        }
        AnyRow::BidReceived(row) => format!(
            "received {} from {}, job {}: {}",
            to_the_second(row.at),
            row.bid.issuer().short(),
            id(&row.job),
            an_hour(row.bid.value().price)
        ),
        AnyRow::Job(row) => job(row),
        AnyRow::Allocation(row) => allocation(row),
        AnyRow::Contract(row) => contract(row),
        AnyRow::Seen(until) => format!("remembered until {}", to_the_second(*until)),
        AnyRow::LockExpiry { expires, bid } => {
            format!("the lock of bid {} ends {}", id(bid), to_the_second(*expires))
        }
        AnyRow::PeerContract { peer, contract } => {
            format!("contract {} with {}", cid(contract), peer.short())
        }
        AnyRow::Standing(standing) => {
            let percent = standing.unused.div_ceil(10_000);
            format!(
                "{percent}% of the machine for one lease, not used, as of {}",
                to_the_second(standing.since)
            )
        }
        AnyRow::Trust(row) => trust_row(row),
        AnyRow::Archived(archived) => archived_text(archived.at, &archived.row),
        AnyRow::Contents { of, contents } => format!(
            "began {}; needs {} blobs and {} trees",
            to_the_second(of.at),
            contents.blobs.len(),
            contents.trees.len()
        ),
        AnyRow::Snapshot { row, .. } => text(row),
        AnyRow::Bytes(bytes) => format!("{} bytes: {}", bytes.len(), hex(bytes)),
    }
}

fn archived_text(at: Timestamp, row: &ArchivedRow) -> String {
    let row = match row {
        ArchivedRow::Job(row) => job(row),
        ArchivedRow::Allocation(row) => allocation(row),
        ArchivedRow::Contract(row) => contract(row),
    };
    format!("began {}: {row}", to_the_second(at))
}

fn job(row: &JobRow) -> String {
    let end = match &row.end {
        Some(JobEnd::Failed { failure }) => format!(": {failure}"),
        _ => String::new(),
    };
    let tries = row.attempts.len();
    format!("{:?} {}{end}; tries: {tries}", row.job.name, row.phase)
}

fn allocation(row: &AllocationRow) -> String {
    let state = format!("{}{}", row.state, left(row.result.as_ref()));
    format!("for {}, {}: {}; {state}", row.requester.short(), attempt(&row.attempt), row.resources)
}

fn contract(row: &ContractRow) -> String {
    let terms = row.contract.value();
    let signed = if row.accepted.is_some() { "signed by both" } else { "signed by the requester only" };
    format!("with {}, {}: {}; {signed}", row.peer.short(), attempt(&terms.attempt), an_hour(terms.price))
}
