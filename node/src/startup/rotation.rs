//! A new key for a node that does not run: signed for by the old one, and in its place whole or not at all.
//!
//! ```text
//!   key.next written ─► books: succession, new card ─► key.next becomes key
//! ```
//!
//! The books say which key is theirs, so a rotation that was interrupted is either finished or undone by whoever looks
//! next ([`settle`]): the new key is there before the books are its, and the old one until they are.

use std::sync::Arc;

use dms_actors::clock::SystemClock;
use dms_actors::signed::MAX_LIFETIME;
use dms_messages::{Did, NodeCard, Signed, Succession, Successions};
use dms_storage::books::TrustEvent;
use dms_storage::{Books, Entry, Event};

use super::offline::{OfflineError, hold_directory, owner_of_books};
use super::{StartupError, check_owner, lock_directory, make_directory, open_engine};
use crate::config::{EngineKind, Settings};
use crate::identity::{Identity, IdentityError, KeyFile, StoredKey};
use crate::node::{new_card, open_books};
use crate::signer::{RECORD_TTL, Signer};

/// Why a key was not rotated. Nothing was changed then, or it is undone by the next command.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// The data directory, the key or the books cannot be used.
    #[error(transparent)]
    Startup(Box<StartupError>),
    /// There are no books that the new key could be said in.
    #[error("the books are kept in memory (engine = memory): nobody could be told of a new key")]
    InMemory,
    /// The node has given its word by its present name, or was given another's.
    #[error("{what} by the present name: let it end first")]
    Busy {
        /// What is not over.
        what: String,
    },
    /// The old key does not sign for the new one.
    #[error("the succession cannot be signed: {0}")]
    Sign(String),
}

/// An error of what a start does, too.
fn broken(error: impl Into<StartupError>) -> RotationError {
    RotationError::Startup(Box::new(error.into()))
}

/// A key that was put in the place of another.
#[derive(Debug)]
pub struct Rotated {
    /// The old name.
    pub old: Did,
    /// The new one.
    pub new: Did,
    /// What peers believe it by: every key that this node had.
    pub successions: Successions,
}

/// Puts the key `next` in the place of `present`, which signs for it; `stored` is how it is kept.
///
/// # Errors
/// See [`RotationError`].
pub async fn rotate(
    settings: &Settings,
    present: &Identity,
    next: &Identity,
    stored: &StoredKey,
) -> Result<Rotated, RotationError> {
    if settings.engine == EngineKind::Memory {
        return Err(RotationError::InMemory);
    }
    make_directory(&settings.data).map_err(broken)?;
    let _lock = lock_directory(&settings.data).map_err(broken)?;
    let file = KeyFile::of_node(&settings.data);
    if file.read().map_err(broken)?.did() != present.did() {
        return Err(broken(IdentityError::Changed { path: file.path() }));
    }
    let engine = open_engine(settings).map_err(broken)?;
    let (mut store, mut books) = open_books(&engine).map_err(broken)?;
    check_owner(&books, present.did()).map_err(broken)?;
    if let Some(what) = unfinished(&books) {
        return Err(RotationError::Busy { what });
    }
    let clock = SystemClock::shared();
    let pen = |identity: &Identity| {
        Signer::new(Arc::new(identity.keypair.clone()), Arc::clone(&clock), &settings.network)
    };
    let succession = pen(present).sign(Succession { new: next.did() }, None, MAX_LIFETIME);
    let succession = succession.map_err(|error| RotationError::Sign(error.to_string()))?;
    let card =
        next_card(books.card(), &pen(next)).ok_or_else(|| RotationError::Sign("no card".to_owned()))?;
    let coming = KeyFile::of_successor(&settings.data);
    coming.replace(stored).map_err(broken)?;
    let change = TrustEvent::Succeeded { succession, root: None };
    let events = [Event::Trust { change }, Event::NodeNamed { card }];
    let entries: Vec<Entry> = events.into_iter().map(|event| Entry { at: clock.now(), event }).collect();
    store.record(&mut books, &entries).map_err(broken)?.await.map_err(broken)?;
    file.take(&coming).map_err(broken)?;
    let successions = Successions::of(books.trust().lineage(next.did()));
    Ok(Rotated { old: present.did(), new: next.did(), successions })
}

