//! The bytes of a link: frames, written and read by hand over slices.
//!
//! ```text
//! u32 BE  length of what follows, at most MAX_FRAME_LENGTH
//! u16 BE  length of the header, at most MAX_HEADER_LENGTH
//! header  deterministic CBOR: an array of the frame's number, its fields in this order, and, if any
//!         are set, one map of its options
//! body    the rest: the encoded message or reply; in 0, 1 and 16 what the policy shows; empty in every other frame
//! ```
//!
//! | number | frame     | fields                                  | options                              |
//! |--------|-----------|-----------------------------------------|--------------------------------------|
//! | 0      | Hello     | version, network, did                   |                                      |
//! | 1      | Welcome   | version, network, did                   |                                      |
//! | 2      | Unwelcome | code, text                              |                                      |
//! | 3      | Word      | to, kind (`name/version`), id, is ask   | 1 ttl in ms, 2 from (path), 3 trace  |
//! | 4      | Taken     | to, through                             |                                      |
//! | 5      | Refused   | id, code, text                          | 1 to (of a word that is no ask)      |
//! | 6      | Reply     | id                                      |                                      |
//! | 7      | Lost      | id                                      |                                      |
//! | 8      | Lookup    | request, to, kind                       |                                      |
//! | 9      | Found     | request                                 |                                      |
//! | 10     | Denied    | request, code, text                     |                                      |
//! | 11     | Watch     | request, to                             |                                      |
//! | 12     | Unwatch   | request                                 |                                      |
//! | 13     | Ended     | request, reason (number), text, count   |                                      |
//! | 14     | Ping      |                                         |                                      |
//! | 15     | Pong      |                                         |                                      |
//! | 16     | Introduce |                                         |                                      |
//!
//! The opener of a link says 0, 3, 8, 11, 12, 14 and 16, the other side the rest. `id` counts words, `request`
//! counts 8 and 11, each from 1. Trace is the 16 bytes of the trace, the 8 of the span and the flags.
//!
//! A later version adds options, which an earlier one skips; a frame of another number, or fields of
//! another type, end the link. Everything borrows from the bytes that arrived: the body is neither
//! copied nor walked before the policy has admitted the word.

use super::super::{ActorPath, ExitReason, Refusal, RefusalCode, TraceContext};
use crate::Did;
use crate::cbor::{self, CborError};

/// Longest body of a word or reply in bytes; what is longer travels as a blob.
pub const MAX_BODY_LENGTH: usize = cbor::MAX_LENGTH;
/// Longest header in bytes: the longest paths (521 each), kind, refusal and network name fit.
pub(super) const MAX_HEADER_LENGTH: usize = 2048;
/// Longest frame, its own length not counted.
pub(super) const MAX_FRAME_LENGTH: usize = 2 + MAX_HEADER_LENGTH + MAX_BODY_LENGTH;
/// The version of this protocol.
pub(super) const VERSION: u16 = 2;
/// The lengths before each header.
pub(super) const PREFIX: usize = 6;

/// Says who one is when a link opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hello<'a> {
    pub(super) version: u16,
    pub(super) network: &'a str,
    pub(super) did: Did,
}

