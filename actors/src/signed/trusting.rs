//! Reads the header and the payload of a document that was verified before it was kept.
//!
//! One pass over the bytes, where [`super::open`] builds trees and lets coset read them. It reads the form drawn in
//! the parent's module doc and refuses every other, but it checks neither the signature nor the canonical form nor
//! whether the keys are points of the curve. A test holds it against the verifying way.

use super::{DocumentId, MAX_NETWORK_LENGTH, NETWORK_CLAIM, SignedError, SignedHeader};
use crate::Kind;
use crate::cbor::{self, ARRAY, BYTES, CborError, MAP, MAX_LENGTH, NEGATIVE, TAG, TEXT, UNSIGNED, read_head};
use crate::clock::Timestamp;

/// Labels and values of the protected header, as heads of CBOR: algorithm, EdDSA, content type, CWT claims.
const ALGORITHM: (u8, u64) = (UNSIGNED, 1);
const EDDSA: (u8, u64) = (NEGATIVE, 7);
const CONTENT_TYPE: (u8, u64) = (UNSIGNED, 3);
const CLAIMS: (u8, u64) = (UNSIGNED, 15);

/// Takes a document apart: its header and its payload.
pub(super) fn open(bytes: &[u8]) -> Result<(SignedHeader, &[u8]), SignedError> {
    if bytes.len() > MAX_LENGTH {
        return Err(SignedError::TooLong(bytes.len()));
    }
    let mut envelope = Cursor { bytes, position: 0 };
    envelope.expect((TAG, cbor::SIGN1_TAG), "not tagged as COSE_Sign1")?;
    envelope.expect((ARRAY, 4), "not an array of four")?;
    let protected = envelope.string(BYTES, "the protected header is not a byte string")?;
    envelope.expect((MAP, 0), "the unprotected header is not an empty map")?;
    let payload = envelope.string(BYTES, "the payload is not a byte string")?;
    envelope.string(BYTES, "the signature is not a byte string")?;
    envelope.end()?;
    Ok((read_protected(protected)?, payload))
}

fn read_protected(bytes: &[u8]) -> Result<SignedHeader, SignedError> {
    const FIELDS: &str = "the protected header has other fields than 1, 3 and 15";
    const CLAIM: &str = "a claim is missing or not known";
    let mut protected = Cursor { bytes, position: 0 };
    protected.expect((MAP, 3), FIELDS)?;
    protected.expect(ALGORITHM, FIELDS)?;
    if protected.head()? != EDDSA {
        return Err(SignedError::Algorithm);
    }
    protected.expect(CONTENT_TYPE, FIELDS)?;
    let kind = protected.text("the content type is not a text")?;
    let kind = Kind::parse(kind).ok_or(SignedError::Structure("the content type is not a kind"))?;
    protected.expect(CLAIMS, FIELDS)?;
    let (MAP, mut claims) = protected.head()? else {
        return Err(SignedError::Structure("the claims are not a CWT claims set"));
    };
    let (mut issuer, mut audience, mut expires_at, mut issued_at) = (None, None, None, None);
    let (mut id, mut network) = (None, None);
    while claims > 0 {
        claims -= 1;
        match protected.head()? {
            (UNSIGNED, 1) => issuer = Some(protected.text(CLAIM)?.parse().map_err(SignedError::Issuer)?),
            (UNSIGNED, 3) => {
                audience = Some(protected.text(CLAIM)?.parse().map_err(SignedError::AudienceDid)?);
            }
            (UNSIGNED, 4) => expires_at = Some(protected.time()?),
            (UNSIGNED, 6) => issued_at = Some(protected.time()?),
            (UNSIGNED, 7) => {
                let bytes = protected.string(BYTES, CLAIM)?.try_into();
                id = Some(bytes.map_err(|_| SignedError::Structure("the id does not have 16 bytes"))?);
            }
            (TEXT, length) if protected.take(length)? == NETWORK_CLAIM.as_bytes() => {
                network = Some(protected.text(CLAIM)?);
            }
            _ => return Err(SignedError::Structure(CLAIM)),
        }
    }
    protected.end()?;
    let network = network.filter(|network| !network.is_empty() && network.len() <= MAX_NETWORK_LENGTH);
    let (Some(issuer), Some(expires_at), Some(issued_at), Some(id), Some(network)) =
        (issuer, expires_at, issued_at, id, network)
    else {
        return Err(SignedError::Structure(CLAIM));
    };
    let (id, network) = (DocumentId(id), network.to_owned());
    Ok(SignedHeader { kind, issuer, audience, issued_at, expires_at, id, network })
}

struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn head(&mut self) -> Result<(u8, u64), SignedError> {
        read_head(self.bytes, &mut self.position).map_err(SignedError::Malformed)
    }

    fn expect(&mut self, head: (u8, u64), otherwise: &'static str) -> Result<(), SignedError> {
        if self.head()? == head { Ok(()) } else { Err(SignedError::Structure(otherwise)) }
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], SignedError> {
        let rest = &self.bytes[self.position..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or(SignedError::Malformed(CborError::Length(length)))?;
        self.position += taken.len();
        Ok(taken)
    }

    fn string(&mut self, major: u8, otherwise: &'static str) -> Result<&'a [u8], SignedError> {
        match self.head()? {
            (found, length) if found == major => self.take(length),
            _ => Err(SignedError::Structure(otherwise)),
        }
    }

    fn text(&mut self, otherwise: &'static str) -> Result<&'a str, SignedError> {
        let bytes = self.string(TEXT, otherwise)?;
        std::str::from_utf8(bytes).map_err(|_| SignedError::Malformed(CborError::Utf8))
    }

    fn time(&mut self) -> Result<Timestamp, SignedError> {
        let (UNSIGNED, seconds) = self.head()? else {
            return Err(SignedError::Structure("a time is not in whole seconds"));
        };
        let milliseconds = seconds.checked_mul(1000);
        milliseconds.map(Timestamp).ok_or(SignedError::Structure("a time is out of range"))
    }

    fn end(&self) -> Result<(), SignedError> {
        match self.bytes.len() - self.position {
            0 => Ok(()),
            trailing => Err(SignedError::Malformed(CborError::Trailing(trailing))),
        }
    }
}
