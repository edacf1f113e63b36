//! Writes into config.toml which mesh this machine is in and where to find it, and leaves the rest of it as it is.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, value};

use super::{FILE_NAME, Loaded, Source};
use crate::files::replace;

/// Most addresses that are kept to dial first.
const MAX_BOOTSTRAP: usize = 16;

/// Why the mesh could not be written down.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The machine is in another mesh already, because somebody said so.
    #[error("this machine is in the mesh `{found}` ({}), and the invite is to `{wanted}`; change it there first", place(*said_by))]
    OtherMesh {
        /// The one that it is in.
        found: String,
        /// The one that it was invited to.
        wanted: String,
        /// Who said so.
        said_by: Source,
    },
    /// The file is not to be read or written.
    #[error("cannot write {}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn place(source: Source) -> &'static str {
    match source {
        Source::Default => "by default",
        Source::File => "config.toml",
        Source::Environment => "DMS_NETWORK",
        Source::Flag => "--network",
    }
}

/// Makes `network` the mesh of the node in `data`, and `addresses` some of those that it dials first.
///
/// # Errors
/// [`MeshError`]; the file is as it was.
pub fn remember_mesh(
    data: &Path,
    loaded: &Loaded,
    network: &str,
    addresses: &[String],
) -> Result<(), MeshError> {
    let found = &loaded.settings.network;
    let source = loaded.sources.get("network").copied().unwrap_or(Source::Default);
    if found != network && source != Source::Default {
        return Err(MeshError::OtherMesh {
            found: found.clone(),
            wanted: network.to_owned(),
            said_by: source,
        });
    }
    let path = data.join(FILE_NAME);
    let unwritable = |source| MeshError::Unwritable { path: path.clone(), source };
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text.map_err(unwritable)?,
    };
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| unwritable(std::io::Error::other(error)))?;
    if found != network {
        document["network"] = value(network);
    }
    let known = document.get("bootstrap").and_then(|item| item.as_array()).cloned().unwrap_or_default();
    let mut bootstrap: Vec<String> = known.iter().filter_map(|it| Some(it.as_str()?.to_owned())).collect();
    let new = addresses.iter().filter(|address| !bootstrap.contains(address)).cloned().collect::<Vec<_>>();
    if !new.is_empty() {
        bootstrap.extend(new);
        // The newest are those that answer.
        let first = bootstrap.len().saturating_sub(MAX_BOOTSTRAP);
        document["bootstrap"] = value(bootstrap[first..].iter().map(String::as_str).collect::<Array>());
    }
    let text = document.to_string();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(data).map_err(unwritable)?;
    replace(&path, text.as_bytes()).map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layer, load};

    const ADDRESS: &str = "/ip4/10.0.0.1/tcp/4001";

    fn loaded(data: &Path) -> Loaded {
        load(data, Layer::default()).unwrap()
    }

    #[test]
    fn a_fresh_machine_gets_a_file_and_what_stands_in_one_stays() {
        let data = tempfile::tempdir().unwrap();
        let addresses = [ADDRESS.to_owned()];
        remember_mesh(data.path(), &loaded(data.path()), "home", &addresses).unwrap();
        let settings = loaded(data.path()).settings;
        assert_eq!((settings.network.as_str(), &settings.bootstrap), ("home", &addresses.to_vec()));
        let path = data.path().join(FILE_NAME);
        let text = format!("# mine\nmdns = false # no\n{}", fs::read_to_string(&path).unwrap());
        fs::write(&path, &text).unwrap();
        remember_mesh(data.path(), &loaded(data.path()), "home", &addresses).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), text, "nothing is said twice");
        let more = ["/ip4/10.0.0.2/tcp/4001".to_owned()];
        remember_mesh(data.path(), &loaded(data.path()), "home", &more).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# mine\nmdns = false # no\n"), "{text}");
        assert_eq!(loaded(data.path()).settings.bootstrap, [ADDRESS.to_owned(), more[0].clone()]);
    }

    #[test]
    fn a_machine_that_is_in_a_mesh_is_not_moved_to_another_unasked() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(FILE_NAME);
        fs::write(&path, "network = \"work\"\n").unwrap();
        let error = remember_mesh(data.path(), &loaded(data.path()), "home", &[]).unwrap_err();
        assert!(error.to_string().contains("`work` (config.toml)"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "network = \"work\"\n");
    }
}
