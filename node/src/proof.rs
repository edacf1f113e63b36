//! A contract as a file that anybody can check: no node, no network, no data directory.
//!
//! ```text
//!   file = contract   COSE_Sign1 of kind dms.contract/1, signed by the requester for the provider
//!          accepted   COSE_Sign1 of kind dms.accepted/1, signed by the provider for the requester:
//!                     names the CID of the exact bytes before it   (absent if it never countersigned)
//! ```
//!
//! The two documents stand one after the other as a CBOR sequence (RFC 8742), byte for byte as they were
//! signed: any COSE library can check each of them. `dms contract` writes and reads such files; nothing
//! here asks anybody or decides whether a party kept its word.

use std::time::Duration;

use dms_actors::cbor;
use dms_actors::signed::{SKEW, SignedError};
use dms_messages::{
    Accepted, AllocationId, CborError, ContentId, Contract, Did, Document, Millis, Signed, Timestamp,
};
use serde::Serialize;

/// Longest file in bytes: two documents.
pub const MAX_FILE_LENGTH: usize = 2 * cbor::MAX_LENGTH;

/// The first byte of every document: tag 18, COSE_Sign1 (RFC 9052).
const SIGN1_TAG: u8 = 0xd2;

/// Why a file proves no contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// More bytes than two documents have.
    #[error("the file is longer than a contract can be ({MAX_FILE_LENGTH} bytes)")]
    TooLong,
    /// It ends within a document.
    #[error("the {part} is cut short: the file ends within it")]
    Truncated {
        /// Which document.
        part: &'static str,
    },
    /// Bytes follow after the last document.
    #[error(
        "{} nothing {} after the provider's signature",
        if *count == 1 { "1 byte that belongs to".to_owned() } else { format!("{count} bytes that belong to") },
        if *count == 1 { "follows" } else { "follow" }
    )]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A document of another kind stands where one of the two is expected.
    #[error("this is a document of kind {found}, signed by {issuer}; a {expected} is expected here")]
    OtherKind {
        /// The kind that it has.
        found: String,
        /// The kind that is expected.
        expected: &'static str,
        /// Who signed it.
        issuer: Did,
    },
    /// A document does not hold by itself: not one at all, or its signature is not of these bytes.
    #[error("the {part} does not hold: it was changed, damaged or never signed")]
    Document {
        /// Which document.
        part: &'static str,
        /// Why.
        #[source]
        source: SignedError,
    },
    /// Each document holds, but they do not say the same.
    #[error("the two documents do not belong together: {what}")]
    Mismatch {
        /// In what they differ.
        what: &'static str,
    },
    /// Somebody signed who is not a party.
    #[error("signed by {signer}, who is not the {party} of the contract ({named})")]
    NotTheParty {
        /// Who signed.
        signer: Did,
        /// Which party should have.
        party: &'static str,
        /// Whom the terms name.
        named: Did,
    },
}

/// One signature that holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signature {
    /// Who signed.
    pub signer: Did,
    /// When, by the signer's own clock.
    pub at: Timestamp,
    /// Until when the document is meant to be shown; the signature holds beyond.
    pub expires: Timestamp,
}

/// What a file proves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The contract's content identifier.
    pub cid: ContentId,
    /// The mesh that it belongs to.
    pub network: String,
    /// The terms.
    pub terms: Contract,
    /// The requester's signature.
    pub requester: Signature,
    /// The provider's; none if the file holds none: then nothing was agreed on.
    pub provider: Option<Signature>,
    /// The allocation that the provider named.
    pub allocation: Option<AllocationId>,
    /// How long ago the contract expired, if it did: it is history, and its signatures hold.
    pub expired_for: Option<Millis>,
}

impl Proof {
    /// True if both parties have signed.
    pub fn is_agreed(&self) -> bool {
        self.provider.is_some()
    }
}

/// The file of a contract: the exact bytes of its documents, one after the other.
pub fn to_file(contract: &Signed<Contract>, accepted: Option<&Signed<Accepted>>) -> Vec<u8> {
    [contract.bytes(), accepted.map(Signed::bytes).unwrap_or_default()].concat()
}

/// Checks every signature in `file`, and that the documents belong together.
///
/// # Errors
/// See [`ProofError`]; a contract without the provider's signature is no error but says so.
pub fn verify(file: &[u8], now: Timestamp) -> Result<Proof, ProofError> {
    if file.is_empty() {
        return Err(ProofError::Empty);
    }
    if file.len() > MAX_FILE_LENGTH {
        return Err(ProofError::TooLong);
    }
    let (first, rest) = split(file, "contract")?;
    let contract: Signed<Contract> = document(first, "contract")?;
    let terms = contract.value();
    check_party(contract.issuer(), "requester", terms.requester)?;
    if contract.header().audience != Some(terms.provider) {
        return Err(ProofError::Mismatch {
            what: "the contract is addressed to somebody else than its provider",
        });
    }
    let accepted = match rest {
        [] => None,
        rest => Some(countersignature(rest, &contract)?),
    };
    let expired = now.saturating_since(contract.header().expires_at);
    Ok(Proof {
        cid: contract.content_id(),
        network: contract.header().network.clone(),
        terms: terms.clone(),
        requester: signature(&contract),
        allocation: accepted.as_ref().map(|accepted| accepted.value().allocation),
        provider: accepted.as_ref().map(signature),
        expired_for: (expired > Duration::ZERO).then(|| Millis::from(expired)),
    })
}