/// What a frame is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Header<'a> {
    /// First frame of the opener.
    Hello(Hello<'a>),
    /// First frame of the other side: the link is up.
    Welcome(Hello<'a>),
    /// First frame of the other side: the link is refused.
    Unwelcome(Refusal),
    /// A message to an actor.
    Word(Word<'a>),
    /// The mailbox took (or the receiver refused) every word to this path up to this number, which
    /// gives their credit back.
    Taken { to: &'a str, through: u64 },
    /// A word was not taken. `to` is said of words that nobody waits for.
    Refused { id: u64, to: Option<&'a str>, refusal: Refusal },
    /// The reply to an ask; it is the body.
    Reply { id: u64 },
    /// An ask will not be answered.
    Lost { id: u64 },
    /// Is there an actor that understands the kind?
    Lookup { request: u64, to: &'a str, kind: &'a str },
    /// There is.
    Found { request: u64 },
    /// A lookup or watch has this answer instead.
    Denied { request: u64, refusal: Refusal },
    /// To be told how the actor ends.
    Watch { request: u64, to: &'a str },
    /// No longer.
    Unwatch { request: u64 },
    /// The watched actor has ended.
    Ended { request: u64, reason: ExitReason },
    /// To be answered with a pong: both are proof of life.
    Ping,
    /// The answer to a ping; also said unasked by a reader that makes a longer pause.
    Pong,
    /// What the opener shows of itself has changed; the words that follow are judged by it.
    Introduce,
}

/// The header of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word<'a> {
    pub(super) to: &'a str,
    /// `name/version`.
    pub(super) kind: &'a str,
    /// Counts the words of this link, from 1.
    pub(super) id: u64,
    /// True if a reply is awaited.
    pub(super) is_ask: bool,
    /// Milliseconds after which nobody waits for it.
    pub(super) ttl_ms: Option<u64>,
    /// Where the sending actor says it lives in the peer's system. Only the peer is proven.
    pub(super) from: Option<&'a str>,
    /// The span that the word continues.
    pub(super) trace: Option<TraceContext>,
}

/// Why bytes are no frame, or a link ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The pipe ended or broke: no fault of the peer's.
    #[error("the pipe ended")]
    Pipe(#[source] std::io::Error),
    /// Nothing came for so long that the peer must be gone: no fault of its own either.
    #[error("the peer is silent")]
    Silent,
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
}

impl From<CborError> for FrameError {
    fn from(error: CborError) -> Self {
        Self::Header(error)
    }
}

const HELLO: u64 = 0;
const WELCOME: u64 = 1;
const UNWELCOME: u64 = 2;
const WORD: u64 = 3;
const TAKEN: u64 = 4;
const REFUSED: u64 = 5;
const REPLY: u64 = 6;
const LOST: u64 = 7;
const LOOKUP: u64 = 8;
const FOUND: u64 = 9;
const DENIED: u64 = 10;
const WATCH: u64 = 11;
const UNWATCH: u64 = 12;
const ENDED: u64 = 13;
const PING: u64 = 14;
const PONG: u64 = 15;
const INTRODUCE: u64 = 16;

// Options of a word.
const TTL: u64 = 1;
const FROM: u64 = 2;
const TRACE: u64 = 3;
// The option of a refusal.
const TO: u64 = 1;

const TRACE_LENGTH: usize = 25;

// Reasons of an end.
const STOPPED: u64 = 0;
const FAILED: u64 = 1;
const PANICKED: u64 = 2;
const RESTARTS_EXHAUSTED: u64 = 3;
const SYSTEM_STOPPED: u64 = 4;
/// Whatever has no number of its own; the text says what.
const OTHER_REASON: u64 = 15;

/// Writes the items of a header.
struct Items<'a>(&'a mut Vec<u8>);

impl Items<'_> {
    /// The array of a frame with this number, `fields` fields and maybe options.
    fn frame(&mut self, number: u64, fields: usize, has_options: bool) -> &mut Self {
        cbor::write_head(cbor::ARRAY, (1 + fields + usize::from(has_options)) as u64, self.0);
        self.uint(number)
    }

    fn uint(&mut self, value: u64) -> &mut Self {
        cbor::write_head(cbor::UNSIGNED, value, self.0);
        self
    }

    fn text(&mut self, text: &str) -> &mut Self {
        cbor::write_head(cbor::TEXT, text.len() as u64, self.0);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    fn flag(&mut self, value: bool) -> &mut Self {
        self.0.push(if value { 0xf5 } else { 0xf4 });
        self
    }

    fn options(&mut self, count: usize) -> &mut Self {
        if count > 0 {
            cbor::write_head(cbor::MAP, count as u64, self.0);
        }
        self
    }

    fn refusal(&mut self, refusal: &Refusal) -> &mut Self {
        self.text(refusal.code.as_str()).text(&refusal.text)
    }
}

fn write_header(header: &Header<'_>, out: &mut Vec<u8>) {
    let mut items = Items(out);
    match header {
        Header::Hello(hello) | Header::Welcome(hello) => {
            let number = if matches!(header, Header::Hello(_)) { HELLO } else { WELCOME };
            let did = hello.did.to_string();
            items.frame(number, 3, false).uint(hello.version.into()).text(hello.network).text(&did);
        }
        Header::Unwelcome(refusal) => {
            items.frame(UNWELCOME, 2, false).refusal(refusal);
        }
        Header::Word(word) => write_word(word, &mut items),
        Header::Taken { to, through } => {
            items.frame(TAKEN, 2, false).text(to).uint(*through);
        }
        Header::Refused { id, to, refusal } => {
            items.frame(REFUSED, 3, to.is_some()).uint(*id).refusal(refusal);
            if let Some(to) = to {
                items.options(1).uint(TO).text(to);
            }
        }
        Header::Reply { id } => {
            items.frame(REPLY, 1, false).uint(*id);
        }
        Header::Lost { id } => {
            items.frame(LOST, 1, false).uint(*id);
        }
        Header::Lookup { request, to, kind } => {
            items.frame(LOOKUP, 3, false).uint(*request).text(to).text(kind);
        }
        Header::Found { request } => {
            items.frame(FOUND, 1, false).uint(*request);
        }
        Header::Denied { request, refusal } => {
            items.frame(DENIED, 3, false).uint(*request).refusal(refusal);
        }
        Header::Watch { request, to } => {
            items.frame(WATCH, 2, false).uint(*request).text(to);
        }
        Header::Unwatch { request } => {
            items.frame(UNWATCH, 1, false).uint(*request);
        }
        Header::Ended { request, reason } => {
            let (number, text, count) = reason_to_wire(reason);
            // Cut like a refusal's: it quotes whatever the actor said.
            let text = Refusal::new(RefusalCode::Other, text).text;
            items.frame(ENDED, 4, false).uint(*request).uint(number).text(&text).uint(count);
        }
        Header::Ping => {
            items.frame(PING, 0, false);
        }
        Header::Pong => {
            items.frame(PONG, 0, false);
        }
        Header::Introduce => {
            items.frame(INTRODUCE, 0, false);
        }
    }
}

fn write_word(word: &Word<'_>, items: &mut Items<'_>) {
    let options = usize::from(word.ttl_ms.is_some())
        + usize::from(word.from.is_some())
        + usize::from(word.trace.is_some());
    items.frame(WORD, 4, options > 0).text(word.to).text(word.kind).uint(word.id).flag(word.is_ask);
    items.options(options);
    if let Some(ttl) = word.ttl_ms {
        items.uint(TTL).uint(ttl);
    }
    if let Some(from) = word.from {
        items.uint(FROM).text(from);
    }
    if let Some(trace) = &word.trace {
        items.uint(TRACE);
        cbor::write_head(cbor::BYTES, TRACE_LENGTH as u64, items.0);
        items.0.extend_from_slice(&trace.trace_id);
        items.0.extend_from_slice(&trace.span_id);
        items.0.push(trace.flags);
    }
}

/// The bytes of one frame. Fails only if the header or the body is too long.
pub(super) fn encode(header: &Header<'_>, body: &[u8]) -> Result<Vec<u8>, CborError> {
    let mut frame = Vec::new();
    append(&mut frame, header, body)?;
    Ok(frame)
}

/// Appends the bytes of one frame; nothing if it is too long.
pub(super) fn append(out: &mut Vec<u8>, header: &Header<'_>, body: &[u8]) -> Result<(), CborError> {
    if body.len() > MAX_BODY_LENGTH {
        return Err(CborError::TooLong { length: body.len(), limit: MAX_BODY_LENGTH });
    }
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    write_header(header, out);
    let header_length = out.len() - start - PREFIX;
    if header_length > MAX_HEADER_LENGTH {
        out.truncate(start);
        return Err(CborError::TooLong { length: header_length, limit: MAX_HEADER_LENGTH });
    }
    out.extend_from_slice(body);
    let length = u32::try_from(2 + header_length + body.len()).expect("both are bounded above");
    let header_length = u16::try_from(header_length).expect("it is bounded above");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    out[start + 4..start + PREFIX].copy_from_slice(&header_length.to_be_bytes());
    Ok(())
}

/// The lengths of the header and the body of the frame whose prefix this is, if they are in range.
pub(super) fn read_prefix(prefix: [u8; PREFIX]) -> Result<(usize, usize), FrameError> {
    let [a, b, c, d, e, f] = prefix;
    let length = check_length(u32::from_be_bytes([a, b, c, d]))?;
    let header_length = usize::from(u16::from_be_bytes([e, f]));
    if header_length > MAX_HEADER_LENGTH || header_length > length - 2 {
        return Err(FrameError::HeaderLength(header_length));
    }
    let body_length = length - 2 - header_length;
    if body_length > MAX_BODY_LENGTH {
        return Err(FrameError::Length(length));
    }
    Ok((header_length, body_length))
}

/// The length of a frame, if it is in range.
pub(super) fn check_length(length: u32) -> Result<usize, FrameError> {
    let length = length as usize;
    if (2..=MAX_FRAME_LENGTH).contains(&length) { Ok(length) } else { Err(FrameError::Length(length)) }
}

/// Reads the items of a header.
struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    fn expect(&mut self, expected: u8) -> Result<u64, FrameError> {
        let (major, argument) = cbor::read_head(self.bytes, &mut self.position)?;
        if major == expected { Ok(argument) } else { Err(FrameError::OutOfPlace("a field of another type")) }
    }

    fn uint(&mut self) -> Result<u64, FrameError> {
        self.expect(cbor::UNSIGNED)
    }

    fn flag(&mut self) -> Result<bool, FrameError> {
        match self.bytes.get(self.position) {
            Some(0xf4) => self.position += 1,
            Some(0xf5) => {
                self.position += 1;
                return Ok(true);
            }
            Some(_) => return Err(FrameError::OutOfPlace("a field of another type")),
            None => return Err(CborError::Truncated.into()),
        }
        Ok(false)
    }

    fn string(&mut self, major: u8) -> Result<&'a [u8], FrameError> {
        let length = self.expect(major)?;
        self.content(length)
    }

    fn content(&mut self, length: u64) -> Result<&'a [u8], FrameError> {
        let rest = &self.bytes[self.position..];
        let end = usize::try_from(length).ok().filter(|end| *end <= rest.len());
        let end = end.ok_or(CborError::Length(length))?;
        self.position += end;
        Ok(&rest[..end])
    }

    fn text(&mut self) -> Result<&'a str, FrameError> {
        Ok(std::str::from_utf8(self.string(cbor::TEXT)?).map_err(|_| CborError::Utf8)?)
    }

    fn refusal(&mut self) -> Result<Refusal, FrameError> {
        let code = RefusalCode::from_text(self.text()?);
        // Cut again: the peer may not have.
        Ok(Refusal::new(code, self.text()?))
    }

    fn did(&mut self) -> Result<Did, FrameError> {
        self.text()?.parse().map_err(|_| FrameError::OutOfPlace("a name that is no DID"))
    }

    /// Passes over one item, however deep, without recursion.
    fn skip(&mut self) -> Result<(), FrameError> {
        let mut items = 1_u64;
        while items > 0 {
            items -= 1;
            let (major, argument) = cbor::read_head(self.bytes, &mut self.position)?;
            match major {
                cbor::BYTES | cbor::TEXT => {
                    self.content(argument)?;
                }
                cbor::ARRAY | cbor::MAP => {
                    // Each item takes a byte at least, so the sum stays far from its range.
                    if argument > self.bytes.len() as u64 {
                        return Err(CborError::Length(argument).into());
                    }
                    items += if major == cbor::MAP { 2 * argument } else { argument };
                }
                cbor::TAG => return Err(CborError::Tag(argument).into()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The options: what `known` does not take is skipped.
    fn options(
        &mut self,
        mut known: impl FnMut(&mut Self, u64) -> Result<bool, FrameError>,
    ) -> Result<(), FrameError> {
        let count = self.expect(cbor::MAP)?;
        let mut last = None;
        for _ in 0..count {
            let key = self.uint()?;
            if last.is_some_and(|last| last >= key) {
                return Err(CborError::UnsortedKeys.into());
            }
            last = Some(key);
            if !known(self, key)? {
                self.skip()?;
            }
        }
        Ok(())
    }
}

/// Reads a header. Frees itself of no byte: what it returns borrows from `bytes`.
pub(super) fn read_header(bytes: &[u8]) -> Result<Header<'_>, FrameError> {
    let mut reader = Reader { bytes, position: 0 };
    let length = reader.expect(cbor::ARRAY)?;
    let number = reader.uint()?;
    let (fields, mut header) = read_fields(number, &mut reader)?;
    match length.checked_sub(1 + fields) {
        Some(0) => {}
        Some(1) => read_options(&mut header, &mut reader)?,
        _ => return Err(FrameError::OutOfPlace("another number of fields")),
    }
    match bytes.len() - reader.position {
        0 => Ok(header),
        trailing => Err(CborError::Trailing(trailing).into()),
    }
}

/// The fields that every frame of this number has, and how many they are.
fn read_fields<'a>(number: u64, reader: &mut Reader<'a>) -> Result<(u64, Header<'a>), FrameError> {
    Ok(match number {
        HELLO | WELCOME => {
            let version = reader.uint()?;
            // A version beyond the range is another version, too.
            let version = u16::try_from(version).unwrap_or(u16::MAX);
            let hello = Hello { version, network: reader.text()?, did: reader.did()? };
            (3, if number == HELLO { Header::Hello(hello) } else { Header::Welcome(hello) })
        }
        UNWELCOME => (2, Header::Unwelcome(reader.refusal()?)),
        WORD => {
            let (to, kind, id, is_ask) = (reader.text()?, reader.text()?, reader.uint()?, reader.flag()?);
            (4, Header::Word(Word { to, kind, id, is_ask, ttl_ms: None, from: None, trace: None }))
        }
        TAKEN => (2, Header::Taken { to: reader.text()?, through: reader.uint()? }),
        REFUSED => (3, Header::Refused { id: reader.uint()?, to: None, refusal: reader.refusal()? }),
        REPLY => (1, Header::Reply { id: reader.uint()? }),
        LOST => (1, Header::Lost { id: reader.uint()? }),
        LOOKUP => (3, Header::Lookup { request: reader.uint()?, to: reader.text()?, kind: reader.text()? }),
        FOUND => (1, Header::Found { request: reader.uint()? }),
        DENIED => (3, Header::Denied { request: reader.uint()?, refusal: reader.refusal()? }),
        WATCH => (2, Header::Watch { request: reader.uint()?, to: reader.text()? }),
        UNWATCH => (1, Header::Unwatch { request: reader.uint()? }),
        ENDED => {
            let request = reader.uint()?;
            let (number, text, count) = (reader.uint()?, reader.text()?, reader.uint()?);
            (4, Header::Ended { request, reason: reason_from_wire(number, text, count) })
        }
        PING => (0, Header::Ping),
        PONG => (0, Header::Pong),
        INTRODUCE => (0, Header::Introduce),
        _ => return Err(FrameError::OutOfPlace("a frame of an unknown number")),
    })
}

fn read_options<'a>(header: &mut Header<'a>, reader: &mut Reader<'a>) -> Result<(), FrameError> {
    match header {
        Header::Word(word) => reader.options(|reader, key| {
            match key {
                TTL => word.ttl_ms = Some(reader.uint()?),
                FROM => word.from = Some(reader.text()?),
                TRACE => word.trace = read_trace(reader.string(cbor::BYTES)?)?,
                _ => return Ok(false),
            }
            Ok(true)
        }),
        Header::Refused { to, .. } => reader.options(|reader, key| {
            if key == TO {
                *to = Some(reader.text()?);
            }
            Ok(key == TO)
        }),
        _ => reader.options(|_, _| Ok(false)),
    }
}

