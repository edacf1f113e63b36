//! What this thread has verified already: for simulations, where a thousand nodes on one thread verify the same gossip.
//!
//! A key that is usable is so for ever, and bytes mean what they meant, so nothing is decided otherwise than without it;
//! only time is saved. It is off until [`remember`] is called, and remembers what held and never what did not.

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::did::DidText;

/// Keys remembered; then all are forgotten, and it begins anew. A few hundred bytes each.
const MAX_REMEMBERED: usize = 1 << 16;

/// Documents remembered, likewise. A few hundred bytes each, mostly.
const MAX_DOCUMENTS: usize = 1 << 15;

#[derive(Default)]
struct Memo {
    /// The usable keys by the DIDs that they make, and the other way round.
    keys: HashMap<DidText, [u8; 32]>,
    texts: HashMap<[u8; 32], DidText>,
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

/// The text of a usable key, if it is known.
pub(super) fn text(key: &[u8; 32]) -> Option<DidText> {
    MEMO.with_borrow(|memo| memo.as_ref()?.texts.get(key).copied())
}

/// The usable key that a text says, if it is known.
pub(super) fn key(text: &DidText) -> Option<[u8; 32]> {
    MEMO.with_borrow(|memo| memo.as_ref()?.keys.get(text).copied())
}

/// Remembers a usable key and the text that says it.
pub(super) fn keep_key(key: [u8; 32], text: impl FnOnce() -> DidText) {
    MEMO.with_borrow_mut(|memo| {
        let Some(memo) = memo.as_mut() else { return };
        let text = text();
        if memo.keys.len() >= MAX_REMEMBERED {
            memo.keys.clear();
            memo.texts.clear();
        }
        memo.keys.insert(text, key);
        memo.texts.insert(key, text);
    });
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
    use super::super::did::{Did, DidError};
    use super::*;
    use crate::Keypair;

    #[test]
    fn a_key_is_found_by_its_text_and_the_text_by_its_key() {
        let did = Keypair::from_secret(&[3; 32]).did();
        let said = did.to_string();
        assert_eq!(text(did.public_key()), None, "nothing is remembered unless somebody asks for it");
        let remembering = remember();
        assert_eq!(Did::from_public_key(did.public_key()), Ok(did));
        assert_eq!(said.parse(), Ok(did));
        assert_eq!(text(did.public_key()).map(|text| text.to_vec()), Some(said.clone().into_bytes()));
        assert_eq!((did.to_string(), said.parse()), (said.clone(), Ok(did)));
        drop(remembering);
        assert_eq!(text(did.public_key()), None);
    }

    #[test]
    fn a_key_that_was_read_in_trust_is_not_remembered_as_usable() {
        let weak = format!("did:key:z{}", bs58::encode([&[0xed, 0x01][..], &[0; 32]].concat()).into_string());
        let _remembering = remember();
        let did = crate::signed::without_verifying(|| weak.parse::<Did>()).unwrap();
        assert_eq!(did.to_string(), weak);
        assert_eq!(Did::from_public_key(&[0; 32]), Err(DidError::Point));
        assert_eq!(weak.parse::<Did>(), Err(DidError::Point));
    }
}
