//! Seeds that once found a bug, kept as files so that every run tries them again.
//!
//! One small TOML file each, named by its seed and its number of nodes (`tests/seeds/42-7.toml`). Called by the test
//! that runs them all, and by the command that stores a failing seed. A stored seed is never overwritten: what it found
//! is history.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::scenario::Scenario;

/// A world that once broke a promise, and must not again. Its scenario is kept whole: what is drawn from a seed changes
/// with the program that draws it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Regression {
    /// What it found, in a sentence.
    pub found: String,
    /// The rule that was broken, as [`crate::sim::facts::Breach`] names it.
    pub rule: String,
    /// The commit on which it was.
    pub commit: String,
    /// What happened to it.
    pub scenario: Scenario,
}

impl Regression {
    /// The name of its file.
    pub fn file_name(&self) -> String {
        let Scenario { seed, nodes, .. } = &self.scenario;
        format!("{seed}-{}.toml", nodes.len())
    }
}

/// Why the seeds cannot be read, or one cannot be stored.
#[derive(Debug, thiserror::Error)]
pub enum SeedsError {
    /// The folder or a file of it.
    #[error("{path} cannot be read or written")]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A file that says something else.
    #[error("{path} is not a stored seed")]
    Form {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: Box<toml::de::Error>,
    },
    /// A file that is named for another world than it holds: two could hold the same one.
    #[error("{path} holds the world of {belongs}")]
    Name {
        /// Which.
        path: PathBuf,
        /// The name that it should have.
        belongs: String,
    },
    /// The world is stored already.
    #[error("{path} is stored already")]
    Stored {
        /// Where.
        path: PathBuf,
    },
}

/// Where the seeds of this project are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds")
}

/// Reads all seeds of a folder, in the order of their numbers. Files that do not end in `.toml` are not seeds.
pub fn load_all(directory: &Path) -> Result<Vec<Regression>, SeedsError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| SeedsError::Disk { path, error }
    };
    let mut regressions = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed(directory))? {
        let path = entry.map_err(failed(directory))?.path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = fs::read_to_string(&path).map_err(failed(&path))?;
        let regression: Regression = match toml::from_str(&text) {
            Ok(regression) => regression,
            Err(error) => return Err(SeedsError::Form { path, error: Box::new(error) }),
        };
        let belongs = regression.file_name();
        if path.file_name().is_none_or(|name| name != belongs.as_str()) {
            return Err(SeedsError::Name { path, belongs });
        }
        regressions.push(regression);
    }
    regressions.sort_by_key(|regression| (regression.scenario.seed, regression.scenario.nodes.len()));
    Ok(regressions)
}

/// Stores a seed in a folder, which is made if there is none, and says where.
pub fn store(directory: &Path, regression: &Regression) -> Result<PathBuf, SeedsError> {
    let path = directory.join(regression.file_name());
    let text = toml::to_string(regression).expect("numbers and texts can be written as TOML");
    let written = fs::create_dir_all(directory)
        .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&path))
        .and_then(|mut file| file.write_all(text.as_bytes()));
    match written {
        Ok(()) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(SeedsError::Stored { path }),
        Err(error) => Err(SeedsError::Disk { path, error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regression(seed: u64, nodes: usize) -> Regression {
        Regression {
            scenario: Scenario::of_seed(seed, nodes),
            found: "a lock outlived its lease: \"quoted\", and\non two lines".to_owned(),
            rule: "lease-outlived".to_owned(),
            commit: "899a8cc".to_owned(),
        }
    }

    #[test]
    fn seeds_are_read_as_stored_in_the_order_of_their_numbers() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("seeds");
        let all = [regression(0, 3), regression(9, 7), regression(9, 12), regression(10, 40)];
        for regression in all.iter().rev() {
            let path = store(&folder, regression).unwrap();
            assert_eq!(path, folder.join(regression.file_name()));
        }
        fs::write(folder.join("README.md"), "not a seed").unwrap();
        assert_eq!(load_all(&folder).unwrap(), all);
    }

    #[test]
    fn what_is_stored_stays() {
        let directory = tempfile::tempdir().unwrap();
        store(directory.path(), &regression(1, 2)).unwrap();
        let other = Regression { found: "something else".to_owned(), ..regression(1, 2) };
        let error = store(directory.path(), &other).unwrap_err();
        assert!(matches!(error, SeedsError::Stored { .. }), "{error}");
        assert_eq!(load_all(directory.path()).unwrap(), [regression(1, 2)]);
    }

    #[test]
    fn files_that_are_no_seeds_are_named() {
        let written = |name: &str, text: &str| {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(name), text).unwrap();
            load_all(directory.path()).unwrap_err()
        };
        let good = toml::to_string(&regression(1, 2)).unwrap();
        let misnamed = written("2-2.toml", &good);
        assert!(matches!(&misnamed, SeedsError::Name { belongs, .. } if belongs == "1-2.toml"), "{misnamed}");
        for text in
            ["seed = 1\n", &format!("date = 3\n{good}"), "nodes", &good.replace("seed = 1", "seed = -1")]
        {
            let error = written("1-2.toml", text);
            assert!(matches!(error, SeedsError::Form { .. }), "{error} for {text}");
        }
        let error = load_all(Path::new("nowhere/at/all")).unwrap_err();
        assert!(error.to_string().starts_with("nowhere/at/all"), "{error}");
    }

    #[test]
    fn the_seeds_of_this_project_can_be_read() {
        load_all(&directory()).unwrap();
    }
}
