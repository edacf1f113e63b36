//! Brings a database of an older schema version to this program's, before anybody uses its books.
//!
//! Called by [`crate::Store::open`] alone. The log is the truth and its events stay readable for ever, so no step has
//! to understand old rows: it names the families whose rows its program began to write otherwise, and those are not
//! compared with the log but written anew from it, a page at a time. Every other family is compared as always. The new
//! version is written last of all and synced: after a crash before it, the same is simply done again.
//!
//! For a further version: raise [`SCHEMA_VERSION`], add a function to [`STEPS`], and keep a database of the version
//! before as a fixture beside `version_1.txt` (family, key and value of each row, the bytes in hexadecimal).

use std::collections::BTreeSet;

use crate::books::Books;
use crate::engine::{Batch, Durability, Engine, EngineError, ScanRange};
use crate::rows::{all_rows, row_value};
use crate::schema::{self, Family, SCHEMA_VERSION, SCHEMA_VERSION_KEY};
use crate::snapshot::flush_large;

/// How many old rows are looked up at a time.
const PAGE: usize = 1024;

/// The families whose rows differ between one version and the next.
type Step = fn() -> &'static [Family];

/// The step from version n at place n - 1.
const STEPS: [Step; SCHEMA_VERSION as usize - 1] = [from_1_to_2, from_2_to_3, from_3_to_4];

/// A job's row also says when the first bid came, how often each node declined, and of each attempt the price and
/// since when it runs.
fn from_1_to_2() -> &'static [Family] {
    &[Family::Jobs]
}

/// A bid's row says which attempt its lock was taken for, and a contract's when it was first recorded. Locks are also
/// listed by expiry, contracts by peer, and requesters have a standing. The archive and the snapshot begin empty.
fn from_2_to_3() -> &'static [Family] {
    &[Family::BidsSent, Family::Contracts, Family::LocksByExpiry, Family::ContractsByPeer, Family::Standing]
}

/// Whom the node trusts is in the books; in older ones nobody is.
fn from_3_to_4() -> &'static [Family] {
    &[Family::Trust]
}

/// The version in which the database is stored.
///
/// # Errors
/// [`EngineError::NewerSchema`] if a newer program wrote it, [`EngineError::Damaged`] if there is none.
pub(crate) fn stored_version(engine: &dyn Engine) -> Result<u32, EngineError> {
    let row = engine.get(Family::Meta, SCHEMA_VERSION_KEY)?;
    schema::check_version(&row.ok_or_else(|| EngineError::damaged("there is no schema version"))?)
}

/// The families whose rows a database of version `found` holds in an older form; none at this program's own.
pub(crate) fn outdated_families(found: u32) -> BTreeSet<Family> {
    // `check_version` let neither 0 nor a newer version pass.
    STEPS.iter().skip(found as usize - 1).flat_map(|step| step()).copied().collect()
}

/// Writes the families of `outdated` anew from the books, and then the version. Nobody else may write meanwhile.
///
/// # Errors
/// The engine's.
pub(crate) fn rewrite(
    engine: &dyn Engine,
    books: &Books,
    outdated: &BTreeSet<Family>,
) -> Result<(), EngineError> {
    let mut batch = Batch::new();
    for family in outdated {
        let mut from = Vec::new();
        loop {
            let page = engine.scan(*family, ScanRange::from(from), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            page.into_iter().for_each(|(key, _)| batch.delete(*family, key));
            flush_large(engine, &mut batch)?;
        }
    }
    for row in all_rows(books).into_iter().filter(|row| outdated.contains(&row.family())) {
        if let Some(value) = row_value(books, &row) {
            batch.put(row.family(), row.key(), value);
            flush_large(engine, &mut batch)?;
        }
    }
    batch.put(Family::Meta, SCHEMA_VERSION_KEY, schema::version_row());
    engine.write(batch, Durability::Synced)
}

#[cfg(test)]
mod tests;
