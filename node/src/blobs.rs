//! The contents a node holds: modules, inputs, outputs and logs, one file per identifier.
//!
//! Called by the API (upload, download), by Job actors (pull results), by Allocation actors (pull inputs,
//! keep outputs) and by the network (serve peers). A peer may read only what it was granted. Files are
//! written beside and renamed, so that a name always means its whole content; what the program left is
//! packed without following any link.
//!
//! ```text
//!   <data>/blobs/<cid>      contents
//!   <data>/work/<id>/       one allocation's input and output directories, gone when it ends
//! ```
//!
//! Both directories are closed to other users: what they hold belongs to this node's owner and its requesters.

mod transfers;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dms_actors::blob::{BlobRefusal, BlobSource, FetchError, MAX_BLOB_LENGTH, fetch};
use dms_actors::clock::{SharedClock, SystemClock};
use dms_actors::transport::Transport;
use dms_messages::{
    AllocationId, AllocationResult, AttemptId, ContentId, Did, FileEntry, FileTree, FileTreeError, Pod,
    RelativePath,
};
use dms_storage::books::LiveContents;
use futures::{StreamExt, TryStreamExt, stream};

pub use self::transfers::Transfer;
use self::transfers::Transfers;
use crate::files::close_directory;

/// Most attempts and allocations whose contents may be read at a time; a node has fewer live.
const MAX_GRANTS: usize = 65_536;
/// Files of one tree that are fetched at the same time.
const FETCHES_AT_ONCE: usize = 4;
/// How often a busy peer is asked again for one content.
const BUSY_TRIES: u32 = 20;

/// Why a content cannot be kept, found or packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// It is longer than a blob may be.
    #[error("a blob of {length} bytes is too long (at most {MAX_BLOB_LENGTH})")]
    TooLong {
        /// Its length.
        length: u64,
    },
    /// The store is full.
    #[error("the store of {limit} bytes is full")]
    Full {
        /// The limit.
        limit: u64,
    },
    /// The inputs are longer than the disk granted.
    #[error("the inputs are longer than the {limit} bytes granted")]
    OverGrant {
        /// The limit.
        limit: u64,
    },
    /// A directory cannot be made into a tree, or a tree is malformed.
    #[error("not a usable file tree")]
    Tree(#[source] FileTreeError),
    /// The program left something that cannot travel.
    #[error("the output directory cannot be packed: {0}")]
    Unpackable(String),
    /// A peer did not give a content.
    #[error("{id} could not be fetched")]
    Fetch {
        /// Which.
        id: ContentId,
        /// Why.
        #[source]
        source: Box<FetchError>,
    },
    /// The disk failed.
    #[error("the disk failed at {}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// How.
        #[source]
        source: io::Error,
    },
    /// A content on disk is not what its name says.
    #[error("{id} is damaged on disk")]
    Damaged {
        /// Which.
        id: ContentId,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BlobError + '_ {
    move |source| BlobError::Io { path: path.to_path_buf(), source }
}

/// Everything an allocation needs before it can run.
#[derive(Debug, Clone)]
pub struct FetchPlan {
    /// Who has it.
    pub from: Did,
    /// The program.
    pub module: ContentId,
    /// Standard input.
    pub stdin: Option<ContentId>,
    /// The input tree.
    pub input: Option<ContentId>,
    /// Most bytes of the input tree.
    pub max_bytes: u64,
    /// The allocation's directory, to be made with `input` and `output` in it.
    pub work: PathBuf,
}

/// The store. Shared between actors, API and network; the mutex guards only the table of grants, which
/// the network's threads read while actors add to it.
#[derive(Debug)]
pub struct BlobStore {
    me: Did,
    directory: PathBuf,
    work: PathBuf,
    max_bytes: u64,
    used: AtomicU64,
    serial: AtomicU64,
    grants: Mutex<BTreeMap<GrantId, Grant>>,
    transfers: Transfers,
    /// Held while a file is touched or removed, so that a sweep takes nothing that was just wanted again.
    sweeping: Mutex<()>,
    is_inline: bool,
    clock: SharedClock,
}

/// What a grant is for; it ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantId {
    /// A provider reads what an attempt of ours consists of.
    Attempt(AttemptId),
    /// A requester reads what an allocation of ours left.
    Allocation(AllocationId),
}

