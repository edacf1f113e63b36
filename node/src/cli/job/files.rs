//! Directories to file trees and back.
//!
//! Upward: plain files only; a link is refused by name rather than followed or left out. Downward: every
//! path is a checked [`RelativePath`](dms_messages::RelativePath), every directory on the way is a real one,
//! and a file appears whole under its name or not at all; what is replaced is replaced, never written through.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dms_messages::{ContentId, DiskMib, FileEntry, FileTree, RelativePath, check_task_name};

use crate::api::MAX_BLOB_BYTES;
use crate::api::client::ApiClient;
use crate::api::types::JobView;
use crate::cli::error::{BAD_JOB, CANNOT_WRITE, CliError};

/// Most files that are sent, as many as a tree may have.
const MAX_FILES: usize = 4096;
/// Deepest directory that is looked into; a tree's paths are no deeper.
const MAX_DEPTH: usize = 32;

/// What cannot be sent because of how it is, rather than because of the node.
fn unsendable(path: &Path, problem: impl std::fmt::Display) -> CliError {
    CliError::Plain { code: BAD_JOB, message: format!("{}: {problem}", path.display()) }
}

fn cannot(what: &str, path: &Path, error: io::Error) -> CliError {
    let message = format!("cannot {what} {}", path.display());
    CliError::Caused { code: CANNOT_WRITE, message, source: Box::new(error) }
}

/// Reads the file that a job names in `field`.
pub(super) fn read_named(field: &str, path: &Path) -> Result<Vec<u8>, CliError> {
    read(path).map_err(|error| error.while_doing(field))
}

/// Refuses an input directory that cannot be sent, or that alone takes more than the job's disk.
pub(super) fn check_input(directory: &Path, disk: DiskMib) -> Result<(), CliError> {
    let mut length = 0_u64;
    for (_, path) in list(directory).map_err(|error| error.while_doing("input"))? {
        length = length.saturating_add(fs::metadata(&path).map_err(|error| unsendable(&path, error))?.len());
    }
    if length <= disk.bytes() {
        return Ok(());
    }
    let problem =
        format!("its files have {length} bytes, more than the {disk} of disk that the job asks for (--disk)");
    Err(unsendable(directory, problem).while_doing("input"))
}

/// Reads a file that fits into a blob.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let metadata = fs::metadata(path).map_err(|error| unsendable(path, error))?;
    if !metadata.is_file() {
        return Err(unsendable(path, "not a file"));
    }
    if metadata.len() > MAX_BLOB_BYTES as u64 {
        return Err(unsendable(
            path,
            format!("larger than the {} MiB that one file may have", MAX_BLOB_BYTES >> 20),
        ));
    }
    fs::read(path).map_err(|error| unsendable(path, error))
}

/// Uploads the file that a job names in `field`.
pub(super) async fn upload_file(client: &ApiClient, field: &str, path: &Path) -> Result<ContentId, CliError> {
    Ok(client.put_blob(read_named(field, path)?).await?.cid)
}

/// Uploads every file below `directory`, then the tree of them.
pub(super) async fn upload_directory(client: &ApiClient, directory: &Path) -> Result<ContentId, CliError> {
    let mut tree = FileTree::default();
    for (name, path) in list(directory)? {
        let bytes = read(&path)?;
        let length = bytes.len() as u64;
        let content = client.put_blob(bytes).await?.cid;
        tree.files.insert(name, FileEntry { content, length });
    }
    let blob = tree.to_blob().map_err(|error| unsendable(directory, error))?;
    Ok(client.put_blob(blob).await?.cid)
}