/// `None` for the two ids that W3C does not let exist.
fn read_trace(bytes: &[u8]) -> Result<Option<TraceContext>, FrameError> {
    let wrong = || FrameError::OutOfPlace("a trace context of another length");
    let bytes: &[u8; TRACE_LENGTH] = bytes.try_into().map_err(|_| wrong())?;
    let (mut trace_id, mut span_id) = ([0; 16], [0; 8]);
    trace_id.copy_from_slice(&bytes[..16]);
    span_id.copy_from_slice(&bytes[16..24]);
    let is_valid = trace_id != [0; 16] && span_id != [0; 8];
    Ok(is_valid.then_some(TraceContext { trace_id, span_id, flags: bytes[24] }))
}

fn reason_to_wire(reason: &ExitReason) -> (u64, String, u64) {
    match reason {
        ExitReason::Stopped => (STOPPED, String::new(), 0),
        ExitReason::Failed(text) => (FAILED, text.clone(), 0),
        ExitReason::Panicked(text) => (PANICKED, text.clone(), 0),
        ExitReason::RestartsExhausted { restarts, last } => {
            (RESTARTS_EXHAUSTED, last.clone(), (*restarts).into())
        }
        ExitReason::SystemStopped => (SYSTEM_STOPPED, String::new(), 0),
        other => (OTHER_REASON, other.to_string(), 0),
    }
}

