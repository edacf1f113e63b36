//! Watches a job to its end, and passes its output through exactly once.
//!
//! While the job runs, output comes in pieces by attempt and offset; when it has ended, the collected whole
//! is fetched and only what was not printed yet is printed. A new attempt writes everything again: that is
//! said, and its output printed from the beginning. Of several tasks each line begins with the name of its task.

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

/// Longest part of a line that is held back until its end is there, so that lines of several tasks do not mix.
const MAX_LINE: usize = 64 * 1024;

/// Puts a task's name before each of its lines. Pure: says which bytes to print.
#[derive(Debug)]
struct Lines {
    prefix: String,
    /// The beginning of a line that has not ended.
    open: Vec<u8>,
}

impl Lines {
    fn of(name: &str) -> Self {
        Self { prefix: format!("{name} | "), open: Vec::new() }
    }

    /// The whole lines that there are with `bytes`.
    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut lines = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.open.extend_from_slice(part);
            if part.ends_with(b"\n") || self.open.len() >= MAX_LINE {
                lines.append(&mut self.rest());
            }
        }
        lines
    }

    /// The line that has not ended, ended.
    fn rest(&mut self) -> Vec<u8> {
        if self.open.is_empty() {
            return Vec::new();
        }
        let line = std::mem::take(&mut self.open);
        let end: &[u8] = if line.ends_with(b"\n") { b"" } else { b"\n" };
        [self.prefix.as_bytes(), &line, end].concat()
    }
}

/// What of one task is printed.
#[derive(Debug)]
struct Watched {
    /// Which task, from 0.
    task: u16,
    printed: Printed,
    /// Of standard output and standard error, if the job has several tasks and all are watched.
    lines: Option<(Lines, Lines)>,
}

impl Watched {
    /// The tasks of a job that are watched: all of them, or the one that is wanted.
    fn of(view: &JobView, wanted: Option<usize>) -> Vec<Self> {
        let names: Vec<&str> = view.tasks.iter().map(|task| task.name.as_str()).collect();
        if wanted.is_some() || names.len() < 2 {
            let task = u16::try_from(wanted.unwrap_or(0)).unwrap_or(u16::MAX);
            return vec![Self { task, printed: Printed::default(), lines: None }];
        }
        let watched = |(task, name): (u16, &str)| Self {
            task,
            printed: Printed::default(),
            lines: Some((Lines::of(name), Lines::of(name))),
        };
        (0..).zip(names).map(watched).collect()
    }

    /// What is to be printed of new bytes.
    fn shown(&mut self, stream: OutputStream, bytes: Vec<u8>) -> Vec<u8> {
        match (&mut self.lines, stream) {
            (None, _) => bytes,
            (Some((stdout, _)), OutputStream::Stdout) => stdout.take(&bytes),
            (Some((_, stderr)), OutputStream::Stderr) => stderr.take(&bytes),
        }
    }

    /// What is left to be printed when nothing follows.
    fn rest(&mut self, stream: OutputStream) -> Vec<u8> {
        match (&mut self.lines, stream) {
            (None, _) => Vec::new(),
            (Some((stdout, _)), OutputStream::Stdout) => stdout.rest(),
            (Some((_, stderr)), OutputStream::Stderr) => stderr.rest(),
        }
    }
}

/// Watches one job.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    client: &'a ApiClient,
    session: &'a Session,
    id: JobId,
    /// The only task that is watched, if not all are.
    wanted: Option<usize>,
    streams: Streams,
    /// None before the job was looked at.
    watched: Vec<Watched>,
    /// The attempt of which it was said that the output starts again.
    said_again: Option<u32>,
    said: String,
}

/// Watches a job until it has ended and everything is printed; none if the person stops watching first.
pub(super) async fn to_end(
    client: &ApiClient,
    session: &Session,
    id: JobId,
    task: Option<usize>,
    streams: Streams,
) -> Result<Option<JobView>, CliError> {
    let mut follower = Follower::new(client, session, id, task, streams);
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => Ok(None),
        view = follower.until_end() => view.map(Some),
    }
}

impl<'a> Follower<'a> {
    pub(super) fn new(
        client: &'a ApiClient,
        session: &'a Session,
        id: JobId,
        wanted: Option<usize>,
        streams: Streams,
    ) -> Self {
        let (watched, said) = (Vec::new(), String::new());
        Self { client, session, id, wanted, streams, watched, said_again: None, said }
    }

