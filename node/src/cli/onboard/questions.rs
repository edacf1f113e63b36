//! The questions of an interactive `dms onboard`: what is asked, what is proposed, which answers are possible.
//!
//! Pure: the terminal is in [`super`]. Every question has a proposal, so that Enter after Enter shares what
//! `--yes` would.

use std::fmt;

use dms_messages::{Capability, CpuMillis, DiskMib, MemoryMib, Price, PriceList};

use crate::host::HostInfo;

/// Something that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// How many cores.
    Cpu,
    /// How much memory.
    Memory,
    /// How much disk.
    Disk,
    /// What a core costs per hour.
    CorePrice,
    /// What a GiB of memory costs per hour.
    MemoryPrice,
    /// What a GiB of disk costs per hour.
    DiskPrice,
}

/// How much is asked.
pub(super) const RESOURCES: [Question; 3] = [Question::Cpu, Question::Memory, Question::Disk];
/// What it costs; asked only of those who want something for it.
pub(super) const PRICES: [Question; 3] = [Question::CorePrice, Question::MemoryPrice, Question::DiskPrice];

impl Question {
    /// The words of the question.
    pub(super) fn prompt(self, host: &HostInfo) -> String {
        match self {
            Self::Cpu => format!("Cores to share, of {}", host.cpu_info.cores),
            Self::Memory => format!(
                "Memory to share, of {} ({} free now)",
                rounded(host.memory_total.0),
                rounded(host.memory_available.0)
            ),
            Self::Disk => format!("Disk to share, of {} free", rounded(host.disk_free.0)),
            Self::CorePrice => "Credits per core and hour".to_owned(),
            Self::MemoryPrice => "Credits per GiB of memory and hour".to_owned(),
            Self::DiskPrice => "Credits per GiB of disk and hour".to_owned(),
        }
    }

    /// What is taken if nothing is typed: what would be shared without a question.
    pub(super) fn proposal(self, capability: &Capability) -> String {
        let (resources, prices) = (&capability.resources, &capability.prices);
        match self {
            Self::Cpu => resources.cpu.to_string(),
            Self::Memory => resources.memory.to_string(),
            Self::Disk => resources.disk.to_string(),
            Self::CorePrice => prices.core_hour.to_string(),
            Self::MemoryPrice => prices.memory_gib_hour.to_string(),
            Self::DiskPrice => prices.disk_gib_hour.to_string(),
        }
    }

    /// Puts an answer into the capability, or says what is wrong with it.
    pub(super) fn answer(
        self,
        text: &str,
        host: &HostInfo,
        capability: &mut Capability,
    ) -> Result<(), String> {
        let (resources, prices) = (&mut capability.resources, &mut capability.prices);
        let text = text.trim();
        match self {
            Self::Cpu => {
                let cores = CpuMillis(u64::from(host.cpu_info.cores) * 1000);
                resources.cpu = within(parsed(text)?, CpuMillis(1), cores, "cores")?;
            }
            Self::Memory => {
                resources.memory = within(parsed(text)?, MemoryMib(1), host.memory_total, "of memory")?;
            }
            // A machine may share none of its disk: many programs write nothing.
            // What was registered before may stay so, however full the disk is by now.
            Self::Disk => {
                let most = host.disk_free.max(resources.disk);
                resources.disk = within(parsed(text)?, DiskMib(0), most, "of free disk")?;
            }
            Self::CorePrice => prices.core_hour = parsed::<Price>(text)?,
            Self::MemoryPrice => prices.memory_gib_hour = parsed::<Price>(text)?,
            Self::DiskPrice => prices.disk_gib_hour = parsed::<Price>(text)?,
        }
        Ok(())
    }
}

fn parsed<T: std::str::FromStr<Err: fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn within<T: PartialOrd + fmt::Display>(amount: T, least: T, most: T, unit: &str) -> Result<T, String> {
    if amount > most {
        Err(format!("this machine has {most} {unit}"))
    } else if amount < least {
        Err(format!("share {least} {unit} at least, or do not onboard"))
    } else {
        Ok(amount)
    }
}

/// An amount as a person says it: exact amounts of memory are long numbers.
fn rounded(mib: u64) -> String {
    if mib < 10 * 1024 { format!("{mib} MiB") } else { format!("{} GiB", mib / 1024) }
}

/// True if anything has a price.
pub(super) fn is_priced(prices: &PriceList) -> bool {
    *prices != PriceList::default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::default_capability;
    use dms_messages::CpuInfo;

    fn host() -> HostInfo {
        HostInfo {
            cpu_info: CpuInfo { cores: 4, ..CpuInfo::default() },
            memory_total: MemoryMib(16_000),
            memory_available: MemoryMib(9000),
            disk_free: DiskMib(200_000),
            gpus: Vec::new(),
        }
    }

    #[test]
    fn every_proposal_is_a_possible_answer_and_changes_nothing() {
        for host in [host(), HostInfo { disk_free: DiskMib(0), ..host() }] {
            let proposed = default_capability(&host);
            let mut capability = proposed.clone();
            for question in RESOURCES.into_iter().chain(PRICES) {
                let proposal = question.proposal(&capability);
                assert_eq!(
                    question.answer(&proposal, &host, &mut capability),
                    Ok(()),
                    "{question:?} {proposal}"
                );
            }
            assert_eq!(capability, proposed);
        }
    }

    #[test]
    fn answers_are_taken_as_people_write_them() {
        let mut capability = default_capability(&host());
        let table = [
            (Question::Cpu, " 1.5 "),
            (Question::Memory, "2GiB"),
            (Question::Disk, "10 GiB"),
            (Question::CorePrice, "0.25"),
            (Question::MemoryPrice, "0"),
            (Question::DiskPrice, "1"),
        ];
        for (question, text) in table {
            assert_eq!(question.answer(text, &host(), &mut capability), Ok(()), "{text}");
        }
        let resources = &capability.resources;
        assert_eq!((resources.cpu.0, resources.memory.0, resources.disk.0), (1500, 2048, 10_240));
        let prices = capability.prices;
        assert_eq!(
            (prices.core_hour.0, prices.memory_gib_hour.0, prices.disk_gib_hour.0),
            (250_000, 0, 1_000_000)
        );
        assert!(is_priced(&prices) && !is_priced(&PriceList::default()));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason_and_leaves_everything_as_it_was() {
        let before = default_capability(&host());
        let table = [
            (Question::Cpu, "many", "\"many\" is not a number of cores"),
            (Question::Cpu, "5", "this machine has 4 cores"),
            (Question::Cpu, "0", "at least"),
            (Question::Cpu, "-1", "is not a number of cores"),
            (Question::Memory, "64", "is not an amount of memory"),
            (Question::Memory, "1TiB", "this machine has 16000 MiB of memory"),
            (Question::Memory, "0MiB", "at least"),
            (Question::Disk, "1TiB", "of free disk"),
            (Question::Disk, "", "is not an amount of disk"),
            (Question::CorePrice, "-3", "is not a price"),
            (Question::CorePrice, "1,5", "is not a price"),
        ];
        for (question, text, reason) in table {
            let mut capability = before.clone();
            let error = question.answer(text, &host(), &mut capability).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
            assert_eq!(capability, before, "{text}");
        }
    }

    #[test]
    fn a_question_says_what_there_is() {
        assert_eq!(Question::Cpu.prompt(&host()), "Cores to share, of 4");
        assert_eq!(Question::Memory.prompt(&host()), "Memory to share, of 15 GiB (9000 MiB free now)");
        assert_eq!(Question::Disk.prompt(&host()), "Disk to share, of 195 GiB free");
    }
}
