//! The ways into the link's code that a fuzzer needs and nobody else does.

use super::buffer::FrameBuffer;
use super::frame::{self, FrameError};

/// Reads frames out of `bytes` as a link would, until they end or are none; says how many there were.
/// [`read`] says why there were no more.
///
/// # Panics
/// If the decoder breaks a promise: what it has read must read the same after it is written again.
pub fn decode(bytes: &[u8]) -> usize {
    let mut count = 0;
    let _ = read(bytes, &mut count);
    count
}

/// Reads frames out of `bytes` as a link would, and counts them, until they end.
///
/// # Errors
/// Why what follows is no frame, with its cause.
///
/// # Panics
/// As [`decode`].
pub fn read(bytes: &[u8], count: &mut usize) -> Result<(), String> {
    let mut buffer = FrameBuffer::default();
    buffer.feed(bytes);
    while let Some(frame) = buffer.next().map_err(chain)? {
        let (header, body) = buffer.parts(frame);
        assert!(body.len() <= frame::MAX_BODY_LENGTH);
        let header = frame::read_header(header).map_err(chain)?;
        // A peer may write more than we do (options that are skipped, longer texts): ours is never longer.
        let again = frame::encode(&header, body).expect("what was read fits");
        let again = frame::read_header(&again[frame::PREFIX..again.len() - body.len()]);
        assert!(again.is_ok_and(|again| again == header), "{header:?}");
        *count += 1;
    }
    Ok(())
}

fn chain(error: FrameError) -> String {
    match std::error::Error::source(&error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
