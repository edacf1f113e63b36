//! Where a node's actors are within its system, for whoever addresses them and for the gate.

use dms_actors::ActorPath;
use dms_messages::AllocationId;

/// The Node actor: every word of the mesh that is for no allocation is addressed to it.
pub const NODE_PATH: &str = "/node";
/// What the paths of allocations begin with.
pub const ALLOCATIONS_PATH: &str = "/node/alloc/";

/// Where a live allocation is, within its provider's system.
pub fn path_of(id: AllocationId) -> String {
    format!("{ALLOCATIONS_PATH}{id}")
}

/// Which allocation is, or was, at a path; none if it is no allocation's.
pub fn allocation_at(path: &ActorPath) -> Option<AllocationId> {
    let id: AllocationId = path.as_str().strip_prefix(ALLOCATIONS_PATH)?.parse().ok()?;
    // An id has other spellings, and a path only one.
    (path_of(id) == path.as_str()).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_one_allocation_and_other_paths_none() {
        let id = AllocationId::from_random([9; 16]);
        assert_eq!(allocation_at(&path_of(id).parse().unwrap()), Some(id));
        let simple = id.to_string().replace('-', "");
        let others =
            ["/node", "/node/alloc", "/node/alloc/x", "/alloc/1", "/node/allocs/1"].map(str::to_owned);
        let spelled = [format!("{ALLOCATIONS_PATH}{simple}"), format!("/other{}", path_of(id))];
        let below = [format!("{}/x", path_of(id))];
        for path in others.into_iter().chain(spelled).chain(below) {
            assert_eq!(allocation_at(&path.parse().unwrap()), None, "{path}");
        }
    }
}
