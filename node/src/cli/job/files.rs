//! Directories to file trees and back.
//!
//! Upward: plain files only; a link is refused by name rather than followed or left out. Downward: every
//! path is a checked [`RelativePath`](dms_messages::RelativePath), every directory on the way is a real one,
//! and a file appears whole under its name or not at all; what is replaced is replaced, never written through.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use dms_messages::{ContentId, FileEntry, FileTree, RelativePath};

use crate::api::MAX_BLOB_BYTES;
use crate::api::client::ApiClient;
use crate::cli::error::{BAD_JOB, CliError};

/// Most files that are sent, as many as a tree may have.
const MAX_FILES: usize = 4096;
/// Deepest directory that is looked into; a tree's paths are no deeper.
const MAX_DEPTH: usize = 32;

/// What cannot be sent because of how it is, rather than because of the node.
fn unsendable(path: &Path, problem: impl std::fmt::Display) -> CliError {
    CliError::Plain { code: BAD_JOB, message: format!("{}: {problem}", path.display()) }
}

fn cannot(what: &str, path: &Path, error: io::Error) -> CliError {
    CliError::caused(format!("cannot {what} {}", path.display()), error)
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

/// Uploads one file.
pub(super) async fn upload_file(client: &ApiClient, path: &Path) -> Result<ContentId, CliError> {
    Ok(client.put_blob(read(path)?).await?.cid)
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

/// Refuses what cannot become the directory of a job's files, before the job is run.
pub(super) fn check_directory(directory: &Path) -> Result<(), CliError> {
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(unsendable(directory, "is there and is not a directory")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(unsendable(directory, error)),
    }
}

/// Writes the files of a tree into `directory`; gives their paths in it. No tree, no files.
pub(super) async fn download(
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
                    return Err(CliError::failed(format!(
                        "{} is in the way: it is not a directory",
                        directory.display()
                    )));
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
    write().map_err(|error| cannot("write", &target, error))
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
