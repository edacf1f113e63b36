//! Watches a job to its end, and passes its output through exactly once.
//!
//! While the job runs, output comes in pieces by attempt and offset; when it has ended, the collected whole
//! is fetched and only what was not printed yet is printed. A new attempt writes everything again: that is
//! said, and its output printed from the beginning.

use std::io::{self, Write};
use std::time::Duration;

use dms_messages::{ContentId, JobId, OutputStream};
use serde::Serialize;
use tokio::time::Instant;

use crate::api::client::{ApiClient, ClientError};
use crate::api::types::JobView;
use crate::cli::error::CliError;
use crate::cli::{Session, output};

/// How often a job is looked at: quick enough to feel live, rare enough not to be noticed.
const POLL: Duration = Duration::from_millis(100);
/// How long a node may be away (restarting, busy) before watching ends.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which output goes where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Streams {
    /// Each to its own.
    Both,
    /// Standard error only, to standard output.
    StderrToStdout,
    /// Nothing is printed.
    None,
}

impl Streams {
    /// The streams to read, and whether each goes to standard error here.
    fn list(self) -> &'static [(OutputStream, bool)] {
        match self {
            Self::Both => &[(OutputStream::Stdout, false), (OutputStream::Stderr, true)],
            Self::StderrToStdout => &[(OutputStream::Stderr, false)],
            Self::None => &[],
        }
    }
}

/// What of one attempt's output was printed. Pure: says which bytes to print.
#[derive(Debug, Default, PartialEq, Eq)]
struct Printed {
    attempt: Option<u32>,
    stdout: u64,
    stderr: u64,
}

impl Printed {
    fn offset(&mut self, stream: OutputStream) -> &mut u64 {
        match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        }
    }

    /// Moves on to `attempt`; true if output of another one was printed before.
    fn begin(&mut self, attempt: Option<u32>) -> bool {
        if attempt.is_none() || attempt == self.attempt {
            return false;
        }
        let is_again = self.stdout + self.stderr > 0;
        *self = Self { attempt, stdout: 0, stderr: 0 };
        is_again
    }

    /// The part of `bytes`, which begin at `offset` of the stream, that is new and joins what was printed.
    fn take<'a>(&mut self, stream: OutputStream, offset: u64, bytes: &'a [u8]) -> &'a [u8] {
        let printed = self.offset(stream);
        let skip = printed.checked_sub(offset).and_then(|skip| usize::try_from(skip).ok());
        // Bytes beyond a gap wait for the collected whole.
        let new = skip.and_then(|skip| bytes.get(skip..)).unwrap_or_default();
        *printed += new.len() as u64;
        new
    }
}

/// Watches one job.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    client: &'a ApiClient,
    session: &'a Session,
    id: JobId,
    streams: Streams,
    printed: Printed,
    said: String,
}

/// Watches a job until it has ended and everything is printed; none if the person stops watching first.
pub(super) async fn to_end(
    client: &ApiClient,
    session: &Session,
    id: JobId,
    streams: Streams,
) -> Result<Option<JobView>, CliError> {
    let mut follower = Follower::new(client, session, id, streams);
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(None),
        view = follower.until_end() => view.map(Some),
    }
}

impl<'a> Follower<'a> {
    pub(super) fn new(client: &'a ApiClient, session: &'a Session, id: JobId, streams: Streams) -> Self {
        Self { client, session, id, streams, printed: Printed::default(), said: String::new() }
    }

