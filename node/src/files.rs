//! Files of this machine: texts that people wrote, read up to a limit, and directories that are closed to others.
//!
//! Called for settings and job files, and for everything that a node keeps below its data directory.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use tempfile::NamedTempFile;

/// The text of a file of at most `limit` bytes. Whatever the file is (a pipe, a device), no more than that is read.
///
/// # Errors
/// The system's; also if the file is longer, or not UTF-8.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("larger than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::other("it is not UTF-8 text"))
}

/// Makes a directory with all above it, or closes the one that is there: nobody else looks into it.
///
/// # Errors
/// The system's.
pub(crate) fn close_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 == 0 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))
}

/// Writes a file of mode 0600 that must not be there: on disk, whole, when this returns, or not at all.
///
/// # Errors
/// The system's; `AlreadyExists` if there is one.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(path, bytes)?.persist_noclobber(path).map_err(|error| error.error)?;
    sync_directory_of(path)
}

/// Writes a file of mode 0600 in the place of the one that is there, if one is. One of the two is on disk, whole, at
/// every instant, and the new one when this returns.
///
/// # Errors
/// The system's.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_beside(path, bytes)?.persist(path).map_err(|error| error.error)?;
    sync_directory_of(path)
}

/// A temporary file beside `path`, which has these bytes on disk and waits for its name.
fn write_beside(path: &Path, bytes: &[u8]) -> io::Result<NamedTempFile> {
    // A temporary file has mode 0600 from its first moment.
    let file = tempfile::Builder::new().prefix(".new-").tempfile_in(directory_of(path));
    // Without the name of the temporary file, which nobody has asked for.
    let mut file = file.map_err(|error| io::Error::from(error.kind()))?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Has the disk know the names in the directory where `path` is.
///
/// # Errors
/// The system's.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit_is_read_of_anything() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("text");
        fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert!(read_text(&path, 4).unwrap_err().to_string().contains("larger than 4 bytes"));
        assert!(
            read_text(Path::new("/dev/zero"), 1024).unwrap_err().to_string().contains("larger than 1024")
        );
        fs::write(&path, [0xff]).unwrap();
        assert!(read_text(&path, 5).unwrap_err().to_string().contains("UTF-8"));
        assert_eq!(read_text(&directory.path().join("none"), 5).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_directory_is_closed_to_others_whether_it_was_there_or_not() {
        let base = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let new = base.path().join("a/b");
        close_directory(&new).unwrap();
        assert_eq!(mode(&new), 0o700);
        let open = base.path().join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
        close_directory(&open).unwrap();
        assert_eq!(mode(&open), 0o700);
    }

    #[test]
    fn a_new_file_is_its_owners_alone_and_takes_nobodys_place() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("new");
        write_new(&path, b"first").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(write_new(&path, b"second").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        replace(&path, b"third").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"third");
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 1, "no temporary file is left");
    }
}
