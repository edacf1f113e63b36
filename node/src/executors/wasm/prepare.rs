//! Makes a runnable program of a module's bytes, once per module.
//!
//! [`super::Run`] asks for it. Compiling cannot be interrupted, so it runs on a thread that a stopped guest
//! leaves behind; how many such threads there are is bounded over the whole executor. A module that imports
//! anything but WASI and `dms_v1`, or exports no command, is refused here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{Engine, InstancePre, Linker, Module};
use wasmtime_wasi::p1;
use wasmtime_wasi::p2::bindings::CommandPre;

use super::guest::Guest;
use super::{messages, one_line};
use crate::executors::ExecutionFailure;

/// Largest module taken, in bytes. Compiling takes tens of times as much memory.
const MODULE_BYTES_MAX: usize = 64 << 20;

/// Modules kept compiled: a node runs few programs many times.
const CACHE_ENTRIES_MAX: usize = 8;

/// Sum of the sizes (before compiling) of modules kept. One module of the largest size fits.
const CACHE_BYTES_MAX: usize = MODULE_BYTES_MAX;

/// Modules compiled at once. Each compilation spreads over all cores by itself; the second place keeps
/// small modules moving while a huge one is compiled.
const COMPILATIONS_MAX: usize = 2;

/// What a core module of kind "command" exports.
pub(super) const START: &str = "_start";

/// A program that is compiled and linked, ready to be instantiated any number of times.
#[derive(Clone)]
pub(super) enum Prepared {
    /// A core module, a WASI preview 1 command.
    Module {
        /// The program.
        linked: InstancePre<Guest>,
        /// True if it takes messages.
        is_listening: bool,
    },
    /// A component, a WASI preview 2 command.
    Component(CommandPre<Guest>),
}

/// The result of compiling, kept for the next run; a module that is invalid stays so.
type Slot = Arc<OnceCell<Result<Prepared, ExecutionFailure>>>;

struct CacheEntry {
    digest: [u8; 32],
    module_bytes: usize,
    slot: Slot,
}

/// Compiles modules and keeps the most recently used ones.
pub(super) struct Preparer {
    engine: Engine,
    module_linker: Linker<Guest>,
    component_linker: ComponentLinker<Guest>,
    /// Most recently used first. A lock, because guests' threads share it; it is held for a look-up only.
    cache: Mutex<Vec<CacheEntry>>,
    compilations: Arc<Semaphore>,
    compiled: AtomicU64,
}

