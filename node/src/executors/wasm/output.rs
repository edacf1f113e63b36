//! A guest's standard output and error: streams into one bounded channel.
//!
//! [`super::guest`] hands one [`Stdio`] per stream to WASI. A full channel makes the guest wait, bytes over
//! the grant are dropped and counted, and a reader that went away is no concern of the guest's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream as WasiOutput, Pollable, StreamError};

use super::Meter;
use crate::executors::{OutputChunk, OutputStream};

/// Largest chunk handed to the reader.
pub(super) const CHUNK_BYTES: usize = 16 << 10;

/// One of a guest's two output streams, before the guest has opened it.
pub(super) struct Stdio {
    stream: OutputStream,
    sender: mpsc::Sender<OutputChunk>,
    /// Bytes still granted, shared by all handles a guest opens to the same stream.
    left: Arc<AtomicU64>,
    meter: Arc<Meter>,
}

impl Stdio {
    pub(super) fn new(
        stream: OutputStream,
        sender: mpsc::Sender<OutputChunk>,
        granted_bytes: u64,
        meter: Arc<Meter>,
    ) -> Self {
        Self { stream, sender, left: Arc::new(AtomicU64::new(granted_bytes)), meter }
    }

    fn handle(&self) -> Handle {
        Handle {
            stream: self.stream,
            sender: self.sender.clone(),
            left: Arc::clone(&self.left),
            meter: Arc::clone(&self.meter),
            permit: None,
        }
    }
}

impl IsTerminal for Stdio {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stdio {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Asked for by WASI preview 3 only. A loud failure of one guest is better than output lost in silence.
        unreachable!("WASI preview 3 is not linked")
    }

    fn p2_stream(&self) -> Box<dyn WasiOutput> {
        Box::new(self.handle())
    }
}

/// A guest's open handle to one of its output streams.
struct Handle {
    stream: OutputStream,
    sender: mpsc::Sender<OutputChunk>,
    left: Arc<AtomicU64>,
    meter: Arc<Meter>,
    /// A place in the channel that was promised to the guest and not used yet.
    permit: Option<mpsc::OwnedPermit<OutputChunk>>,
}

impl Handle {
    /// Whether what is written now has nowhere to go, so that there is nothing to wait for.
    fn is_discarding(&self) -> bool {
        self.sender.is_closed() || self.left.load(Ordering::Relaxed) == 0
    }
}

#[async_trait]
impl Pollable for Handle {
    async fn ready(&mut self) {
        if self.permit.is_none() && !self.is_discarding() {
            // An error means that the reader is gone: ready to discard.
            self.permit = self.sender.clone().reserve_owned().await.ok();
        }
    }
}

impl WasiOutput for Handle {
    fn check_write(&mut self) -> Result<usize, StreamError> {
        if self.permit.is_none() && !self.is_discarding() {
            match self.sender.clone().try_reserve_owned() {
                Ok(permit) => self.permit = Some(permit),
                Err(TrySendError::Full(_)) => return Ok(0),
                Err(TrySendError::Closed(_)) => {}
            }
        }
        Ok(CHUNK_BYTES)
    }

    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        if bytes.len() > CHUNK_BYTES {
            return Err(StreamError::trap("more written to an output stream than was allowed"));
        }
        // One guest has one thread, so nobody else takes from `left` between the load and the store.
        let left = self.left.load(Ordering::Relaxed);
        let kept = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.left.store(left - kept as u64, Ordering::Relaxed);
        self.meter.output_dropped_bytes.fetch_add((bytes.len() - kept) as u64, Ordering::Relaxed);
        if kept > 0 {
            if let Some(permit) = self.permit.take() {
                permit.send(OutputChunk { stream: self.stream, bytes: bytes[..kept].to_vec() });
            } else if !self.sender.is_closed() {
                return Err(StreamError::trap("an output stream was written without being ready"));
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stdout(granted_bytes: u64) -> (Handle, mpsc::Receiver<OutputChunk>, Arc<Meter>) {
        let (sender, receiver) = mpsc::channel(2);
        let meter = Arc::new(Meter::default());
        let stdio = Stdio::new(OutputStream::Stdout, sender, granted_bytes, Arc::clone(&meter));
        (stdio.handle(), receiver, meter)
    }

    #[test]
    fn a_full_channel_is_not_ready_and_a_read_makes_it_so() {
        let (mut handle, mut receiver, _) = stdout(100);
        for _ in 0..2 {
            assert_eq!(handle.check_write().unwrap(), CHUNK_BYTES);
            handle.write(Bytes::from_static(b"x")).unwrap();
        }
        assert_eq!(handle.check_write().unwrap(), 0);
        assert!(handle.write(Bytes::from_static(b"x")).is_err(), "written without a permit");
        receiver.try_recv().unwrap();
        assert_eq!(handle.check_write().unwrap(), CHUNK_BYTES);
    }

    #[test]
    fn what_is_over_the_grant_is_cut_counted_and_never_waits() {
        let (mut handle, mut receiver, meter) = stdout(5);
        assert_eq!(handle.check_write().unwrap(), CHUNK_BYTES);
        handle.write(Bytes::from_static(b"seven b")).unwrap();
        for _ in 0..10 {
            assert_eq!(handle.check_write().unwrap(), CHUNK_BYTES);
            handle.write(Bytes::from_static(b"more")).unwrap();
        }
        assert_eq!(receiver.try_recv().unwrap().bytes, b"seven");
        assert!(receiver.try_recv().is_err());
        assert_eq!(meter.output_dropped_bytes.load(Ordering::Relaxed), 42);
    }

    #[tokio::test]
    async fn a_reader_that_left_holds_nobody_up() {
        let (mut handle, receiver, _) = stdout(100);
        drop(receiver);
        for _ in 0..10 {
            handle.ready().await;
            assert_eq!(handle.check_write().unwrap(), CHUNK_BYTES);
            handle.write(Bytes::from_static(b"x")).unwrap();
        }
    }
}