/// Every file below `base`, by its path in the tree.
pub(super) fn list(base: &Path) -> Result<Vec<(RelativePath, PathBuf)>, CliError> {
    let mut files = Vec::new();
    let mut directories = vec![(String::new(), base.to_path_buf(), 0)];
    while let Some((prefix, directory, depth)) = directories.pop() {
        if depth >= MAX_DEPTH {
            return Err(unsendable(&directory, "too deep"));
        }
        for entry in fs::read_dir(&directory).map_err(|error| unsendable(&directory, error))? {
            let entry = entry.map_err(|error| unsendable(&directory, error))?;
            let path = entry.path();
            let name =
                entry.file_name().into_string().map_err(|_| unsendable(&path, "its name is not UTF-8"))?;
            let name = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let kind = entry.file_type().map_err(|error| unsendable(&path, error))?;
            if kind.is_dir() {
                directories.push((name, path, depth + 1));
            } else if kind.is_file() {
                let name = RelativePath::new(&name).map_err(|error| unsendable(&path, error))?;
                files.push((name, path));
                if files.len() > MAX_FILES {
                    return Err(unsendable(base, format!("more than {MAX_FILES} files")));
                }
            } else {
                return Err(unsendable(
                    &path,
                    "only plain files and directories can be sent, no links or devices",
                ));
            }
        }
    }
    Ok(files)
}

/// Refuses what cannot become the directory of a job's files, before the job is run: something else is there, or
/// nothing can be written where it would be made. Nothing is left behind.
pub(super) fn check_directory(directory: &Path) -> Result<(), CliError> {
    let unusable = |path: &Path, problem: &dyn std::fmt::Display| match path == directory {
        true => unsendable(directory, problem),
        false => unsendable(directory, format!("{}: {problem}", path.display())),
    };
    let whole = std::path::absolute(directory).map_err(|error| unsendable(directory, error))?;
    for path in whole.ancestors() {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let probe = tempfile::Builder::new().prefix(".dms-").tempfile_in(path);
                let shown = if path == whole { directory } else { path };
                return probe.map(drop).map_err(|error| {
                    unusable(shown, &format!("cannot be written to: {}", io::Error::from(error.kind())))
                });
            }
            Ok(_) => return Err(unusable(path, &"is there and is not a directory")),
            // A link that leads nowhere is in the way of a directory, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err() => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(unusable(path, &"is a link that leads nowhere"));
            }
            Err(error) => return Err(unusable(path, &error)),
        }
    }
    Ok(())
}

/// Writes the files of a job into `directory`, those of several tasks below their names; gives their paths in it.
pub(super) async fn download_all(
    client: &ApiClient,
    job: &JobView,
    directory: &Path,
) -> Result<Vec<String>, CliError> {
    if job.tasks.is_empty() {
        return download(client, job.output, directory).await;
    }
    fs::create_dir_all(directory).map_err(|error| cannot("make", directory, error))?;
    let mut written = Vec::new();
    for task in job.tasks.iter().filter(|task| task.output.is_some()) {
        // Checked by whoever accepted the job, and here again: it becomes a path.
        check_task_name(&task.name).map_err(CliError::failed)?;
        let below = directory.join(&task.name);
        if fs::symlink_metadata(&below).is_ok_and(|metadata| !metadata.is_dir()) {
            let message = format!("{} is in the way: it is not a directory", below.display());
            return Err(CliError::Plain { code: CANNOT_WRITE, message });
        }
        let files = download(client, task.output, &below).await?;
        written.extend(files.into_iter().map(|file| format!("{}/{file}", task.name)));
    }
    Ok(written)
}

/// Writes the files of a tree into `directory`; gives their paths in it. No tree, no files.
async fn download(
    client: &ApiClient,
    tree: Option<ContentId>,
    directory: &Path,
) -> Result<Vec<String>, CliError> {
    fs::create_dir_all(directory).map_err(|error| cannot("make", directory, error))?;
    let Some(tree) = tree else { return Ok(Vec::new()) };
    let tree = FileTree::from_blob(&client.blob(&tree).await?)
        .map_err(|error| CliError::caused("the list of the job's files is malformed", error))?;
    let mut written = Vec::with_capacity(tree.files.len());
    for (path, entry) in &tree.files {
        let bytes = client.blob(&entry.content).await?;
        if bytes.len() as u64 != entry.length {
            return Err(CliError::failed(format!("{path} has another length than its list says")));
        }
        write_below(directory, path, &bytes)?;
        written.push(path.to_string());
    }
    Ok(written)
}

