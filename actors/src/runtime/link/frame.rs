//! The bytes of a link: frames, read with every length checked before memory is taken for it.
//!
//! ```text
//! u32 BE  length of what follows, at most MAX_FRAME_LENGTH
//! u16 BE  length of the header, at most MAX_HEADER_LENGTH
//! header  canonical CBOR of a Header; fields may be added, unknown ones are skipped
//! body    the rest: the encoded message or reply; empty in every other frame
//! ```
//!
//! The body stays outside of the header so that it is neither copied nor walked before the policy has
//! admitted the word.

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::super::{ActorPath, Refusal};
use crate::Did;
use crate::cbor::{self, CborError};

/// Longest body of a word or reply in bytes; what is longer travels as a blob.
pub const MAX_BODY_LENGTH: usize = cbor::MAX_LENGTH;
/// Longest header in bytes: the longest path (520), kind, refusal and network name fit twice.
pub(super) const MAX_HEADER_LENGTH: usize = 2048;
const MAX_FRAME_LENGTH: usize = 2 + MAX_HEADER_LENGTH + MAX_BODY_LENGTH;
/// The version of this protocol.
pub(super) const VERSION: u16 = 1;

/// Says who one is when a link opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) version: u16,
    pub(super) network: String,
    pub(super) did: Did,
}

/// What a frame is for. The opener of a link says `Hello` and words; the other side the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Header {
    /// First frame of the opener.
    Hello(Hello),
    /// First frame of the other side: the link is up.
    Welcome(Hello),
    /// First frame of the other side: the link is refused.
    Unwelcome(Refusal),
    /// A message to an actor.
    Word(Word),
    /// The mailbox took (or the receiver refused) every word to this path up to this number, which
    /// gives their credit back.
    Taken { to: ActorPath, through: u64 },
    /// A word was not taken.
    Refused { id: u64, to: ActorPath, refusal: Refusal },
    /// The reply to an ask; it is the body.
    Reply { in_reply_to: u64 },
    /// An ask will not be answered.
    Lost { in_reply_to: u64 },
}

/// The header of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Word {
    pub(super) to: ActorPath,
    /// `name/version`.
    pub(super) kind: String,
    /// Counts the words of this link, from 1.
    pub(super) id: u64,
    /// True if a reply is awaited.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) ask: bool,
    /// Milliseconds after which nobody waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ttl_ms: Option<u64>,
}

