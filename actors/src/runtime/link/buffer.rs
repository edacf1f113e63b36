//! The two buffers of a link's stream: bytes that arrived and are not yet frames, and frames that are
//! not yet written.
//!
//! Neither allocates per frame. Memory for what a peer claims is taken as it arrives.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frame::{self, FrameError, Header, PREFIX};
use super::{READ_BUFFER, WRITE_CHUNK};
use crate::cbor::CborError;

/// Where a frame's header and body are.
#[derive(Debug, Clone)]
pub(super) struct FrameRange {
    header: Range<usize>,
    body: Range<usize>,
}

/// Bytes that arrived.
#[derive(Debug, Default)]
pub(super) struct FrameBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl FrameBuffer {
    /// The next whole frame. Its place is good until the next [`Self::poll_fill`].
    pub(super) fn next(&mut self) -> Result<Option<FrameRange>, FrameError> {
        let bytes = &self.bytes[self.start..self.end];
        let Some(prefix) = bytes.first_chunk::<PREFIX>() else {
            // A length that is out of range is refused with its fourth byte.
            if let Some(length) = bytes.first_chunk() {
                frame::check_length(u32::from_be_bytes(*length))?;
            }
            return Ok(None);
        };
        let (header_length, body_length) = frame::read_prefix(*prefix)?;
        let header = self.start + PREFIX;
        let body = header + header_length;
        if body + body_length > self.end {
            return Ok(None);
        }
        self.start = body + body_length;
        Ok(Some(FrameRange { header: header..body, body: body..self.start }))
    }

    /// The header and the body of a frame.
    pub(super) fn parts(&self, frame: FrameRange) -> (&[u8], &[u8]) {
        (&self.bytes[frame.header], &self.bytes[frame.body])
    }

    /// Reads what is there; says how many bytes, 0 at the end of the stream.
    pub(super) fn poll_fill<R: AsyncRead + Unpin>(
        &mut self,
        pipe: &mut R,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.make_room();
        let mut room = ReadBuf::new(&mut self.bytes[self.end..]);
        ready!(Pin::new(pipe).poll_read(cx, &mut room))?;
        let count = room.filled().len();
        self.end += count;
        Poll::Ready(Ok(count))
    }