/// Writes one file below `base`. Whatever has its name is replaced, a link too; a directory is not.
pub(super) fn write_below(base: &Path, path: &RelativePath, bytes: &[u8]) -> Result<(), CliError> {
    let mut directory = base.to_path_buf();
    let mut names: Vec<_> = path.as_str().split('/').collect();
    let name = names.pop().expect("a path has at least one name");
    for name in names {
        directory.push(name);
        match fs::create_dir(&directory) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                // A link here would lead the file somewhere else.
                let metadata =
                    fs::symlink_metadata(&directory).map_err(|error| cannot("use", &directory, error))?;
                if !metadata.is_dir() {
                    let message = format!("{} is in the way: it is not a directory", directory.display());
                    return Err(CliError::Plain { code: CANNOT_WRITE, message });
                }
            }
            Err(error) => return Err(cannot("make", &directory, error)),
        }
    }
    let target = directory.join(name);
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".dms-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(&directory)?;
        file.write_all(bytes)?;
        file.persist(&target)?;
        Ok(())
    };
    if fs::symlink_metadata(&target).is_ok_and(|metadata| metadata.is_dir()) {
        let message = format!("{} is in the way: it is a directory", target.display());
        return Err(CliError::Plain { code: CANNOT_WRITE, message });
    }
    // Without the name of the temporary file.
    write().map_err(|error| cannot("write", &target, error.kind().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    #[test]
    fn a_directory_is_listed_with_plain_paths_and_links_are_refused() {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("a/b")).unwrap();
        fs::write(base.path().join("a/b/c"), "1").unwrap();
        fs::write(base.path().join("d"), "2").unwrap();
        let mut names: Vec<_> =
            list(base.path()).unwrap().into_iter().map(|(name, _)| name.to_string()).collect();
        names.sort();
        assert_eq!(names, ["a/b/c", "d"]);
        symlink("/etc/passwd", base.path().join("a/link")).unwrap();
        let error = list(base.path()).unwrap_err().to_string();
        assert!(error.contains("a/link: only plain files"), "{error}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_refused_before_the_job_is_run() {
        let base = tempfile::tempdir().unwrap();
        let at = |name: &str| base.path().join(name);
        assert!(check_directory(&at("new/deep")).is_ok());
        assert!(check_directory(base.path()).is_ok());
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0, "nothing is left");
        fs::write(at("file"), "").unwrap();
        symlink(at("nowhere"), at("link")).unwrap();
        let table = [
            (at("file"), "is there and is not a directory"),
            (at("file/below"), "ot a directory"),
            (at("link"), "a link that leads nowhere"),
            (at("link/below"), "a link that leads nowhere"),
            (PathBuf::from("/proc/dms-output"), "cannot be written to"),
        ];
        for (path, expected) in table {
            let error = check_directory(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", path.display());
        }
    }

    #[test]
    fn an_input_that_alone_is_larger_than_the_disk_is_refused_by_name() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("big"), vec![0; (1 << 20) + 1]).unwrap();
        assert!(check_input(base.path(), DiskMib(2)).is_ok());
        let error = crate::errors::whole(&check_input(base.path(), DiskMib(1)).unwrap_err());
        assert!(
            error.starts_with("input: ") && error.contains("1048577 bytes, more than the 1 MiB"),
            "{error}"
        );
    }

    #[test]
    fn files_are_written_below_the_directory_and_nowhere_else() {
        let base = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "untouched").unwrap();

        write_below(base.path(), &path("a/b.txt"), b"1").unwrap();
        write_below(base.path(), &path("a/b.txt"), b"2").unwrap();
        assert_eq!(fs::read(base.path().join("a/b.txt")).unwrap(), b"2");

        symlink(&victim, base.path().join("a/link")).unwrap();
        write_below(base.path(), &path("a/link"), b"3").unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"untouched", "the link was replaced, not followed");
        assert_eq!(fs::read(base.path().join("a/link")).unwrap(), b"3");

        symlink(outside.path(), base.path().join("out")).unwrap();
        assert!(write_below(base.path(), &path("out/new"), b"4").is_err());
        assert!(!outside.path().join("new").exists());

        assert!(write_below(base.path(), &path("a"), b"5").is_err(), "a directory is not replaced");
        let left = fs::read_dir(base.path().join("a")).unwrap().count();
        assert_eq!(left, 2, "no temporary file is left");
    }
}