    /// How the job stands.
    async fn look(&mut self) -> Result<JobView, ClientError> {
        let view = self.client.job(self.id).await?;
        if self.watched.is_empty() {
            self.watched = Watched::of(&view, self.wanted);
        }
        Ok(view)
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
        let view = self.look().await?;
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
        let view = self.look().await?;
        if view.is_terminal {
            return self.whole(&view).await;
        }
        loop {
            if self.live().await? == 0 {
                // The rest of a line may come later; what there is by now is wanted now.
                return self.rest();
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
        for index in 0..self.watched.len() {
            for (stream, is_error) in self.streams.list() {
                let watched = &mut self.watched[index];
                let offset = *watched.printed.offset(*stream);
                let piece = self.client.output(self.id, watched.task, *stream, offset).await?;
                self.begin(index, piece.attempt)?;
                let watched = &mut self.watched[index];
                let new = watched.printed.take(*stream, piece.offset, &piece.bytes).to_vec();
                printed += new.len();
                write(&watched.shown(*stream, new), *is_error)?;
            }
        }
        Ok(printed)
    }

    /// Prints the rest of the collected output of a job that has ended.
    async fn whole(&mut self, view: &JobView) -> Result<(), CliError> {
        for index in 0..self.watched.len() {
            for (stream, is_error) in self.streams.list() {
                let Some(content) = content(view, self.watched[index].task, *stream) else { continue };
                let bytes = self.client.blob(&content).await?;
                self.begin(index, Some(view.attempt_count))?;
                let watched = &mut self.watched[index];
                let new = watched.printed.take(*stream, 0, &bytes).to_vec();
                write(&watched.shown(*stream, new), *is_error)?;
            }
        }
        self.rest()
    }

    /// Prints what was held back of lines that have not ended.
    fn rest(&mut self) -> Result<(), CliError> {
        for watched in &mut self.watched {
            for (stream, is_error) in self.streams.list() {
                write(&watched.rest(*stream), *is_error)?;
            }
        }
        Ok(())
    }

    fn begin(&mut self, index: usize, attempt: Option<u32>) -> Result<(), CliError> {
        if !self.watched[index].printed.begin(attempt) {
            return Ok(());
        }
        // The line that the attempt before did not end is ended.
        for (stream, is_error) in self.streams.list() {
            write(&self.watched[index].rest(*stream), *is_error)?;
        }
        if self.said_again != attempt {
            self.said_again = attempt;
            self.session.out.note("the output starts again: this is a new attempt");
        }
        Ok(())
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

fn content(view: &JobView, task: u16, stream: OutputStream) -> Option<ContentId> {
    let (stdout, stderr) = match view.tasks.get(usize::from(task)) {
        Some(task) => (task.stdout, task.stderr),
        None => (view.stdout, view.stderr),
    };
    match stream {
        OutputStream::Stdout => stdout,
        OutputStream::Stderr => stderr,
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
    /// Standard output as text; what is not UTF-8 is replaced. The bytes are under the job's `stdout`. Of several tasks
    /// one's after another's.
    stdout: String,
    /// Standard error, likewise.
    stderr: String,
    /// Of each task, if there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tasks: Vec<CollectedTask>,
}

/// The collected output of one of several tasks.
#[derive(Debug, Serialize)]
struct CollectedTask {
    name: String,
    stdout: String,
    stderr: String,
}

impl Collected {
    /// What was written, as text.
    pub(super) fn of(stdout: &[u8], stderr: &[u8]) -> Self {
        Self { stdout: text(stdout), stderr: text(stderr), tasks: Vec::new() }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Everything that a job, or one task of it, has written: collected if it has ended, live until now if not.
pub(super) async fn collected(
    client: &ApiClient,
    view: &JobView,
    wanted: Option<usize>,
) -> Result<Collected, CliError> {
    if wanted.is_some() || view.tasks.is_empty() {
        let [stdout, stderr] = written(client, view, wanted.unwrap_or(0)).await?;
        return Ok(Collected::of(&stdout, &stderr));
    }
    let mut all = Collected::of(b"", b"");
    for (index, task) in view.tasks.iter().enumerate() {
        let [stdout, stderr] = written(client, view, index).await?.map(|bytes| text(&bytes));
        all.stdout.push_str(&stdout);
        all.stderr.push_str(&stderr);
        all.tasks.push(CollectedTask { name: task.name.clone(), stdout, stderr });
    }
    Ok(all)
}

/// Both streams of one task.
async fn written(client: &ApiClient, view: &JobView, task: usize) -> Result<[Vec<u8>; 2], CliError> {
    let task = u16::try_from(task).unwrap_or(u16::MAX);
    let mut streams = [Vec::new(), Vec::new()];
    for (bytes, stream) in streams.iter_mut().zip([OutputStream::Stdout, OutputStream::Stderr]) {
        *bytes = match content(view, task, stream) {
            Some(content) => client.blob(&content).await?.to_vec(),
            None if view.is_terminal => Vec::new(),
            None => live_so_far(client, view.id, task, stream).await?,
        };
    }
    Ok(streams)
}

async fn live_so_far(
    client: &ApiClient,
    id: JobId,
    task: u16,
    stream: OutputStream,
) -> Result<Vec<u8>, CliError> {
    let mut printed = Printed::default();
    let mut bytes = Vec::new();
    loop {
        let offset = *printed.offset(stream);
        let piece = client.output(id, task, stream, offset).await?;
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

    #[test]
    fn lines_of_several_tasks_are_told_apart_and_never_mixed() {
        let mut lines = Lines::of("left");
        assert_eq!(lines.take(b"one\ntw"), b"left | one\n");
        assert_eq!(lines.take(b""), b"");
        assert_eq!(lines.take(b"o\n\nthree"), b"left | two\nleft | \n");
        assert_eq!(lines.rest(), b"left | three\n");
        assert_eq!(lines.rest(), b"");
        // One that never ends is not kept for ever.
        let shown = lines.take(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!((shown.len(), lines.open.len()), ("left | \n".len() + MAX_LINE + 1, 0));
    }
}