    async fn until_end(&mut self) -> Result<JobView, CliError> {
        let mut last_answer = Instant::now();
        let mut is_away = false;
        loop {
            match self.step().await {
                Ok(view) => {
                    if view.is_terminal {
                        return Ok(view);
                    }
                    last_answer = Instant::now();
                    is_away = false;
                }
                Err(CliError::Client(error)) if is_passing(&error) && last_answer.elapsed() < PATIENCE => {
                    if !is_away {
                        self.session.out.note(&format!("{error}; waiting for it, the job goes on"));
                        is_away = true;
                    }
                }
                Err(CliError::Client(error)) if is_passing(&error) => {
                    let message = format!(
                        "gave up watching after {} s without the node; the job goes on where it runs",
                        PATIENCE.as_secs()
                    );
                    let words = format!("job logs {} --follow", output::short_id(&self.id));
                    let error = CliError::Client(error).while_doing(message);
                    return Err(error.advised("watch it again with", words));
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Looks once: says what changed, prints what is new.
    async fn step(&mut self) -> Result<JobView, CliError> {
        let view = self.client.job(self.id).await?;
        if !view.is_terminal {
            self.say(&view);
            self.live().await?;
            return Ok(view);
        }
        self.whole(&view).await?;
        if let Some(line) = output::dropped(&view) {
            self.session.out.note(&line);
        }
        self.say(&view);
        Ok(view)
    }

    /// Prints everything that there is by now, without a word about the job.
    pub(super) async fn catch_up(&mut self) -> Result<(), CliError> {
        let view = self.client.job(self.id).await?;
        if view.is_terminal {
            return self.whole(&view).await;
        }
        loop {
            if self.live().await? == 0 {
                return Ok(());
            }
        }
    }

    fn say(&mut self, view: &JobView) {
        let line = output::progress(view);
        if line != self.said {
            self.session.out.note(&line);
            self.said = line;
        }
    }

    /// Prints new live output; gives how many bytes there were.
    async fn live(&mut self) -> Result<usize, CliError> {
        let mut printed = 0;
        for (stream, is_error) in self.streams.list() {
            let offset = *self.printed.offset(*stream);
            let piece = self.client.output(self.id, *stream, offset).await?;
            self.begin(piece.attempt);
            let new = self.printed.take(*stream, piece.offset, &piece.bytes);
            write(new, *is_error)?;
            printed += new.len();
        }
        Ok(printed)
    }

    /// Prints the rest of the collected output of a job that has ended.
    async fn whole(&mut self, view: &JobView) -> Result<(), CliError> {
        for (stream, is_error) in self.streams.list() {
            let Some(content) = content(view, *stream) else { continue };
            let bytes = self.client.blob(&content).await?;
            self.begin(Some(view.attempt_count));
            write(self.printed.take(*stream, 0, &bytes), *is_error)?;
        }
        Ok(())
    }

    fn begin(&mut self, attempt: Option<u32>) {
        if self.printed.begin(attempt) {
            self.session.out.note("the output starts again: this is a new attempt");
        }
    }
}

/// True if the node may well answer again soon.
fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::NotRunning { .. }
        | ClientError::Unreachable { .. }
        | ClientError::TimedOut
        | ClientError::Protocol(_) => true,
        ClientError::Refused(error) => matches!(error.code.as_str(), "busy" | "stopping" | "timed_out"),
        _ => false,
    }
}

fn content(view: &JobView, stream: OutputStream) -> Option<ContentId> {
    match stream {
        OutputStream::Stdout => view.stdout,
        OutputStream::Stderr => view.stderr,
    }
}

/// Passes a program's bytes on as they are: whoever runs a program wants what it wrote.
pub(super) fn pass_on(bytes: &[u8], is_error: bool) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    if is_error {
        return io::stderr().lock().write_all(bytes);
    }
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

fn write(bytes: &[u8], is_error: bool) -> Result<(), CliError> {
    pass_on(bytes, is_error)
        .map_err(|error| CliError::caused("cannot pass the program's output on; the job goes on", error))
}

/// The collected output of a job, for programs.
#[derive(Debug, Serialize)]
pub(super) struct Collected {
    /// Standard output as text; what is not UTF-8 is replaced. The bytes are under the job's `stdout`.
    stdout: String,
    /// Standard error, likewise.
    stderr: String,
}

impl Collected {
    /// What was written, as text.
    pub(super) fn of(stdout: &[u8], stderr: &[u8]) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Self { stdout: text(stdout), stderr: text(stderr) }
    }
}

/// Everything that a job has written: collected if it has ended, live until now if not.
pub(super) async fn collected(client: &ApiClient, view: &JobView) -> Result<Collected, CliError> {
    let mut streams = [Vec::new(), Vec::new()];
    for (bytes, stream) in streams.iter_mut().zip([OutputStream::Stdout, OutputStream::Stderr]) {
        *bytes = match content(view, stream) {
            Some(content) => client.blob(&content).await?.to_vec(),
            None if view.is_terminal => Vec::new(),
            None => live_so_far(client, view.id, stream).await?,
        };
    }
    let [stdout, stderr] = streams;
    Ok(Collected::of(&stdout, &stderr))
}

async fn live_so_far(client: &ApiClient, id: JobId, stream: OutputStream) -> Result<Vec<u8>, CliError> {
    let mut printed = Printed::default();
    let mut bytes = Vec::new();
    loop {
        let offset = *printed.offset(stream);
        let piece = client.output(id, stream, offset).await?;
        if printed.begin(piece.attempt) {
            bytes.clear();
        }
        let new = printed.take(stream, piece.offset, &piece.bytes);
        if new.is_empty() {
            return Ok(bytes);
        }
        bytes.extend_from_slice(new);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_is_printed_twice_and_none_is_skipped() {
        use OutputStream::{Stderr, Stdout};
        let mut printed = Printed::default();
        assert!(!printed.begin(Some(1)));
        assert_eq!(printed.take(Stdout, 0, b"hello"), b"hello");
        assert_eq!(printed.take(Stdout, 0, b"hello"), b"", "a repeat");
        assert_eq!(printed.take(Stdout, 3, b"lo wor"), b" wor", "an overlap");
        assert_eq!(printed.take(Stdout, 20, b"late"), b"", "beyond a gap");
        assert_eq!(printed.take(Stderr, 0, b"err"), b"err", "the other stream is counted alone");
        assert_eq!(printed.take(Stdout, 0, b"hello world!"), b"ld!", "the collected whole");
    }

    #[test]
    fn a_new_attempt_starts_over_and_is_announced_once() {
        let mut printed = Printed::default();
        assert!(!printed.begin(None));
        assert!(!printed.begin(Some(1)), "nothing was printed before");
        printed.take(OutputStream::Stdout, 0, b"first");
        assert!(!printed.begin(None), "an answer without an attempt changes nothing");
        assert!(!printed.begin(Some(1)));
        assert!(printed.begin(Some(2)));
        assert!(!printed.begin(Some(2)));
        assert_eq!(printed.take(OutputStream::Stdout, 5, b""), b"");
        assert_eq!(printed.take(OutputStream::Stdout, 0, b"second"), b"second");
    }
}