/// One reader, and what it may read.
#[derive(Debug)]
struct Grant {
    reader: Did,
    contents: BTreeSet<ContentId>,
}

impl BlobStore {
    /// Opens the store below `data`, drops half-written files and abandoned work of an earlier life.
    pub fn open(data: &Path, me: Did, max_bytes: u64) -> Result<Self, BlobError> {
        let directory = data.join("blobs");
        let work = data.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).map_err(at(&work))?;
        }
        for path in [&directory, &work] {
            close_directory(path).map_err(at(path))?;
        }
        let mut used = 0;
        for entry in fs::read_dir(&directory).map_err(at(&directory))? {
            let entry = entry.map_err(at(&directory))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                fs::remove_file(entry.path()).map_err(at(&entry.path()))?;
            } else {
                used += entry.metadata().map_err(at(&entry.path()))?.len();
            }
        }
        Ok(Self {
            me,
            directory,
            work,
            max_bytes,
            used: AtomicU64::new(used),
            serial: AtomicU64::new(0),
            grants: Mutex::default(),
            transfers: Transfers::default(),
            sweeping: Mutex::default(),
            is_inline: false,
            clock: SystemClock::shared(),
        })
    }

    /// The same store on another clock, and on one thread: for simulations.
    pub fn simulated(self, clock: SharedClock) -> Self {
        Self { is_inline: true, clock, ..self }
    }

    /// Does what blocks, off the threads that drive the links.
    fn block<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.is_inline { work() } else { tokio::task::block_in_place(work) }
    }

    /// The wall clock, as files have it.
    fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.clock.now().0)
    }

    /// How long ago it was touched, to the millisecond, as the clock counts; none if its clock is ahead.
    fn age(&self, found: &fs::Metadata) -> io::Result<Option<Duration>> {
        let touched =
            found.modified()?.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
        let age = u128::from(self.clock.now().0).checked_sub(touched);
        Ok(age.map(|age| Duration::from_millis(u64::try_from(age).unwrap_or(u64::MAX))))
    }

    fn path(&self, id: &ContentId) -> PathBuf {
        self.directory.join(id.to_string())
    }

    /// Keeps `bytes`; keeping them again is no work. Blocks on the disk.
    pub fn put(&self, bytes: &[u8]) -> Result<ContentId, BlobError> {
        let id = ContentId::of_bytes(bytes);
        self.keep(id, bytes)?;
        Ok(id)
    }

    fn keep(&self, id: ContentId, bytes: &[u8]) -> Result<(), BlobError> {
        let length = bytes.len() as u64;
        if length > MAX_BLOB_LENGTH {
            return Err(BlobError::TooLong { length });
        }
        if self.touch(&id) {
            return Ok(());
        }
        if self.used.fetch_add(length, Ordering::Relaxed) + length > self.max_bytes {
            self.used.fetch_sub(length, Ordering::Relaxed);
            return Err(BlobError::Full { limit: self.max_bytes });
        }
        let path = self.path(&id);
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let beside = self.directory.join(format!(".{serial}.new"));
        let written = fs::File::create(&beside)
            .and_then(|mut file| {
                file.write_all(bytes)?;
                // By our clock; if it cannot be said, it is by the system's.
                let _ = file.set_modified(self.now());
                file.sync_data()
            })
            // A link, not a rename: it says if somebody else kept the same content meanwhile.
            .and_then(|()| fs::hard_link(&beside, &path))
            .and_then(|()| fs::File::open(&self.directory)?.sync_all());
        // What happened before is what is told; what stays beside is dropped at the next start.
        let _ = fs::remove_file(&beside);
        let Err(source) = written else { return Ok(()) };
        self.used.fetch_sub(length, Ordering::Relaxed);
        match source.kind() {
            io::ErrorKind::AlreadyExists => Ok(()),
            _ => Err(BlobError::Io { path, source }),
        }
    }

    /// Makes a content that is here young again, so that a sweep spares it; false if it is not here.
    fn touch(&self, id: &ContentId) -> bool {
        let _held = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(id);
        let Ok(file) = fs::File::open(&path) else { return false };
        if let Err(error) = file.set_modified(self.now()) {
            tracing::warn!(path = %path.display(), %error, "a content could not be touched");
        }
        true
    }

    /// The content, if it is here; verified. Blocks on the disk.
    pub fn get(&self, id: &ContentId) -> Result<Option<Vec<u8>>, BlobError> {
        let path = self.path(id);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BlobError::Io { path, source }),
        };
        if id.is_of(&bytes) { Ok(Some(bytes)) } else { Err(BlobError::Damaged { id: *id }) }
    }

    /// True if the content is here.
    pub fn contains(&self, id: &ContentId) -> bool {
        self.path(id).exists()
    }

    fn grant(&self, id: GrantId, reader: Did, contents: BTreeSet<ContentId>) {
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.len() < MAX_GRANTS || grants.contains_key(&id) {
            grants.insert(id, Grant { reader, contents });
        } else {
            tracing::warn!(?id, "too many grants: its contents cannot be read");
        }
    }

    /// How long the files of an input tree that is here are together; none if it is no tree.
    pub fn input_length(&self, tree: &ContentId) -> Option<u64> {
        self.tree(tree).ok().map(|tree| tree.total_length())
    }

    /// Ends a grant.
    pub fn revoke(&self, id: GrantId) {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// Lets a provider read what an attempt of ours consists of. Blocks on the disk.
    pub fn grant_pods(&self, attempt: AttemptId, provider: Did, pods: &[Pod]) {
        let mut contents = BTreeSet::new();
        for task in pods.iter().flat_map(|pod| &pod.tasks) {
            contents.extend(task.blobs());
            self.add_tree(task.input, &mut contents);
        }
        self.grant(GrantId::Attempt(attempt), provider, contents);
    }

    /// Lets a requester read what its allocation left. Blocks on the disk.
    pub fn grant_result(&self, allocation: AllocationId, requester: Did, result: &AllocationResult) {
        let mut contents = BTreeSet::from([result.stdout, result.stderr]);
        self.add_tree(result.output, &mut contents);
        self.grant(GrantId::Allocation(allocation), requester, contents);
    }

    fn add_tree(&self, tree: Option<ContentId>, contents: &mut BTreeSet<ContentId>) {
        let Some(id) = tree else { return };
        contents.insert(id);
        if let Ok(tree) = self.tree(&id) {
            contents.extend(tree.files.values().map(|file| file.content));
        }
    }

    fn tree(&self, id: &ContentId) -> Result<FileTree, BlobError> {
        let bytes = self.get(id)?.unwrap_or_default();
        FileTree::from_blob(&bytes).map_err(BlobError::Tree)
    }

    /// Pulls one content from `peer` unless it is here.
    async fn pull(
        &self,
        transport: &dyn Transport,
        peer: Did,
        id: ContentId,
        max: u64,
    ) -> Result<(), BlobError> {
        if peer == self.me || self.touch(&id) {
            return Ok(());
        }
        let mut tries = 0;
        let bytes = loop {
            let on_its_way = self.transfers.begin(peer, &self.clock);
            match fetch(transport, peer, id, max).await {
                Ok(bytes) => {
                    on_its_way.end(bytes.len());
                    break bytes;
                }
                Err(FetchError::Refused(BlobRefusal::Busy)) if tries < BUSY_TRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(50) * tries).await;
                }
                Err(source) => return Err(BlobError::Fetch { id, source: Box::new(source) }),
            }
        };
        // A disk write of at most 16 MiB: off the threads that drive the links.
        self.block(|| self.keep(id, &bytes))
    }

    /// What has come from peers since this was asked last.
    pub fn take_transfers(&self) -> Vec<Transfer> {
        self.transfers.take()
    }

    /// Pulls a tree and all its files from `peer`.
    async fn pull_tree(
        &self,
        transport: &dyn Transport,
        peer: Did,
        id: ContentId,
        limit: u64,
    ) -> Result<FileTree, BlobError> {
        self.pull(transport, peer, id, MAX_BLOB_LENGTH).await?;
        let tree = self.tree(&id)?;
        if tree.total_length() > limit {
            return Err(BlobError::OverGrant { limit });
        }
        let files: BTreeMap<ContentId, u64> =
            tree.files.values().map(|file| (file.content, file.length)).collect();
        stream::iter(files)
            .map(|(content, length)| self.pull(transport, peer, content, length))
            .buffer_unordered(FETCHES_AT_ONCE)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(tree)
    }

    /// Pulls everything an allocation needs and lays out its directories.
    pub async fn prepare(&self, transport: &dyn Transport, plan: FetchPlan) -> Result<(), BlobError> {
        let output = plan.work.join("output");
        fs::create_dir_all(&output).map_err(at(&output))?;
        self.pull(transport, plan.from, plan.module, MAX_BLOB_LENGTH).await?;
        if let Some(stdin) = plan.stdin {
            self.pull(transport, plan.from, stdin, MAX_BLOB_LENGTH).await?;
        }
        if let Some(input) = plan.input {
            let tree = self.pull_tree(transport, plan.from, input, plan.max_bytes).await?;
            self.block(|| self.unpack(&tree, &plan.work.join("input")))?;
        }
        Ok(())
    }

    /// Pulls everything an allocation of ours left at its provider.
    pub async fn fetch_result(
        &self,
        transport: &dyn Transport,
        provider: Did,
        result: &AllocationResult,
        limit: u64,
    ) -> Result<(), BlobError> {
        self.pull(transport, provider, result.stdout, MAX_BLOB_LENGTH).await?;
        self.pull(transport, provider, result.stderr, MAX_BLOB_LENGTH).await?;
        if let Some(output) = result.output {
            self.pull_tree(transport, provider, output, limit).await?;
        }
        Ok(())
    }

    /// Writes a tree's files below a new directory. Blocks on the disk.
    fn unpack(&self, tree: &FileTree, directory: &Path) -> Result<(), BlobError> {
        fs::create_dir_all(directory).map_err(at(directory))?;
        for (path, file) in &tree.files {
            let target = path.below(directory);
            let parent = target.parent().unwrap_or(directory);
            fs::create_dir_all(parent).map_err(at(parent))?;
            let source = self.path(&file.content);
            let bytes = self
                .get(&file.content)?
                .ok_or_else(|| BlobError::Io { path: source, source: io::ErrorKind::NotFound.into() })?;
            // What was here before was not fetched with its length as the limit; and many files may be one content,
            // so that a few lies would fill the disk beyond what was granted.
            if bytes.len() as u64 != file.length {
                return Err(BlobError::Tree(FileTreeError::Length(path.to_string())));
            }
            fs::write(&target, bytes).map_err(at(&target))?;
        }
        Ok(())
    }

    /// Keeps every file below `directory` and the tree that lists them; none if there is no file. Links
    /// are not followed: one that the program left is refused by name. Blocks on the disk.
    pub fn pack(&self, directory: &Path) -> Result<Option<ContentId>, BlobError> {
        let mut tree = FileTree::default();
        let mut pending = vec![(directory.to_path_buf(), String::new())];
        while let Some((directory, prefix)) = pending.pop() {
            for entry in fs::read_dir(&directory).map_err(at(&directory))? {
                let entry = entry.map_err(at(&directory))?;
                let name = entry.file_name().into_string().map_err(|name| {
                    BlobError::Unpackable(format!("{prefix}{} is not UTF-8", name.to_string_lossy()))
                })?;
                let path = format!("{prefix}{name}");
                let kind = entry.file_type().map_err(at(&entry.path()))?;
                if kind.is_dir() {
                    pending.push((entry.path(), format!("{path}/")));
                } else if kind.is_file() {
                    let file = self.keep_file(&entry.path(), &path)?;
                    let path =
                        RelativePath::new(&path).map_err(|error| BlobError::Unpackable(error.to_string()))?;
                    tree.files.insert(path, file);
                } else {
                    return Err(BlobError::Unpackable(format!("{path} is neither a file nor a directory")));
                }
            }
        }
        if tree.files.is_empty() {
            return Ok(None);
        }
        let blob = tree.to_blob().map_err(|error| BlobError::Unpackable(error.to_string()))?;
        self.put(&blob).map(Some)
    }

    fn keep_file(&self, path: &Path, name: &str) -> Result<FileEntry, BlobError> {
        let mut bytes = Vec::new();
        let file = fs::File::open(path).map_err(at(path))?;
        file.take(MAX_BLOB_LENGTH + 1).read_to_end(&mut bytes).map_err(at(path))?;
        if bytes.len() as u64 > MAX_BLOB_LENGTH {
            return Err(BlobError::Unpackable(format!("{name} is longer than {MAX_BLOB_LENGTH} bytes")));
        }
        Ok(FileEntry { length: bytes.len() as u64, content: self.put(&bytes)? })
    }

    /// The directory of an allocation.
    pub fn work_directory(&self, allocation: AllocationId) -> PathBuf {
        self.work.join(allocation.to_string())
    }

    /// Removes an allocation's directory, if it is there.
    pub fn remove_work_directory(&self, directory: &Path) {
        if let Err(error) = fs::remove_dir_all(directory)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %directory.display(), %error, "a work directory could not be removed");
        }
    }

    /// Deletes contents that nothing live needs and that were not touched for `age`; none if it cannot be known what is
    /// needed. Blocks on the disk.
    pub fn sweep(&self, live: &LiveContents, age: Duration) {
        let mut needed: BTreeSet<ContentId> = live.blobs.iter().chain(&live.trees).copied().collect();
        for id in &live.trees {
            match self.get(id).map(|found| found.map(|bytes| FileTree::from_blob(&bytes))) {
                Ok(Some(Ok(tree))) => needed.extend(tree.files.values().map(|file| file.content)),
                // Not here; or whole, and no tree: it names no files.
                Ok(None | Some(Err(_))) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%id, error, "a tree cannot be read: the contents are not swept");
                    return;
                }
            }
        }
        if let Err(error) = self.sweep_all_but(&needed, age) {
            tracing::warn!(%error, "the contents could not be swept");
        }
    }

    fn sweep_all_but(&self, needed: &BTreeSet<ContentId>, age: Duration) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            let is_old = self.age(&metadata)?.is_some_and(|elapsed| elapsed >= age);
            let id = entry.file_name().to_str().and_then(|name| name.parse::<ContentId>().ok());
            if is_old && id.is_some_and(|id| !needed.contains(&id)) {
                let _held = self.sweeping.lock().unwrap_or_else(PoisonError::into_inner);
                // Somebody may have touched it since.
                if self.age(&entry.path().metadata()?)?.is_some_and(|elapsed| elapsed < age) {
                    continue;
                }
                fs::remove_file(entry.path())?;
                self.used.fetch_sub(metadata.len(), Ordering::Relaxed);
            }
        }
        Ok(())
    }
}

