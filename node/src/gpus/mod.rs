//! The graphics processors of this machine, one lister per vendor.
//!
//! [`crate::host`] asks at onboarding, and nobody at the start of a node. Each vendor is a file of its own behind
//! [`GpuLister`]: one whose library is missing, whose driver does not fit or who says nonsense has no effect on the
//! others, and is told once, at the level debug, because most machines lack most vendors. What is found is not offered
//! by itself: no executor gives a program a GPU yet, so it is the owner who says that one is to be counted.

mod amd;
mod drm;
mod intel;
mod nvidia;

use std::fmt;
use std::path::Path;

use dms_messages::Gpu;

/// Where Linux shows graphics cards.
const DRM: &str = "/sys/class/drm";
/// Most GPUs of one machine: what a capability may describe.
const MAX_GPUS: usize = 64;

/// Why a vendor's GPUs are not known.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct GpuError(String);

/// What knows the GPUs of one vendor.
pub trait GpuLister: fmt::Debug {
    /// The vendor, in lower case, as it stands in a capability.
    fn vendor(&self) -> &'static str;

    /// Its GPUs, in an order that stays the same; none is no error.
    ///
    /// # Errors
    /// [`GpuError`] if it cannot be known whether there are any.
    fn list(&self) -> Result<Vec<Gpu>, GpuError>;
}

/// The GPUs of this machine.
pub fn found() -> Vec<Gpu> {
    let drm = Path::new(DRM);
    found_by(&[&nvidia::Nvidia, &amd::Amd::new(drm), &intel::Intel::new(drm)])
}

/// What some listers find, one after another.
fn found_by(listers: &[&dyn GpuLister]) -> Vec<Gpu> {
    let mut found = Vec::new();
    for lister in listers {
        match lister.list() {
            Ok(gpus) => found.extend(gpus),
            Err(error) => tracing::debug!(vendor = lister.vendor(), %error, "no gpus are known"),
        }
    }
    found.truncate(MAX_GPUS);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::MemoryMib;

    #[derive(Debug)]
    struct Given(Result<usize, &'static str>);

    impl GpuLister for Given {
        fn vendor(&self) -> &'static str {
            "given"
        }

        fn list(&self) -> Result<Vec<Gpu>, GpuError> {
            let gpu = Gpu { vendor: "given".to_owned(), model: String::new(), memory: MemoryMib(1) };
            self.0.map(|count| vec![gpu; count]).map_err(|error| GpuError(error.to_owned()))
        }
    }

    #[test]
    fn a_vendor_that_fails_takes_nothing_from_the_others() {
        let table: &[(&[Result<usize, &str>], usize)] = &[
            (&[], 0),
            (&[Err("no library")], 0),
            (&[Ok(1), Err("a driver that does not fit"), Ok(2)], 3),
            (&[Ok(60), Ok(60)], MAX_GPUS),
        ];
        for (listers, count) in table {
            let listers: Vec<Given> = listers.iter().map(|given| Given(*given)).collect();
            let listers: Vec<&dyn GpuLister> =
                listers.iter().map(|lister| lister as &dyn GpuLister).collect();
            assert_eq!(found_by(&listers).len(), *count);
        }
    }

    #[test]
    fn this_machine_is_asked_without_harm() {
        assert!(found().len() <= MAX_GPUS);
    }
}
