//! The ways into the link's code that a fuzzer needs and nobody else does.

use super::buffer::FrameBuffer;
use super::frame;

/// Reads frames out of `bytes` as a link would, until they end or are none; says how many there were.
///
/// # Panics
/// If the decoder breaks a promise: what it has read must read the same after it is written again.
pub fn decode(bytes: &[u8]) -> usize {
    let mut buffer = FrameBuffer::default();
    buffer.feed(bytes);
    let mut count = 0;
    while let Ok(Some(frame)) = buffer.next() {
        let (header, body) = buffer.parts(frame);
        assert!(body.len() <= frame::MAX_BODY_LENGTH);
        let Ok(header) = frame::read_header(header) else { break };
        // A peer may write more than we do (options that are skipped, longer texts): ours is never longer.
        let again = frame::encode(&header, body).expect("what was read fits");
        let again = frame::read_header(&again[frame::PREFIX..again.len() - body.len()]);
        assert!(again.is_ok_and(|again| again == header), "{header:?}");
        count += 1;
    }
    count
}
