//! What this thread has verified already: for simulations, where a thousand nodes on one thread verify the same gossip.
//!
//! A signature that holds holds for ever, and bytes mean what they meant, so nothing is decided otherwise than without
//! it; only time is saved. It is off until [`remember`] is called, and remembers what held and never what did not.

use std::any::Any;
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

/// Things remembered; then all are forgotten, and it begins anew. 32 bytes each.
const MAX_REMEMBERED: usize = 1 << 18;

/// Documents remembered, likewise. A few hundred bytes each, mostly.
const MAX_DOCUMENTS: usize = 1 << 15;

#[derive(Default)]
struct Memo {
    signatures: BTreeSet<[u8; 32]>,
    keys: BTreeSet<[u8; 32]>,
    /// By the hash of their bytes.
    documents: HashMap<[u8; 32], Box<dyn Any>>,
}

thread_local! {
    static MEMO: RefCell<Option<Memo>> = const { RefCell::new(None) };
}

/// See [`remember`].
#[derive(Debug)]
#[must_use = "it is remembered until this is dropped"]
pub struct Remembering(());

/// From now on this thread verifies nothing twice, until the guard is dropped.
pub fn remember() -> Remembering {
    MEMO.with_borrow_mut(|memo| *memo = Some(Memo::default()));
    Remembering(())
}

impl Drop for Remembering {
    fn drop(&mut self) {
        MEMO.with_borrow_mut(|memo| *memo = None);
    }
}

fn is_on() -> bool {
    MEMO.with_borrow(Option::is_some)
}

fn check_once(
    name: impl FnOnce() -> [u8; 32],
    set: impl Fn(&mut Memo) -> &mut BTreeSet<[u8; 32]>,
    check: impl FnOnce() -> bool,
) -> bool {
    if !is_on() {
        return check();
    }
    let name = name();
    let is_known = MEMO.with_borrow_mut(|memo| memo.as_mut().is_some_and(|memo| set(memo).contains(&name)));
    if is_known {
        return true;
    }
    let holds = check();
    if holds {
        MEMO.with_borrow_mut(|memo| {
            let Some(memo) = memo.as_mut() else { return };
            let known = set(memo);
            if known.len() >= MAX_REMEMBERED {
                known.clear();
            }
            known.insert(name);
        });
    }
    holds
}

/// Whether a signature holds, as `check` finds; not asked again for what has held.
pub(super) fn signature(
    key: &[u8; 32],
    message: &[u8],
    signature: &[u8],
    check: impl FnOnce() -> bool,
) -> bool {
    let name = || {
        let mut hash = Sha256::new();
        hash.update(key);
        hash.update((signature.len() as u64).to_be_bytes());
        hash.update(signature);
        hash.update(message);
        hash.finalize().into()
    };
    check_once(name, |memo| &mut memo.signatures, check)
}

/// Whether a key is usable, likewise.
pub(super) fn key(key: &[u8; 32], check: impl FnOnce() -> bool) -> bool {
    check_once(|| *key, |memo| &mut memo.keys, check)
}

/// The document that these bytes were found to be, if they were and it is of this type.
pub(crate) fn document<T: Clone + 'static>(bytes: &[u8]) -> Option<T> {
    if !is_on() {
        return None;
    }
    let name: [u8; 32] = Sha256::digest(bytes).into();
    MEMO.with_borrow(|memo| memo.as_ref()?.documents.get(&name)?.downcast_ref::<T>().cloned())
}

/// Remembers which document these bytes are.
pub(crate) fn keep_document<T: Clone + 'static>(bytes: &[u8], document: &T) {
    MEMO.with_borrow_mut(|memo| {
        let Some(memo) = memo.as_mut() else { return };
        if memo.documents.len() >= MAX_DOCUMENTS {
            memo.documents.clear();
        }
        memo.documents.insert(Sha256::digest(bytes).into(), Box::new(document.clone()));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    #[test]
    fn what_held_is_not_checked_again_and_what_did_not_is() {
        let pair = Keypair::from_secret(&[3; 32]);
        let signed = pair.sign(b"text");
        let _remembering = remember();
        assert!(pair.did().is_signature_valid(b"text", &signed));
        assert!(signature(pair.did().public_key(), b"text", &signed, || unreachable!("it is known")));
        assert!(!pair.did().is_signature_valid(b"other", &signed));
        let mut asked = 0;
        assert!(!signature(pair.did().public_key(), b"other", &signed, || {
            asked += 1;
            false
        }));
        assert_eq!(asked, 1);
    }
}