/// Why bytes are no frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The pipe ended or broke: no fault of the peer's.
    #[error("the pipe ended")]
    Pipe(#[source] std::io::Error),
    #[error("a frame of {0} bytes is out of range")]
    Length(usize),
    #[error("a header of {0} bytes is out of range")]
    HeaderLength(usize),
    #[error("the header does not decode")]
    Header(#[source] CborError),
    #[error("a frame is out of place: {0}")]
    OutOfPlace(&'static str),
    #[error("{0} had no credit left")]
    Overrun(ActorPath),
    #[error("the peer does not read what it is sent")]
    NotReading,
}

/// The bytes of one frame. Fails only if the header cannot be encoded or is too long.
pub(super) fn encode(header: &Header, body: &[u8]) -> Result<Vec<u8>, CborError> {
    let mut frame = Vec::new();
    append(&mut frame, header, body)?;
    Ok(frame)
}

/// Appends the bytes of one frame.
pub(super) fn append(out: &mut Vec<u8>, header: &Header, body: &[u8]) -> Result<(), CborError> {
    let header = cbor::to_canonical(header)?;
    let too_long = |length, limit| CborError::TooLong { length, limit };
    if header.len() > MAX_HEADER_LENGTH {
        return Err(too_long(header.len(), MAX_HEADER_LENGTH));
    }
    if body.len() > MAX_BODY_LENGTH {
        return Err(too_long(body.len(), MAX_BODY_LENGTH));
    }
    let length = 2 + header.len() + body.len();
    out.reserve(4 + length);
    out.extend_from_slice(&u32::try_from(length).expect("bounded above").to_be_bytes());
    out.extend_from_slice(&u16::try_from(header.len()).expect("bounded above").to_be_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(body);
    Ok(())
}

/// Reads one frame.
pub(super) async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> Result<(Header, Vec<u8>), FrameError> {
    let length = reader.read_u32().await.map_err(FrameError::Pipe)? as usize;
    if !(2..=MAX_FRAME_LENGTH).contains(&length) {
        return Err(FrameError::Length(length));
    }
    let header_length = usize::from(reader.read_u16().await.map_err(FrameError::Pipe)?);
    if header_length > MAX_HEADER_LENGTH || header_length > length - 2 {
        return Err(FrameError::HeaderLength(header_length));
    }
    let body_length = length - 2 - header_length;
    if body_length > MAX_BODY_LENGTH {
        return Err(FrameError::Length(length));
    }
    let mut header = vec![0; header_length];
    reader.read_exact(&mut header).await.map_err(FrameError::Pipe)?;
    let header = cbor::from_canonical(&header).map_err(FrameError::Header)?;
    let mut body = vec![0; body_length];
    reader.read_exact(&mut body).await.map_err(FrameError::Pipe)?;
    Ok((header, body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;
    use crate::runtime::RefusalCode;
    use proptest::prelude::*;

    fn read_all(bytes: &[u8]) -> Result<(Header, Vec<u8>), FrameError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read(&mut &bytes[..]))
    }

    fn path() -> ActorPath {
        "/node".parse().unwrap()
    }

    #[test]
    fn every_frame_is_read_as_it_was_written() {
        let hello =
            Hello { version: VERSION, network: "n".into(), did: Keypair::from_secret(&[1; 32]).did() };
        let refusal = Refusal::new(RefusalCode::Busy, "x".repeat(1000));
        let word = Word { to: path(), kind: "a.b/1".into(), id: 7, ask: true, ttl_ms: Some(9) };
        let headers = [
            Header::Hello(hello.clone()),
            Header::Welcome(hello),
            Header::Unwelcome(refusal.clone()),
            Header::Word(word),
            Header::Taken { to: path(), through: u64::MAX },
            Header::Refused { id: 1, to: path(), refusal },
            Header::Reply { in_reply_to: 3 },
            Header::Lost { in_reply_to: 4 },
        ];
        for header in headers {
            let bytes = encode(&header, b"body").unwrap();
            assert_eq!(read_all(&bytes).unwrap(), (header, b"body".to_vec()));
        }
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_read() {
        let reply = Header::Reply { in_reply_to: 1 };
        let longest = encode(&reply, &vec![0; MAX_BODY_LENGTH]).unwrap();
        assert!(read_all(&longest).is_ok());
        assert!(encode(&reply, &vec![0; MAX_BODY_LENGTH + 1]).is_err());
        assert!(matches!(read_all(&u32::MAX.to_be_bytes()), Err(FrameError::Length(_))));
        assert!(matches!(read_all(&[0, 0, 0, 1, 0]), Err(FrameError::Length(1))));
        assert!(matches!(read_all(&[0, 0, 0, 9, 0xff, 0xff]), Err(FrameError::HeaderLength(_))));
        assert!(matches!(read_all(&[0, 0, 0, 9, 0, 8]), Err(FrameError::HeaderLength(8))));
        let body_too_long = u32::try_from(2 + MAX_BODY_LENGTH + 1).unwrap().to_be_bytes();
        assert!(matches!(read_all(&[&body_too_long[..], &[0, 0]].concat()), Err(FrameError::Length(_))));
    }

    #[test]
    fn a_half_written_frame_is_a_broken_pipe() {
        let bytes = encode(&Header::Taken { to: path(), through: 1 }, b"").unwrap();
        for end in 0..bytes.len() {
            assert!(matches!(read_all(&bytes[..end]), Err(FrameError::Pipe(_))), "{end}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn garbage_headers_never_panic(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            let length = u32::try_from(2 + header.len()).unwrap().to_be_bytes();
            let header_length = u16::try_from(header.len()).unwrap().to_be_bytes();
            let _ = read_all(&[&length[..], &header_length[..], &header[..]].concat());
        }
    }
}
