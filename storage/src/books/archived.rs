//! What one event changes on disk: rows of what is current, and rows that leave the memory for the archive.
//!
//! Called by the store, which writes both in the event's own batch. The fold makes them and never reads them back.

use dms_messages::Timestamp;
use serde::{Deserialize, Serialize};

use super::LiveContents;
use super::rows::{AllocationRow, ContractRow, JobRow};
use crate::rows::Row;

/// One change of what is on disk.
#[derive(Debug, Clone)]
pub enum Change {
    /// The row is to be written as the books stand now, or deleted if it is in them no more.
    Row(Row),
    /// The row goes into the archive. A [`Change::Row`] of its own, in the same list, deletes the live one.
    Archive(Box<Archived>),
}

impl From<Row> for Change {
    fn from(row: Row) -> Self {
        Self::Row(row)
    }
}

/// Something that is over, as it was in memory last.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Archived {
    /// When it began: a job's submission, an allocation's acceptance, a contract's first record. Lists are in this
    /// order.
    pub at: Timestamp,
    /// When it was over: a job's or an allocation's last move; for a contract when nothing current referred to it any
    /// more and it was archived. What was over for longer than the archive is kept is forgotten.
    pub ended: Timestamp,
    /// The row.
    pub row: ArchivedRow,
}

/// The row of something that is over.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArchivedRow {
    /// A job of ours.
    Job(JobRow),
    /// An allocation that ran here.
    Allocation(AllocationRow),
    /// A contract.
    Contract(ContractRow),
}

impl Archived {
    /// The contents that a person may still ask for: a job's modules, inputs and results. What ran here for somebody
    /// else needs none any more.
    pub fn contents(&self) -> LiveContents {
        let mut contents = LiveContents::default();
        if let ArchivedRow::Job(row) = &self.row {
            contents.add_job(row);
        }
        contents
    }
}

impl From<JobRow> for Archived {
    fn from(row: JobRow) -> Self {
        Self { at: row.job.submitted, ended: row.moved, row: ArchivedRow::Job(row) }
    }
}

impl From<AllocationRow> for Archived {
    fn from(row: AllocationRow) -> Self {
        Self { at: row.accepted, ended: row.moved, row: ArchivedRow::Allocation(row) }
    }
}

impl Archived {
    /// A contract that nothing current refers to since `ended`.
    pub fn contract(row: ContractRow, ended: Timestamp) -> Self {
        Self { at: row.first, ended, row: ArchivedRow::Contract(row) }
    }
}
