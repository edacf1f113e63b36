//! `CapabilityClass`: coarse groups of providers, for looking them up before their adverts are known.

use std::collections::BTreeSet;
use std::fmt;

use crate::capability::{Capability, ExecutorKind, Requirement};

/// What kind of programs a node runs. Coarse on purpose: a class only finds who is worth asking, and every
/// member has a record of its own in the directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CapabilityClass {
    /// What runs the program.
    pub executor: ExecutorKind,
    /// The instruction set that the program is built for (`x86_64`); none if it runs on any.
    pub architecture: Option<String>,
}

impl CapabilityClass {
    /// The classes that a node with this capability belongs to: each executor alone, and with the machine's
    /// own instruction set.
    pub fn offered(capability: &Capability) -> BTreeSet<Self> {
        let architecture = &capability.cpu_info.architecture;
        let own = (!architecture.is_empty()).then(|| architecture.clone());
        capability
            .executors
            .iter()
            .flat_map(|executor| [None, own.clone()].map(|architecture| (*executor, architecture)))
            .map(|(executor, architecture)| Self { executor, architecture })
            .collect()
    }

    /// The class whose members may run a pod that needs this.
    pub fn needed(requirement: &Requirement) -> Self {
        match requirement.executor {
            // WebAssembly runs on any machine, unless the pod wants one of a kind.
            ExecutorKind::Wasm => {
                Self { executor: ExecutorKind::Wasm, architecture: requirement.architecture.clone() }
            }
        }
    }
}

impl fmt::Display for CapabilityClass {
    /// `wasm`, or `wasm/x86_64`: also what the class's key is made of, so that it must not change.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.executor.fmt(f)?;
        self.architecture.iter().try_for_each(|architecture| write!(f, "/{architecture}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::CpuInfo;

    #[test]
    fn a_machine_is_in_the_class_that_its_programs_are_looked_up_in() {
        let capability = Capability {
            executors: BTreeSet::from([ExecutorKind::Wasm]),
            cpu_info: CpuInfo { architecture: "x86_64".into(), ..CpuInfo::default() },
            ..Capability::default()
        };
        let offered = CapabilityClass::offered(&capability);
        let texts: Vec<String> = offered.iter().map(CapabilityClass::to_string).collect();
        assert_eq!(texts, ["wasm", "wasm/x86_64"]);
        assert!(
            offered.contains(&CapabilityClass::needed(&crate::golden::example_job().pods[0].requirement))
        );
        let choosy = Requirement { architecture: Some("x86_64".into()), ..Requirement::default() };
        assert!(offered.contains(&CapabilityClass::needed(&choosy)));
        assert!(CapabilityClass::offered(&Capability::default()).is_empty());
    }
}
