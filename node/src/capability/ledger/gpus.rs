//! Which GPUs a pod gets: distinct things, matched to distinct demands.

use std::collections::{BTreeMap, BTreeSet};

use dms_messages::{Capability, Dimension, Gpu, GpuId, GpuRequirement, Shortfall};

/// Distinct GPUs for each demand, smaller ones first; the error counts for how many there are some.
///
/// A demand may have to leave the GPU it was given to another that no other GPU does for: whether all can be served
/// does not depend on who comes first.
pub(super) fn pick(
    capability: &Capability,
    free: &BTreeSet<GpuId>,
    demands: &[GpuRequirement],
) -> Result<BTreeSet<GpuId>, Shortfall> {
    let mut candidates: Vec<(&GpuId, &Gpu)> =
        free.iter().filter_map(|id| Some((id, capability.gpus.get(id)?))).collect();
    candidates.sort_by_key(|(id, gpu)| (gpu.memory, **id));
    let mut given = BTreeMap::new();
    // The most demanding first: they have the fewest to choose from, so that few must move.
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|index| std::cmp::Reverse(demands[*index].memory));
    let served = order
        .into_iter()
        .filter(|demand| serve(*demand, demands, &candidates, &mut given, &mut BTreeSet::new()));
    let served = served.count();
    if served == demands.len() {
        Ok(given.into_keys().collect())
    } else {
        Err(Shortfall {
            dimension: Dimension::Gpu,
            needed: demands.len() as u64,
            had: served as u64,
            is_owners: false,
        })
    }
}

/// Gives a GPU to `demand`, moving others if that helps; false if none can be had. As deep as there are demands.
fn serve(
    demand: usize,
    demands: &[GpuRequirement],
    candidates: &[(&GpuId, &Gpu)],
    given: &mut BTreeMap<GpuId, usize>,
    tried: &mut BTreeSet<GpuId>,
) -> bool {
    for (id, gpu) in candidates {
        if demands[demand].accepts(gpu) && tried.insert(**id) {
            let holder = given.get(*id).copied();
            if holder.is_none_or(|holder| serve(holder, demands, candidates, given, tried)) {
                given.insert(**id, demand);
                return true;
            }
        }
    }
    false
}
