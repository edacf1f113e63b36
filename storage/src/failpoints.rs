//! Named places in the program where a test kills it: the moments at which a crash could break a promise.
//!
//! Passed by the committer and by the Node; armed by [`arm`], which the `dms` program calls once at its start. Without
//! the feature `failpoints` nothing is compiled in. It does one thing: end the process as SIGKILL does, with nothing
//! flushed, told or dropped.

/// A batch is about to be given to the engine: nothing of it is on the disk.
pub const BEFORE_WRITE: &str = "before-write";
/// The engine has taken a batch, synced if that was asked for, and nobody has been told.
pub const AFTER_WRITE: &str = "after-write";
/// One commit of a written group is about to be acknowledged; those before it are, those behind it are not.
pub const BEFORE_ACKNOWLEDGE: &str = "before-acknowledge";
/// An allocation is on the disk and its acceptance said; its actor does not exist yet.
pub const BEFORE_SPAWN: &str = "before-spawn";
/// A workload has been given to the executor.
pub const AFTER_SPAWN: &str = "after-spawn";
/// Capacity is free again in memory, and not yet on the disk.
pub const MID_RELEASE: &str = "mid-release";

/// All of them.
pub const ALL: [&str; 6] =
    [BEFORE_WRITE, AFTER_WRITE, BEFORE_ACKNOWLEDGE, BEFORE_SPAWN, AFTER_SPAWN, MID_RELEASE];

/// Names the failpoint and how often it is passed before the process is killed there: `before-write:3`.
pub const VARIABLE: &str = "DMS_FAILPOINT";

/// Passes a failpoint; if it is armed and its count is reached, this does not return.
#[inline]
pub fn pass(name: &str) {
    #[cfg(feature = "failpoints")]
    fail::fail_point!(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Arms the failpoint that [`VARIABLE`] names, if it names one. Without the feature the variable is not read.
///
/// # Errors
/// A sentence, if the variable names no failpoint or no count: a test that kills nobody would prove nothing.
pub fn arm() -> Result<(), String> {
    #[cfg(feature = "failpoints")]
    if let Some(text) = std::env::var_os(VARIABLE) {
        let text = text.to_string_lossy();
        let (name, count) = parse(&text).ok_or_else(|| format!("{VARIABLE}={text} is not NAME:COUNT"))?;
        armed::arm(name, count)?;
    }
    Ok(())
}

/// A failpoint's name and a count from 1.
#[cfg(any(feature = "failpoints", test))]
fn parse(text: &str) -> Option<(&'static str, u64)> {
    let (name, count) = text.split_once(':')?;
    let name = ALL.into_iter().find(|known| *known == name)?;
    count.parse().ok().filter(|count| *count > 0).map(|count| (name, count))
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    pub(super) fn arm(name: &'static str, count: u64) -> Result<(), String> {
        let left = AtomicU64::new(count);
        fail::cfg_callback(name, move || {
            // Passes of several threads count each; the one that finds 1 left is the last.
            if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                die();
            }
        })
    }

    fn die() -> ! {
        let killed = kill_process(getpid(), Signal::KILL);
        // Whoever may not signal itself still has to be gone, with nothing unwound.
        tracing::error!(?killed, "a failpoint could not kill its process");
        std::process::abort()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failpoint_is_a_known_name_and_a_count_from_one() {
        for name in ALL {
            assert_eq!(parse(&format!("{name}:7")), Some((name, 7)));
        }
        for wrong in
            ["", "before-write", "before-write:", "before-write:0", "before-write:x", "after:1", ":1"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