/// Finishes or undoes a rotation that was interrupted. Called before the node's key is read.
///
/// # Errors
/// Those of the key files and of opening the books.
pub fn settle(settings: &Settings) -> Result<(), OfflineError> {
    let coming = KeyFile::of_successor(&settings.data);
    if !coming.path().exists() {
        return Ok(());
    }
    let _lock = hold_directory(&settings.data)?;
    let is_done = owner_of_books(&settings.data)? == Some(coming.read()?.did());
    if is_done {
        KeyFile::of_node(&settings.data).take(&coming)?
    } else {
        coming.remove()?
    }
    Ok(())
}

/// What is not over in the books, in words.
fn unfinished(books: &Books) -> Option<String> {
    let jobs = books.jobs().values().filter(|row| !row.phase.is_terminal()).count();
    let allocations = books.live_allocations().count();
    match (jobs, allocations, books.locks().len()) {
        (0, 0, 0) => None,
        (jobs, allocations, locks) => {
            Some(format!("{jobs} jobs, {allocations} allocations and {locks} locks are not over, agreed"))
        }
    }
}

/// The introduction by the new name: of the same node, which keeps its number.
fn next_card(card: Option<&Signed<NodeCard>>, pen: &Signer) -> Option<Signed<NodeCard>> {
    let Some(card) = card else { return new_card(pen) };
    let did = pen.me();
    let next = NodeCard { did, peer_id: did.peer_id(), ..card.value().clone() };
    pen.sign(next, None, RECORD_TTL).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A node's directory with a key and books.
    async fn node(directory: &tempfile::TempDir) -> (Settings, Identity) {
        let settings = Settings::for_data_dir(directory.path());
        let identity = Identity::create(directory.path()).unwrap();
        let capability = crate::testing::capability(1000, 64);
        super::super::onboard_offline(&settings, identity.clone(), capability).await.unwrap();
        (settings, identity)
    }

    async fn rotated(settings: &Settings, present: &Identity) -> (Identity, Rotated) {
        let next = Identity::generate().unwrap();
        let rotated = rotate(settings, present, &next, &StoredKey::Bare(next.clone())).await.unwrap();
        (next, rotated)
    }

    fn did(settings: &Settings) -> Did {
        KeyFile::of_node(&settings.data).read().unwrap().did()
    }

    fn books(settings: &Settings) -> Books {
        open_books(&open_engine(settings).unwrap()).unwrap().1
    }

    #[tokio::test]
    async fn a_new_key_has_the_nodes_number_its_books_and_a_lineage() {
        let directory = tempfile::tempdir().unwrap();
        let (settings, first) = node(&directory).await;
        let number = books(&settings).card().unwrap().value().uuid;
        let (second, rotation) = rotated(&settings, &first).await;
        assert_eq!((rotation.old, rotation.new, did(&settings)), (first.did(), second.did(), second.did()));
        let (third, rotation) = rotated(&settings, &second).await;
        assert_eq!(rotation.successions.successions.len(), 2);
        let books = books(&settings);
        let card = books.card().unwrap();
        assert_eq!((card.issuer(), card.value().uuid), (third.did(), number));
        assert_eq!(books.trust().present_name(first.did()), third.did());
        assert!(!KeyFile::of_successor(&settings.data).path().exists());
        // Whoever still has an old key does not rotate.
        let refused = rotate(&settings, &first, &second, &StoredKey::Bare(second.clone())).await;
        assert!(matches!(refused, Err(RotationError::Startup(_))), "{refused:?}");
        assert_eq!(did(&settings), third.did());
    }

    #[tokio::test]
    async fn a_rotation_that_was_interrupted_is_finished_or_undone() {
        let directory = tempfile::tempdir().unwrap();
        let (settings, first) = node(&directory).await;
        let (key, coming) = (KeyFile::of_node(&settings.data), KeyFile::of_successor(&settings.data));
        // Killed before the books had it.
        let never = Identity::generate().unwrap();
        coming.create(&StoredKey::Bare(never)).unwrap();
        settle(&settings).unwrap();
        assert!(!coming.path().exists());
        assert_eq!(did(&settings), first.did());
        // Killed after.
        let (second, _) = rotated(&settings, &first).await;
        fs::rename(key.path(), coming.path()).unwrap();
        key.create(&StoredKey::Bare(first)).unwrap();
        settle(&settings).unwrap();
        assert!(!coming.path().exists());
        assert_eq!(did(&settings), second.did());
        settle(&settings).unwrap();
        // Not under the hands of a node.
        coming.create(&StoredKey::Bare(second)).unwrap();
        let _running = lock_directory(&settings.data).unwrap();
        assert!(matches!(settle(&settings), Err(OfflineError::InUse { .. })));
    }
}