    /// Moves what is left to the front; grows, up to the longest frame, only when full.
    fn make_room(&mut self) {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.bytes.len() > READ_BUFFER {
                // A long frame is over.
                self.bytes.truncate(READ_BUFFER);
                self.bytes.shrink_to_fit();
            }
        }
        if self.end == self.bytes.len() && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.end == self.bytes.len() {
            let longest = 4 + frame::MAX_FRAME_LENGTH;
            let length = (2 * self.bytes.len()).clamp(READ_BUFFER / 8, longest.max(self.bytes.len() + 1));
            self.bytes.resize(length, 0);
        }
    }

    /// Waits for one frame.
    pub(super) async fn read<R: AsyncRead + Unpin>(
        &mut self,
        pipe: &mut R,
    ) -> Result<FrameRange, FrameError> {
        loop {
            if let Some(frame) = self.next()? {
                return Ok(frame);
            }
            let count = std::future::poll_fn(|cx| self.poll_fill(pipe, cx)).await;
            if count.map_err(FrameError::Pipe)? == 0 {
                return Err(FrameError::Pipe(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes bytes as if they had arrived.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.truncate(self.end);
        self.bytes.extend_from_slice(bytes);
        self.end = self.bytes.len();
    }
}

/// Memory that is kept for the next frames when there is nothing to write: enough for a lively
/// conversation, so that a link that was busy once does not stay large.
const KEPT: usize = 16 * 1024;

/// Frames that wait to be written together, and the room they were given.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    pub(super) bytes: Vec<u8>,
    pub(super) room: usize,
}

/// Frames that wait to be written, in order, in chunks of about [`WRITE_CHUNK`].
#[derive(Debug, Default)]
pub(super) struct Chunks {
    chunks: VecDeque<Chunk>,
    length: usize,
    /// The memory of a written chunk, for the next.
    spare: Vec<u8>,
}

impl Chunks {
    /// Appends a frame that holds `room`. Fails only if it is too long.
    pub(super) fn push(&mut self, header: &Header<'_>, body: &[u8], room: usize) -> Result<(), CborError> {
        if self.chunks.back().is_none_or(|last| last.bytes.len() >= WRITE_CHUNK) {
            self.chunks.push_back(Chunk { bytes: std::mem::take(&mut self.spare), room: 0 });
        }
        let Some(last) = self.chunks.back_mut() else { return Ok(()) };
        let before = last.bytes.len();
        if let Err(error) = frame::append(&mut last.bytes, header, body) {
            self.chunks.retain(|chunk| !chunk.bytes.is_empty());
            return Err(error);
        }
        last.room += room;
        self.length += last.bytes.len() - before;
        Ok(())
    }

    /// Bytes that wait.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Moves the first chunk into `chunk`, whose own memory is kept for a later one.
    pub(super) fn pop_into(&mut self, chunk: &mut Chunk) -> bool {
        let Some(first) = self.chunks.pop_front() else { return false };
        self.length -= first.bytes.len();
        chunk.room += first.room;
        if chunk.bytes.is_empty() {
            let memory = std::mem::replace(&mut chunk.bytes, first.bytes);
            self.keep(memory);
        } else {
            chunk.bytes.extend_from_slice(&first.bytes);
            self.keep(first.bytes);
        }
        true
    }

    fn keep(&mut self, mut memory: Vec<u8>) {
        let limit = if self.chunks.is_empty() { KEPT } else { 2 * WRITE_CHUNK };
        if memory.capacity() <= limit && memory.capacity() > self.spare.capacity() {
            memory.clear();
            self.spare = memory;
        }
    }
}

/// What is being written.
#[derive(Debug, Default)]
pub(super) struct Writing {
    chunk: Chunk,
    written: usize,
    needs_flush: bool,
    /// The pipe took no more when it was last tried.
    is_full: bool,
    /// It was full, and has taken more since.
    has_progress: bool,
}

impl Writing {
    /// True while bytes that were begun are not yet with the pipe.
    pub(super) fn is_busy(&self) -> bool {
        self.written < self.chunk.bytes.len() || self.needs_flush
    }

    /// True once after each time that a full pipe had room again.
    pub(super) fn take_progress(&mut self) -> bool {
        std::mem::take(&mut self.has_progress)
    }

    /// Writes until the pipe takes no more (`Pending`) or `next` has no more and all is flushed.
    /// `next` fills an empty chunk, or not; `done` gets the room of a chunk that is written.
    pub(super) fn poll<W: AsyncWrite + Unpin>(
        &mut self,
        pipe: &mut W,
        cx: &mut Context<'_>,
        mut next: impl FnMut(&mut Chunk),
        mut done: impl FnMut(usize),
    ) -> Poll<io::Result<()>> {
        loop {
            if self.written == self.chunk.bytes.len() {
                if self.chunk.room > 0 {
                    done(std::mem::take(&mut self.chunk.room));
                }
                self.written = 0;
                self.chunk.bytes.clear();
                next(&mut self.chunk);
                if self.chunk.bytes.is_empty() {
                    self.chunk.bytes.shrink_to(KEPT);
                    break;
                }
            }
            let taken = Pin::new(&mut *pipe).poll_write(cx, &self.chunk.bytes[self.written..]);
            let was_full = std::mem::replace(&mut self.is_full, taken.is_pending());
            self.has_progress |= was_full && !self.is_full;
            let count = ready!(taken)?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(pipe).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn frames_of_any_size_come_out_as_they_went_in() {
        let (mut ours, mut theirs) = tokio::io::duplex(1000);
        let lengths = [0, 1, 5000, frame::MAX_BODY_LENGTH, 3, 70_000, 0];
        let writer = tokio::spawn(async move {
            let mut chunks = Chunks::default();
            for (id, length) in (0..).zip(lengths) {
                chunks.push(&Header::Reply { id }, &vec![7; length], 10).unwrap();
            }
            let (mut writing, mut room) = (Writing::default(), 0);
            let next = |chunk: &mut Chunk| {
                chunks.pop_into(chunk);
            };
            let (mut next, mut done) = (next, |written| room += written);
            std::future::poll_fn(|cx| writing.poll(&mut theirs, cx, &mut next, &mut done)).await.unwrap();
            room
        });
        let mut buffer = FrameBuffer::default();
        for (expected, length) in (0..).zip(lengths) {
            let frame = buffer.read(&mut ours).await.unwrap();
            let (header, body) = buffer.parts(frame);
            assert_eq!(frame::read_header(header).unwrap(), Header::Reply { id: expected });
            assert_eq!(body, vec![7; length]);
        }
        assert_eq!(writer.await.unwrap(), 70);
        assert!(matches!(buffer.read(&mut ours).await, Err(FrameError::Pipe(_))));
        assert!(buffer.bytes.len() <= READ_BUFFER);
    }

    #[test]
    fn a_claimed_length_takes_no_memory() {
        let mut buffer = FrameBuffer::default();
        buffer.feed(&[0, 3, 0xff, 0xff, 0, 1]);
        assert!(buffer.next().unwrap().is_none());
        buffer.make_room();
        assert!(buffer.bytes.len() <= READ_BUFFER);
    }
}