/// The provider's signature, if it is of this contract and nothing follows.
fn countersignature(bytes: &[u8], contract: &Signed<Contract>) -> Result<Signed<Accepted>, ProofError> {
    let (second, rest) = split(bytes, "provider's signature")?;
    let accepted: Signed<Accepted> = document(second, "provider's signature")?;
    if !rest.is_empty() {
        return Err(ProofError::Trailing { count: rest.len() });
    }
    let terms = contract.value();
    check_party(accepted.issuer(), "provider", terms.provider)?;
    let header = accepted.header();
    let rules = [
        (accepted.value().contract == contract.content_id(), "the provider has signed another contract"),
        (accepted.value().attempt == terms.attempt, "they are of two attempts"),
        (header.audience == Some(terms.requester), "the provider's signature is for another requester"),
        (header.network == contract.header().network, "they are of two meshes"),
        (
            header.issued_at.saturating_add(SKEW) >= contract.header().issued_at,
            "the provider signed before the requester did",
        ),
        (
            header.issued_at <= contract.header().expires_at.saturating_add(SKEW),
            "the provider signed after the requester's offer had expired",
        ),
    ];
    match rules.into_iter().find(|(is_kept, _)| !is_kept) {
        Some((_, what)) => Err(ProofError::Mismatch { what }),
        None => Ok(accepted),
    }
}

fn signature<T>(document: &Signed<T>) -> Signature {
    let header = document.header();
    Signature { signer: header.issuer, at: header.issued_at, expires: header.expires_at }
}

fn check_party(signer: Did, party: &'static str, named: Did) -> Result<(), ProofError> {
    if signer == named { Ok(()) } else { Err(ProofError::NotTheParty { signer, party, named }) }
}

/// The first document of a sequence, and what follows it.
fn split<'a>(bytes: &'a [u8], part: &'static str) -> Result<(&'a [u8], &'a [u8]), ProofError> {
    // Any text would else be taken for CBOR that is cut short.
    if bytes.first() != Some(&SIGN1_TAG) {
        let source = SignedError::Structure("not tagged as COSE_Sign1");
        return Err(ProofError::Document { part, source });
    }
    let is_whole = |error| match error {
        CborError::Trailing(count) => Ok(bytes.split_at(bytes.len() - count)),
        CborError::Truncated | CborError::Length(_) => Err(ProofError::Truncated { part }),
        error => Err(ProofError::Document { part, source: SignedError::Malformed(error) }),
    };
    cbor::check(bytes, MAX_FILE_LENGTH).map_or_else(is_whole, |()| Ok((bytes, &[])))
}

