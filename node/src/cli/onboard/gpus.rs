//! What `dms onboard --gpus` says: which of the GPUs that were found are offered. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use dms_messages::{Gpu, GpuId};

/// The word for all that were found.
const ALL: &str = "all";
/// The word that takes the offer back.
const NONE: &str = "none";

/// The GPUs of `--gpus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Gpus {
    /// All that were found.
    All,
    /// Those at these places, of those that were found; maybe none.
    Some(BTreeSet<GpuId>),
}

impl FromStr for Gpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let place = |part: &str| {
            let place = part.trim().parse().map(GpuId);
            place.map_err(|_| {
                format!("{:?} is not the number of a GPU: write 0, 0,1, all, or none", part.trim())
            })
        };
        match text.trim() {
            ALL => Ok(Self::All),
            NONE => Ok(Self::Some(BTreeSet::new())),
            text => text.split(',').map(place).collect::<Result<_, _>>().map(Self::Some),
        }
    }
}

impl Gpus {
    /// Those that are meant of those that were found, by their places, or which of them there is not.
    pub(super) fn chosen(&self, found: &[Gpu]) -> Result<BTreeMap<GpuId, Gpu>, String> {
        // More than can be counted are never found.
        let known: BTreeMap<GpuId, Gpu> = (0_u16..).map(GpuId).zip(found.iter().cloned()).collect();
        match self {
            Self::All => Ok(known),
            Self::Some(places) => match places.iter().find(|place| !known.contains_key(place)) {
                Some(missing) => {
                    Err(format!("--gpus {}: {} were found on this machine", missing.0, known.len()))
                }
                None => Ok(known.into_iter().filter(|(place, _)| places.contains(place)).collect()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::MemoryMib;

    #[test]
    fn gpus_are_chosen_by_their_place_or_all_or_none() {
        let gpu = |number: u64| Gpu {
            vendor: "amd".to_owned(),
            model: number.to_string(),
            memory: MemoryMib(number),
        };
        let found: Vec<Gpu> = (0..3).map(gpu).collect();
        let table: &[(&str, &[u16])] =
            &[("all", &[0, 1, 2]), ("none", &[]), ("1", &[1]), (" 2 , 0", &[0, 2]), ("1,1", &[1])];
        for (text, places) in table {
            let chosen = text.parse::<Gpus>().unwrap().chosen(&found).unwrap();
            assert_eq!(chosen.keys().map(|place| place.0).collect::<Vec<_>>(), *places, "{text}");
            assert!(chosen.iter().all(|(place, gpu)| gpu.memory.0 == u64::from(place.0)));
        }
        assert!("all".parse::<Gpus>().unwrap().chosen(&[]).unwrap().is_empty());
        let missing = "0,3".parse::<Gpus>().unwrap().chosen(&found);
        assert_eq!(missing, Err("--gpus 3: 3 were found on this machine".to_owned()));
        for text in ["", "x", "-1", "0-1", "0,", "65536", "ALL"] {
            assert!(text.parse::<Gpus>().is_err(), "{text}");
        }
    }
}
