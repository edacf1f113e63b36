//! A small file system in memory for one directory, which processes see that are started in it, and which can be full.
//!
//! It lives in a namespace of its own that a process of ours holds open, so it outlives the nodes that write to it.
//! From outside it is seen through that process. Where the system lets nobody mount anything there is none.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Killed;

/// The file system of one directory.
#[derive(Debug)]
pub struct SmallDisk {
    /// Holds the namespace until its input ends, with this test at the latest.
    holder: Killed,
    directory: PathBuf,
}

impl SmallDisk {
    /// Mounts one of this size over a directory; none where that is not possible.
    pub fn mount(directory: &Path, mib: u32) -> Option<Self> {
        let script = r#"mount -t tmpfs -o "size=$2m,mode=700" tmpfs "$1" && echo mounted && exec cat"#;
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-ec", script, "sh"]).arg(directory).arg(mib.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut holder = Killed(command.spawn().ok()?);
        let stdout = holder.0.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).ok()?;
        let disk = Self { holder, directory: directory.to_owned() };
        // To enter it is another right than to make it.
        let is_entered = disk.command("true").status().is_ok_and(|status| status.success());
        (line == "mounted\n" && is_entered && disk.seen_from_here().is_dir()).then_some(disk)
    }

    /// A command that sees it.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.holder.0.id().to_string();
        command.args(["--user", "--mount", "--preserve-credentials", "--target", &holder]);
        command.arg(program.as_ref());
        command
    }

    /// The directory, as whoever is outside finds it.
    pub fn seen_from_here(&self) -> PathBuf {
        let directory = self.directory.strip_prefix("/").unwrap_or(&self.directory);
        PathBuf::from(format!("/proc/{}/root", self.holder.0.id())).join(directory)
    }

    /// Takes what space there is, to the last byte.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("an empty file needs no space");
        for piece in [1 << 16, 1 << 12, 1] {
            let piece = vec![0xd5; piece];
            while ballast.write(&piece).is_ok_and(|count| count > 0) {}
        }
    }

    /// Gives it back.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("it was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.seen_from_here().join("ballast")
    }
}
