//! Intel's GPUs, by what its driver shows below `/sys/class/drm`. Most of them use the machine's memory and have none
//! of their own.

use std::path::{Path, PathBuf};

use dms_messages::{Gpu, MemoryMib};

use super::drm::{Card, cards};
use super::{GpuError, GpuLister};

/// The vendor's name.
const VENDOR: &str = "intel";
/// The vendor's number on the PCI bus.
const PCI_VENDOR: u16 = 0x8086;

/// Intel's, as a directory of cards shows them.
#[derive(Debug, Clone)]
pub(super) struct Intel {
    drm: PathBuf,
}

impl Intel {
    pub(super) fn new(drm: &Path) -> Self {
        Self { drm: drm.to_path_buf() }
    }
}

impl GpuLister for Intel {
    fn vendor(&self) -> &'static str {
        VENDOR
    }

    fn list(&self) -> Result<Vec<Gpu>, GpuError> {
        let gpu = |card: Card| {
            let memory = card.number("lmem_total_bytes").unwrap_or(0) >> 20;
            Gpu { vendor: VENDOR.to_owned(), model: card.model("Intel"), memory: MemoryMib(memory) }
        };
        Ok(cards(&self.drm, PCI_VENDOR)?.into_iter().map(gpu).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::drm::tests::tree;
    use super::*;

    #[test]
    fn a_card_is_known_by_its_number_and_may_have_no_memory_of_its_own() {
        let drm = tree(&[
            ("card0/device/vendor", "0x8086\n"),
            ("card0/device/device", "0x9a49\n"),
            ("card1/device/vendor", "0x8086"),
            ("card1/device/device", "0x56a0"),
            ("card1/device/lmem_total_bytes", "17179869184"),
            ("card2/device/vendor", "0x1002"),
        ]);
        let found = Intel::new(drm.path()).list().unwrap();
        let gpu = |model: &str, memory| Gpu {
            vendor: VENDOR.into(),
            model: model.into(),
            memory: MemoryMib(memory),
        };
        assert_eq!(found, [gpu("Intel 0x9a49", 0), gpu("Intel 0x56a0", 16_384)]);
    }
}