impl BlobSource for BlobStore {
    fn open(&self, peer: Did, id: &ContentId) -> Result<Vec<u8>, BlobRefusal> {
        let is_granted = {
            let grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
            grants.values().any(|grant| grant.reader == peer && grant.contents.contains(id))
        };
        if !is_granted {
            // The same answer whether it is here or not: a stranger learns nothing.
            return Err(BlobRefusal::NotAllowed);
        }
        match self.get(id) {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) => Err(BlobRefusal::NotFound),
            Err(error) => {
                tracing::error!(%id, error = &error as &dyn std::error::Error, "a content cannot be served");
                Err(BlobRefusal::NotFound)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_actors::Keypair;

    fn store(directory: &Path, max_bytes: u64) -> BlobStore {
        BlobStore::open(directory, Keypair::from_secret(&[1; 32]).did(), max_bytes).unwrap()
    }

    #[test]
    fn a_content_is_kept_once_and_found_again_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let id = store(directory.path(), 100).put(b"hello").unwrap();
        let again = store(directory.path(), 9);
        assert_eq!(again.put(b"hello").unwrap(), id);
        assert_eq!(again.get(&id).unwrap().unwrap(), b"hello");
        assert!(matches!(again.put(b"more!"), Err(BlobError::Full { limit: 9 })), "5 of 9 bytes are used");
        assert_eq!(again.get(&ContentId::of_bytes(b"other")).unwrap(), None);
    }

    #[test]
    fn damage_is_seen_and_half_written_files_are_dropped() {
        let directory = tempfile::tempdir().unwrap();
        let first = store(directory.path(), 100);
        let id = first.put(b"hello").unwrap();
        fs::write(directory.path().join("blobs").join(id.to_string()), b"hellp").unwrap();
        fs::write(directory.path().join("blobs/.7.new"), b"half").unwrap();
        assert!(matches!(first.get(&id), Err(BlobError::Damaged { .. })));
        store(directory.path(), 100);
        assert!(!directory.path().join("blobs/.7.new").exists());
    }

    #[test]
    fn nobody_reads_what_was_not_granted() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 1000);
        let friend = Keypair::from_secret(&[2; 32]).did();
        let stranger = Keypair::from_secret(&[3; 32]).did();
        let id = store.put(b"secret").unwrap();
        assert_eq!(BlobSource::open(&store, friend, &id), Err(BlobRefusal::NotAllowed));
        let grant = GrantId::Allocation(AllocationId::from_random([1; 16]));
        store.grant(grant, friend, BTreeSet::from([id]));
        assert_eq!(BlobSource::open(&store, friend, &id).unwrap(), b"secret");
        assert_eq!(BlobSource::open(&store, stranger, &id), Err(BlobRefusal::NotAllowed));
        store.revoke(grant);
        assert_eq!(BlobSource::open(&store, friend, &id), Err(BlobRefusal::NotAllowed));
    }

    #[test]
    fn a_directory_is_packed_and_unpacked_unchanged_and_links_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 10_000);
        let from = directory.path().join("from");
        fs::create_dir_all(from.join("a/b")).unwrap();
        assert!(store.pack(&from).unwrap().is_none(), "no file");
        fs::write(from.join("a/b/c.txt"), b"deep").unwrap();
        fs::write(from.join("top"), b"").unwrap();
        let id = store.pack(&from).unwrap().unwrap();
        let to = directory.path().join("to");
        store.unpack(&store.tree(&id).unwrap(), &to).unwrap();
        assert_eq!(fs::read(to.join("a/b/c.txt")).unwrap(), b"deep");
        assert_eq!(fs::read(to.join("top")).unwrap(), b"");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("/etc/passwd", from.join("link")).unwrap();
            assert!(matches!(store.pack(&from), Err(BlobError::Unpackable(text)) if text.contains("link")));
        }
    }

    #[test]
    fn a_tree_that_lies_about_the_length_of_what_is_here_is_not_unpacked() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 10_000);
        let content = store.put(&[7; 1000]).unwrap();
        let path = |number: u32| RelativePath::new(&format!("{number}")).unwrap();
        let files = (0..100).map(|number| (path(number), FileEntry { content, length: 0 })).collect();
        let to = directory.path().join("to");
        let refused = store.unpack(&FileTree { files }, &to).unwrap_err();
        assert!(matches!(refused, BlobError::Tree(FileTreeError::Length(_))), "{refused:?}");
        assert_eq!(fs::read_dir(&to).unwrap().count(), 0, "nothing of it was written");
    }

    #[test]
    fn a_sweep_spares_what_is_live_and_what_is_young() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 10_000);
        let from = directory.path().join("from");
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("file"), b"in a tree").unwrap();
        let tree = store.pack(&from).unwrap().unwrap();
        let blob = store.put(b"a blob").unwrap();
        let dead = store.put(b"nobody needs this").unwrap();
        let live = LiveContents { blobs: [blob].into(), trees: [tree].into() };
        store.sweep(&live, Duration::from_secs(3600));
        assert!(store.contains(&dead), "it is young");
        store.sweep(&live, Duration::ZERO);
        assert!(!store.contains(&dead));
        assert!(store.contains(&blob) && store.contains(&tree));
        assert!(store.contains(&ContentId::of_bytes(b"in a tree")));
    }

    #[test]
    fn a_sweep_removes_nothing_while_a_live_tree_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path(), 10_000);
        let from = directory.path().join("from");
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("file"), b"in a tree").unwrap();
        let tree = store.pack(&from).unwrap().unwrap();
        let bytes = store.get(&tree).unwrap().unwrap();
        let dead = store.put(b"nobody needs this").unwrap();
        let no_tree = store.put(b"no tree").unwrap();
        let gone = ContentId::of_bytes(b"not here");
        let live = LiveContents { blobs: [].into(), trees: [tree, no_tree, gone].into() };
        fs::write(store.path(&tree), b"damaged").unwrap();
        store.sweep(&live, Duration::ZERO);
        assert!(store.contains(&dead) && store.contains(&ContentId::of_bytes(b"in a tree")));
        fs::write(store.path(&tree), bytes).unwrap();
        store.sweep(&live, Duration::ZERO);
        assert!(!store.contains(&dead));
        assert!(store.contains(&no_tree) && store.contains(&ContentId::of_bytes(b"in a tree")));
    }
}