impl Preparer {
    pub(super) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        let mut module_linker = Linker::new(engine);
        p1::add_to_linker_async(&mut module_linker, |guest: &mut Guest| &mut guest.wasi)?;
        // WASI's own takes codes below 126 only, and calls the rest a trap; people exit with 255.
        module_linker.allow_shadowing(true);
        module_linker.func_wrap(
            "wasi_snapshot_preview1",
            "proc_exit",
            |code: i32| -> wasmtime::Result<()> { Err(wasmtime_wasi::I32Exit(code).into()) },
        )?;
        messages::add_to_linker(&mut module_linker)?;
        let mut component_linker = ComponentLinker::new(engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut component_linker)?;
        Ok(Self {
            engine: engine.clone(),
            module_linker,
            component_linker,
            cache: Mutex::default(),
            compilations: Arc::new(Semaphore::new(COMPILATIONS_MAX)),
            compiled: AtomicU64::new(0),
        })
    }

    /// Modules compiled so far.
    pub(super) fn compiled(&self) -> u64 {
        self.compiled.load(Ordering::Relaxed)
    }

    /// Gives the program for `module`, compiling it if it is not in the cache. Many runs that ask for the
    /// same module at once wait for one compilation.
    ///
    /// # Errors
    /// `InvalidModule` if it cannot be run here, `Host` if compiling itself failed.
    pub(super) async fn prepare(self: Arc<Self>, module: Arc<[u8]>) -> Result<Prepared, ExecutionFailure> {
        if module.len() > MODULE_BYTES_MAX {
            return Err(ExecutionFailure::InvalidModule(format!(
                "{} bytes are more than the {MODULE_BYTES_MAX} bytes taken",
                module.len()
            )));
        }
        let slot = self.slot(Sha256::digest(&module).into(), module.len());
        let prepared = slot.get_or_try_init(|| Arc::clone(&self).compile_apart(module)).await?;
        prepared.clone()
    }

    /// Compiles on a thread of its own. The outer error is the host's and not kept.
    async fn compile_apart(
        self: Arc<Self>,
        module: Arc<[u8]>,
    ) -> Result<Result<Prepared, ExecutionFailure>, ExecutionFailure> {
        let permit = Arc::clone(&self.compilations).acquire_owned().await;
        let compiling = tokio::task::spawn_blocking(move || {
            // Held to the end of the compilation, also when nobody waits for it any more.
            let _permit = permit;
            self.compiled.fetch_add(1, Ordering::Relaxed);
            self.compile(&module)
                .map_err(|error| ExecutionFailure::InvalidModule(one_line(&format!("{error:#}"))))
        });
        compiling
            .await
            .map_err(|error| ExecutionFailure::Host(one_line(&format!("compiling failed: {error}"))))
    }

    fn compile(&self, bytes: &[u8]) -> wasmtime::Result<Prepared> {
        if is_component(bytes) {
            let component = Component::new(&self.engine, bytes)?;
            let linked = self.component_linker.instantiate_pre(&component)?;
            return Ok(Prepared::Component(CommandPre::new(linked)?));
        }
        let module = Module::new(&self.engine, bytes)?;
        let linked = self.module_linker.instantiate_pre(&module)?;
        match module.get_export(START) {
            Some(wasmtime::ExternType::Func(start))
                if start.params().len() == 0 && start.results().len() == 0 =>
            {
                Ok(Prepared::Module { linked, is_listening: messages::is_imported_by(&module) })
            }
            _ => wasmtime::bail!("it is not a command: it exports no function `{START}` without parameters"),
        }
    }

    /// The place for a module's program, now the most recently used one.
    fn slot(&self, digest: [u8; 32], module_bytes: usize) -> Slot {
        let mut cache = self.lock_cache();
        let entry = match cache.iter().position(|entry| entry.digest == digest) {
            Some(position) => cache.remove(position),
            None => CacheEntry { digest, module_bytes, slot: Slot::default() },
        };
        let slot = Arc::clone(&entry.slot);
        cache.insert(0, entry);
        cache.truncate(CACHE_ENTRIES_MAX);
        while cache.iter().map(|entry| entry.module_bytes).sum::<usize>() > CACHE_BYTES_MAX {
            cache.pop();
        }
        slot
    }

    fn lock_cache(&self) -> MutexGuard<'_, Vec<CacheEntry>> {
        // Every step of a change leaves a usable list, so a panic elsewhere is no reason to stop.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells a component from a core module, in binary or text form. What is neither is left to the module
/// parser, whose message says what is wrong.
fn is_component(bytes: &[u8]) -> bool {
    match bytes.strip_prefix(b"\0asm") {
        // Two bytes of version, two of layer; layer 1 is the component model.
        Some(rest) => rest.get(2..4) == Some(&[1, 0]),
        None => str::from_utf8(bytes).is_ok_and(|text| skip_comments(text).starts_with("(component")),
    }
}

/// Skips what may stand before the first form of a text module. Block comments that nest are taken as
/// ended by their first end; then the text is taken for a module.
fn skip_comments(text: &str) -> &str {
    let mut rest = text.trim_start();
    loop {
        let after = if rest.starts_with(";;") {
            rest.split_once('\n')
        } else if rest.starts_with("(;") {
            rest.split_once(";)")
        } else {
            return rest;
        };
        rest = after.map_or("", |(_, after)| after).trim_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_told_from_modules() {
        let table: [(&[u8], bool); 10] = [
            (b"\0asm\x0d\0\x01\0", true),
            (b"\0asm\x01\0\0\0", false),
            (b"\0asm", false),
            (b"", false),
            (b"\xff\xfe", false),
            (b"(module)", false),
            (b"(component)", true),
            (b" ;; (module)\n (; a\n b ;) (component (core module))", true),
            (b";; (component)\n(module)", false),
            (b";; no end", false),
        ];
        for (bytes, expected) in table {
            assert_eq!(is_component(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn the_cache_forgets_the_longest_unused_and_stays_small() {
        let preparer = Preparer::new(&Engine::default()).unwrap();
        let kept = |digest: u8| preparer.lock_cache().iter().any(|entry| entry.digest == [digest; 32]);
        for digest in 0..8 {
            preparer.slot([digest; 32], 1);
        }
        preparer.slot([0; 32], 1);
        preparer.slot([8; 32], 1);
        assert!(kept(0) && !kept(1) && kept(8));
        preparer.slot([9; 32], CACHE_BYTES_MAX);
        assert_eq!(preparer.lock_cache().len(), 1);
        assert!(kept(9));
    }
}