fn reason_from_wire(number: u64, text: &str, count: u64) -> ExitReason {
    let text = Refusal::new(RefusalCode::Other, text).text;
    match number {
        STOPPED => ExitReason::Stopped,
        PANICKED => ExitReason::Panicked(text),
        RESTARTS_EXHAUSTED => {
            ExitReason::RestartsExhausted { restarts: u32::try_from(count).unwrap_or(u32::MAX), last: text }
        }
        SYSTEM_STOPPED => ExitReason::SystemStopped,
        // A reason of a later version is a failure as far as this one can tell.
        _ => ExitReason::Failed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::super::buffer::FrameBuffer;
    use super::*;
    use crate::Keypair;
    use proptest::prelude::*;

    /// Every frame in `bytes`, until they end or are none.
    fn read_all(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, FrameError> {
        let mut buffer = FrameBuffer::default();
        buffer.feed(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = buffer.next()? {
            let (header, body) = buffer.parts(frame);
            frames.push((format!("{:?}", read_header(header)?), body.to_vec()));
        }
        Ok(frames)
    }

    fn did() -> Did {
        Keypair::from_secret(&[1; 32]).did()
    }

    fn word() -> Word<'static> {
        Word { to: "/node", kind: "a.b/1", id: 7, is_ask: true, ttl_ms: None, from: None, trace: None }
    }

    fn trace() -> TraceContext {
        TraceContext { trace_id: [0xaa; 16], span_id: [0xbb; 8], flags: 1 }
    }

    /// One of each, with the bytes of its header.
    fn golden() -> Vec<(Header<'static>, String)> {
        let hello = Hello { version: VERSION, network: "n", did: did() };
        let refusal = || Refusal::new(RefusalCode::Busy, "x");
        let text = |text: &str| format!("{:02x}{}", 0x60 + text.len(), hex(text.as_bytes()));
        let did = format!("7838{}", hex(did().to_string().as_bytes()));
        let (node, kind, busy) = (text("/node"), text("a.b/1"), text("busy"));
        let full = Word { ttl_ms: Some(500), from: Some("/a"), trace: Some(trace()), ..word() };
        let exhausted = ExitReason::RestartsExhausted { restarts: 3, last: "x".into() };
        let trace = format!("5819{}{}01", "aa".repeat(16), "bb".repeat(8));
        vec![
            (Header::Hello(hello.clone()), format!("840002616e{did}")),
            (Header::Welcome(hello), format!("840102616e{did}")),
            (Header::Unwelcome(refusal()), format!("8302{busy}6178")),
            (Header::Word(word()), format!("8503{node}{kind}07f5")),
            (Header::Word(Word { is_ask: false, ..word() }), format!("8503{node}{kind}07f4")),
            (Header::Word(full), format!("8603{node}{kind}07f5a3011901f402622f6103{trace}")),
            (Header::Taken { to: "/node", through: 256 }, format!("8304{node}190100")),
            (Header::Refused { id: 1, to: None, refusal: refusal() }, format!("840501{busy}6178")),
            (
                Header::Refused { id: 1, to: Some("/node"), refusal: refusal() },
                format!("850501{busy}6178a101{node}"),
            ),
            (Header::Reply { id: 3 }, "820603".into()),
            (Header::Lost { id: 4 }, "820704".into()),
            (Header::Lookup { request: 1, to: "/node", kind: "a.b/1" }, format!("840801{node}{kind}")),
            (Header::Found { request: 1 }, "820901".into()),
            (Header::Denied { request: 1, refusal: refusal() }, format!("840a01{busy}6178")),
            (Header::Watch { request: 2, to: "/node" }, format!("830b02{node}")),
            (Header::Unwatch { request: 2 }, "820c02".into()),
            (Header::Ended { request: 2, reason: ExitReason::Stopped }, "850d02006000".into()),
            (Header::Ended { request: 2, reason: ExitReason::Failed("x".into()) }, "850d0201617800".into()),
            (Header::Ended { request: 2, reason: ExitReason::Panicked("x".into()) }, "850d0202617800".into()),
            (Header::Ended { request: 2, reason: exhausted }, "850d0203617803".into()),
            (Header::Ended { request: 2, reason: ExitReason::SystemStopped }, "850d02046000".into()),
            (Header::Ping, "810e".into()),
            (Header::Pong, "810f".into()),
            (Header::Introduce, "8110".into()),
        ]
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn every_frame_has_its_golden_bytes_and_is_read_as_it_was_written() {
        for (header, expected) in golden() {
            let bytes = encode(&header, b"body").unwrap();
            let length = expected.len() / 2;
            assert_eq!(hex(&bytes), format!("{:08x}{length:04x}{expected}{}", 6 + length, hex(b"body")));
            assert_eq!(read_all(&bytes).unwrap(), [(format!("{header:?}"), b"body".to_vec())]);
            // It is deterministic CBOR, as everything here.
            assert_eq!(cbor::check(&bytes[PREFIX..PREFIX + length], 2048), Ok(()));
        }
    }

    #[test]
    fn options_of_a_later_version_are_skipped_and_other_growth_is_refused() {
        let plain = encode(&Header::Word(word()), b"").unwrap()[PREFIX..].to_vec();
        let grown = |head: u8, tail: &[u8]| [&[head], &plain[1..], tail].concat();
        let read = |bytes: &[u8]| read_header(bytes).map(|header| format!("{header:?}"));
        let word = format!("{:?}", Header::Word(word()));
        assert_eq!(read(&plain).unwrap(), word);
        assert_eq!(read(&grown(0x86, b"\xa0")).unwrap(), word);
        assert_eq!(read(&grown(0x86, b"\xa2\x04\x82\xa1\x01\xf6\x41x\x18\x64\xf5")).unwrap(), word);
        let refused: [&[u8]; 7] = [
            &grown(0x87, b"\xa0\xa0"),
            &grown(0x84, b""),
            &grown(0x86, b"\x01"),
            &grown(0x86, b"\xa2\x04\x01\x04\x01"),
            &grown(0x86, b"\xa1\x03\x41x"),
            &grown(0x86, b"\xa1\x04\x9b\x7f\xff\xff\xff\xff\xff\xff\xff"),
            &grown(0x85, b"\x00"),
        ];
        for bytes in refused {
            assert!(read_header(bytes).is_err(), "{bytes:02x?}");
        }
        assert!(matches!(read_header(b"\x81\x11"), Err(FrameError::OutOfPlace(_))));
        // Later codes and reasons read as "other" and "failed".
        assert!(matches!(read_header(b"\x83\x02\x64gone\x60"),
            Ok(Header::Unwelcome(refusal)) if refusal.code == RefusalCode::Other));
        let later = read_header(b"\x85\x0d\x01\x18\x63\x61x\x00").unwrap();
        assert_eq!(later, Header::Ended { request: 1, reason: ExitReason::Failed("x".into()) });
    }

    #[test]
    fn nesting_costs_no_stack() {
        let deep = [b"\x82\x0e\xa1\x04".to_vec(), vec![0x81; 2000], vec![0xf6]].concat();
        assert_eq!(read_header(&deep).unwrap(), Header::Ping);
        assert!(read_header(&deep[..2000]).is_err());
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_read() {
        let reply = Header::Reply { id: 1 };
        let longest = encode(&reply, &vec![0; MAX_BODY_LENGTH]).unwrap();
        assert_eq!(read_all(&longest).unwrap().len(), 1);
        assert!(encode(&reply, &vec![0; MAX_BODY_LENGTH + 1]).is_err());
        let network = "n".repeat(MAX_HEADER_LENGTH);
        assert!(encode(&Header::Hello(Hello { version: 1, network: &network, did: did() }), &[]).is_err());
        assert!(matches!(read_all(&u32::MAX.to_be_bytes()), Err(FrameError::Length(_))));
        assert!(matches!(read_all(&[0, 0, 0, 1, 0]), Err(FrameError::Length(1))));
        assert!(matches!(read_all(&[0, 0, 0, 9, 0xff, 0xff]), Err(FrameError::HeaderLength(_))));
        assert!(matches!(read_all(&[0, 0, 0, 9, 0, 8]), Err(FrameError::HeaderLength(8))));
        let body_too_long = u32::try_from(2 + MAX_BODY_LENGTH + 1).unwrap().to_be_bytes();
        assert!(matches!(read_all(&[&body_too_long[..], &[0, 0]].concat()), Err(FrameError::Length(_))));
    }

    #[test]
    fn a_half_written_frame_is_no_frame_yet() {
        let bytes = encode(&Header::Taken { to: "/node", through: 1 }, b"x").unwrap();
        for end in 0..bytes.len() {
            assert_eq!(read_all(&bytes[..end]).unwrap(), [], "{end}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_all(&bytes);
        }

        #[test]
        fn garbage_headers_never_panic(header in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_header(&header);
        }

        #[test]
        fn a_damaged_header_is_refused_or_another_one(
            at in any::<proptest::sample::Index>(), byte in any::<u8>(), which in any::<proptest::sample::Index>(),
        ) {
            let (header, _) = which.get(&golden()).clone();
            let mut bytes = encode(&header, b"").unwrap().split_off(PREFIX);
            *at.get_mut(&mut bytes) = byte;
            if let Ok(read) = read_header(&bytes) {
                let again = encode(&read, b"").unwrap().split_off(PREFIX);
                prop_assert_eq!(&read_header(&again).unwrap(), &read);
            }
        }
    }
}