fn document<T: Document>(bytes: &[u8], part: &'static str) -> Result<Signed<T>, ProofError> {
    Signed::verify_offline(bytes).map_err(|source| match &source {
        SignedError::Kind { found, .. } => match dms_actors::signed::verify_header(bytes) {
            Ok(header) => {
                ProofError::OtherKind { found: found.to_string(), expected: part, issuer: header.issuer }
            }
            Err(source) => ProofError::Document { part, source },
        },
        _ => ProofError::Document { part, source },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signer::{RECORD_TTL, Signer};
    use crate::testing::{StillClock, books, contract, lock, resources, sign_contract, signer};
    use std::sync::Arc;

    struct Parties {
        clock: Arc<StillClock>,
        requester: Signer,
        provider: Signer,
    }

    fn parties() -> Parties {
        let clock = Arc::new(StillClock::default());
        Parties { requester: signer(1, &clock), provider: signer(2, &clock), clock }
    }

    impl Parties {
        fn contract(&self, number: u32) -> Signed<Contract> {
            let lock =
                lock(&mut books(4000, 4096), &self.provider, self.requester.me(), 7, resources(1000, 64));
            sign_contract(contract(&lock, &self.requester, self.provider.me(), number), &self.requester)
        }

        fn accepted(&self, contract: &Signed<Contract>) -> Accepted {
            Accepted {
                attempt: contract.value().attempt,
                contract: contract.content_id(),
                allocation: AllocationId::from_random(self.provider.random()),
            }
        }

        fn sign(&self, accepted: Accepted) -> Signed<Accepted> {
            self.provider.sign(accepted, Some(self.requester.me()), RECORD_TTL).unwrap()
        }

        fn file(&self) -> Vec<u8> {
            let contract = self.contract(1);
            to_file(&contract, Some(&self.sign(self.accepted(&contract))))
        }

        fn now(&self) -> Timestamp {
            self.requester.now()
        }
    }

    #[test]
    fn both_signatures_prove_the_terms_and_age_does_not_undo_them() {
        let parties = parties();
        let contract = parties.contract(1);
        let accepted = parties.sign(parties.accepted(&contract));
        let file = to_file(&contract, Some(&accepted));
        let proof = verify(&file, parties.now()).unwrap();
        assert!(proof.is_agreed());
        assert_eq!((proof.cid, &proof.terms), (contract.content_id(), contract.value()));
        assert_eq!(proof.provider.unwrap().signer, parties.provider.me());
        assert_eq!(proof.allocation, Some(accepted.value().allocation));
        assert_eq!(proof.expired_for, None);
        parties.clock.advance(RECORD_TTL + Duration::from_secs(61));
        let expired = verify(&file, parties.now()).unwrap();
        assert!(expired.is_agreed());
        assert!(expired.expired_for.unwrap() >= Millis(59_000), "{expired:?}");
    }

    #[test]
    fn an_offer_that_has_expired_cannot_be_taken() {
        for (late, is_taken) in [(Duration::ZERO, true), (SKEW, true), (SKEW + Duration::from_secs(1), false)]
        {
            let parties = parties();
            let contract = parties.contract(1);
            let expires = contract.header().expires_at;
            parties.clock.advance(expires.saturating_since(parties.now()) + late);
            let file = to_file(&contract, Some(&parties.sign(parties.accepted(&contract))));
            match verify(&file, parties.now()) {
                Ok(proof) => assert!(is_taken && proof.is_agreed(), "{late:?}"),
                Err(error) => {
                    assert!(
                        !is_taken && error.to_string().contains("offer had expired"),
                        "{late:?}: {error}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_byte_can_be_changed_or_taken_away() {
        let parties = parties();
        let file = parties.file();
        for at in 0..file.len() {
            for bit in [0x01, 0x80] {
                let mut changed = file.clone();
                changed[at] ^= bit;
                assert!(verify(&changed, parties.now()).is_err(), "byte {at} was changed unnoticed");
            }
        }
        let boundary = parties.contract(1).bytes().len();
        for length in 0..file.len() {
            match verify(&file[..length], parties.now()) {
                // Without the second document it is what it says: signed by one.
                Ok(proof) => assert!(length == boundary && !proof.is_agreed(), "{length}"),
                Err(ProofError::Empty) => assert_eq!(length, 0),
                Err(error) => assert!(matches!(error, ProofError::Truncated { .. }), "{length}: {error}"),
            }
        }
    }

    #[test]
    fn each_fault_is_named() {
        let parties = parties();
        let contract = parties.contract(1);
        let accepted = parties.accepted(&contract);
        let with = |second: &Signed<Accepted>| to_file(&contract, Some(second));
        let stranger = signer(3, &parties.clock);
        let other = parties.contract(2);
        let forged = stranger.sign(accepted.clone(), Some(parties.requester.me()), RECORD_TTL).unwrap();
        let misdirected = parties.provider.sign(accepted.clone(), Some(stranger.me()), RECORD_TTL).unwrap();
        let borrowed = parties.sign(parties.accepted(&other));
        let trailing = [parties.file(), b"\x01\x02".to_vec()].concat();
        let third = [parties.file(), parties.file()].concat();
        let imposter =
            stranger.sign(contract.value().clone(), Some(contract.value().provider), RECORD_TTL).unwrap();
        let table: Vec<(Vec<u8>, &str)> = vec![
            (Vec::new(), "is empty"),
            (vec![0; MAX_FILE_LENGTH + 1], "longer than"),
            (b"{\"not\": \"cose\"}".to_vec(), "does not hold"),
            (with(&forged), "who is not the provider"),
            (with(&misdirected), "for another requester"),
            (with(&borrowed), "another contract"),
            (trailing, "2 bytes that belong to nothing"),
            (third, "that belong to nothing"),
            (to_file(&imposter, None), "who is not the requester"),
            (parties.sign(accepted.clone()).bytes().to_vec(), "kind dms.accepted/1"),
            ([contract.bytes(), contract.bytes()].concat(), "kind dms.contract/1"),
        ];
        for (file, expected) in table {
            let error = verify(&file, parties.now()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} (expected {expected})");
        }
    }

    #[test]
    fn what_is_written_is_what_was_signed() {
        let parties = parties();
        let contract = parties.contract(1);
        let accepted = parties.sign(parties.accepted(&contract));
        assert_eq!(to_file(&contract, Some(&accepted)), [contract.bytes(), accepted.bytes()].concat());
        assert_eq!(to_file(&contract, None), contract.bytes());
    }
}
