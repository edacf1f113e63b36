//! What a link remembers of the words before, so that the next one to the same actor costs a comparison
//! instead of parsing its path and kind and looking both up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use super::super::registry::{Registry, WireEntry};
use super::super::{ActorPath, Refusal, RefusalCode};
use super::frame::FrameError;
use super::limits::{KindLimits, Limits};
use crate::Kind;

/// Pairs of path and kind that are remembered: more than a peer uses at a time, and about 50 KiB. A peer
/// that uses more starts anew, at the cost it would have without.
const MAX_ROUTES: usize = 256;

/// Where words of one kind to one path go.
pub(super) struct Route {
    pub(super) path: ActorPath,
    pub(super) kind: Arc<Kind>,
    pub(super) entry: Result<Arc<dyn WireEntry>, Refusal>,
    pub(super) limits: Option<KindRule>,
}

/// The limits of a kind and its open asks.
pub(super) struct KindRule {
    pub(super) limits: KindLimits,
    pub(super) open: Arc<AtomicUsize>,
}

struct Remembered {
    /// The kind as it arrives.
    kind: Box<str>,
    route: Route,
}

impl Remembered {
    fn is(&self, to: &str, kind: &str) -> bool {
        self.route.path.as_str() == to && *self.kind == *kind
    }
}

/// The routes of one link.
#[derive(Default)]
pub(super) struct Routes {
    /// The places of the routes to each path.
    by_path: BTreeMap<ActorPath, Vec<usize>>,
    routes: Vec<Remembered>,
    /// The one that was used last, most often the next as well.
    latest: usize,
    /// The registry's, when these were found.
    generation: u64,
    open_by_kind: BTreeMap<Kind, Arc<AtomicUsize>>,
}

impl Routes {
    /// The route of a word. A path out of form is no word at all; a kind out of form is refused.
    pub(super) fn find(
        &mut self,
        to: &str,
        kind: &str,
        registry: &Registry,
        limits: &Limits,
    ) -> Result<Result<&Route, Refusal>, FrameError> {
        let generation = registry.generation();
        if generation != self.generation {
            // Before anything is looked up: what changes meanwhile has another number again.
            self.clear();
            self.generation = generation;
        }
        if !self.routes.get(self.latest).is_some_and(|route| route.is(to, kind)) {
            let of_path = self.by_path.get(to).into_iter().flatten().copied();
            let mut same_kind = of_path.filter(|at| self.routes[*at].is(to, kind));
            self.latest = same_kind.next().unwrap_or(usize::MAX);
        }
        if self.latest == usize::MAX {
            let path = to.strip_prefix('/').and(to.parse().ok());
            let path = path.ok_or(FrameError::OutOfPlace("a path out of form"))?;
            let Some(parsed) = Kind::parse(kind) else {
                return Ok(Err(Refusal::new(RefusalCode::Malformed, "the kind is not name/version")));
            };
            self.insert(kind, path, parsed, registry, limits);
        }
        Ok(Ok(&self.routes[self.latest].route))
    }

    fn insert(&mut self, text: &str, path: ActorPath, kind: Kind, registry: &Registry, limits: &Limits) {
        if self.routes.len() >= MAX_ROUTES {
            self.clear();
        }
        let limits = limits.of(&kind).map(|limits| KindRule {
            limits,
            // Only kinds that are named in the limits are counted, so there are few.
            open: self.open_by_kind.entry(kind.clone()).or_default().clone(),
        });
        let entry = registry.find(&path, &kind);
        self.latest = self.routes.len();
        self.by_path.entry(path.clone()).or_default().push(self.latest);
        let route = Route { path, kind: Arc::new(kind), entry, limits };
        self.routes.push(Remembered { kind: text.into(), route });
    }

    fn clear(&mut self) {
        self.by_path.clear();
        self.routes.clear();
        self.latest = usize::MAX;
    }
}
