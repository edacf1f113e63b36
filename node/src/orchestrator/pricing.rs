//! What capacity costs: each dimension that has a price times that, at least the minimum. Ports and slots have none.
//!
//! The prices are those that were registered; the owner's preferences may let them rise with how much of the machine is
//! taken ([`Surcharge`]). All in whole numbers: thousandths and millionths of a credit, rounded up, saturating.

use dms_messages::{Dimension, Price, PriceList, Requirement, Resources};

/// All of a machine, and a price that does not rise, in thousandths.
pub const WHOLE: u32 = 1000;

/// How much of each dimension that has a price is taken, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Loads {
    /// Of the cores.
    pub cpu: u32,
    /// Of the memory.
    pub memory: u32,
    /// Of the disk.
    pub disk: u32,
    /// Of the GPUs.
    pub gpu: u32,
}

/// How much there is of one dimension.
fn amount(resources: &Resources, dimension: Dimension) -> u64 {
    let amounts = resources.amounts();
    amounts.into_iter().find(|(found, _)| *found == dimension).map_or(0, |(_, amount)| amount)
}

impl Loads {
    /// What is taken of `registered` while `available` is free. Of what a machine has not, nothing is taken.
    pub fn of(registered: &Resources, available: &Resources) -> Self {
        Self::by(registered, |dimension| amount(available, dimension))
    }

    fn by(registered: &Resources, free: impl Fn(Dimension) -> u64) -> Self {
        let share = |dimension: Dimension| {
            let (whole, free) = (u128::from(amount(registered, dimension)), u128::from(free(dimension)));
            let taken = whole.saturating_sub(free) * u128::from(WHOLE);
            u32::try_from(taken.checked_div(whole).unwrap_or(0)).unwrap_or(WHOLE)
        };
        Self {
            cpu: share(Dimension::Cpu),
            memory: share(Dimension::Memory),
            disk: share(Dimension::Disk),
            gpu: share(Dimension::Gpu),
        }
    }

    /// What is taken when `more` is, too: all of it where that is more than is free.
    pub fn with(registered: &Resources, available: &Resources, more: &Resources) -> Self {
        let left =
            |dimension: Dimension| amount(available, dimension).saturating_sub(amount(more, dimension));
        Self::by(registered, left)
    }

    /// That of the dimension of which most is taken.
    pub fn highest(&self) -> u32 {
        self.cpu.max(self.memory).max(self.disk).max(self.gpu)
    }
}

/// How prices rise with what is taken: by which factor, in thousandths, something costs more when all of it is taken.
/// Between nothing and all it rises evenly. Never below [`WHOLE`]: the registered price is the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surcharge {
    /// Of the cores.
    pub cpu: u32,
    /// Of the memory.
    pub memory: u32,
    /// Of the disk.
    pub disk: u32,
    /// Of the GPUs.
    pub gpu: u32,
    /// Of the whole price, by the dimension of which most is taken.
    pub overall: u32,
    /// What anything costs per hour at least, whatever the registered minimum.
    pub minimum: Price,
}

impl Default for Surcharge {
    fn default() -> Self {
        Self { cpu: WHOLE, memory: WHOLE, disk: WHOLE, gpu: WHOLE, overall: WHOLE, minimum: Price(0) }
    }
}

/// How much is bought of each dimension that has a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    cpu: u64,
    memory: u64,
    disk: u64,
    gpus: u64,
}

impl From<&Resources> for Amounts {
    fn from(resources: &Resources) -> Self {
        Self {
            cpu: resources.cpu.0,
            memory: resources.memory.0,
            disk: resources.disk.0,
            gpus: resources.gpus.len() as u64,
        }
    }
}

impl From<&Requirement> for Amounts {
    fn from(need: &Requirement) -> Self {
        Self { cpu: need.cpu.0, memory: need.memory.0, disk: need.disk.0, gpus: need.gpus.len() as u64 }
    }
}

/// The price per hour where nothing is taken, and for whoever has no surcharge always.
pub fn price_per_hour(prices: &PriceList, amounts: impl Into<Amounts>) -> Price {
    price_at(prices, &Surcharge::default(), &Loads::default(), amounts)
}

/// The price per hour while so much is taken.
pub fn price_at(
    prices: &PriceList,
    surcharge: &Surcharge,
    loads: &Loads,
    amounts: impl Into<Amounts>,
) -> Price {
    let amounts = amounts.into();
    let whole = u128::from(WHOLE);
    // From 1000 to the factor of something that is wholly taken.
    let factor = |full: u32, load: u32| {
        whole + u128::from(full.saturating_sub(WHOLE)) * u128::from(load.min(WHOLE)) / whole
    };
    let part = |amount: u64, price: Price, unit: u64, factor: u128| {
        // Two numbers of 64 bits, and a factor of at most 33.
        (u128::from(amount) * u128::from(price.0)).saturating_mul(factor).div_ceil(u128::from(unit) * whole)
    };
    let parts = [
        part(amounts.cpu, prices.core_hour, 1000, factor(surcharge.cpu, loads.cpu)),
        part(amounts.memory, prices.memory_gib_hour, 1024, factor(surcharge.memory, loads.memory)),
        part(amounts.disk, prices.disk_gib_hour, 1024, factor(surcharge.disk, loads.disk)),
        part(amounts.gpus, prices.gpu_hour, 1, factor(surcharge.gpu, loads.gpu)),
    ];
    let sum = parts.into_iter().fold(0u128, u128::saturating_add);
    let overall = sum.saturating_mul(factor(surcharge.overall, loads.highest())).div_ceil(whole);
    Price(u64::try_from(overall).unwrap_or(u64::MAX)).max(prices.minimum).max(surcharge.minimum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::{CpuMillis, DiskMib, GpuId, MemoryMib};

    fn resources(cpu: u64, memory: u64, disk: u64) -> Resources {
        Resources {
            cpu: CpuMillis(cpu),
            memory: MemoryMib(memory),
            disk: DiskMib(disk),
            ..Resources::default()
        }
    }

    const PRICES: PriceList = PriceList {
        core_hour: Price(1_000_000),
        memory_gib_hour: Price(100_000),
        disk_gib_hour: Price(1),
        gpu_hour: Price(0),
        minimum: Price(10),
    };

    #[test]
    fn each_dimension_counts_and_fractions_round_up() {
        assert_eq!(price_per_hour(&PRICES, &resources(2500, 0, 0)), Price(2_500_000));
        assert_eq!(price_per_hour(&PRICES, &resources(0, 512, 0)), Price(50_000));
        assert_eq!(price_per_hour(&PRICES, &resources(0, 0, 1)), Price(10), "the minimum");
        assert_eq!(price_per_hour(&PRICES, &resources(1000, 0, 1)), Price(1_000_001), "rounded up");
        let dear = PriceList { core_hour: Price(u64::MAX), ..PRICES };
        assert_eq!(price_per_hour(&dear, &resources(u64::MAX, 0, 0)), Price(u64::MAX), "saturates");
    }

    #[test]
    fn a_price_rises_evenly_with_what_is_taken_and_never_falls_below_what_was_registered() {
        let double_cores = Surcharge { cpu: 2000, ..Surcharge::default() };
        let half_more = Surcharge { overall: 1500, ..Surcharge::default() };
        let both = Surcharge { cpu: 2000, overall: 1500, ..Surcharge::default() };
        let loads = |cpu, memory| Loads { cpu, memory, ..Loads::default() };
        // (surcharge, what is taken, the price of one core and 1 GiB)
        let table = [
            (Surcharge::default(), loads(1000, 1000), 1_100_000),
            (double_cores, loads(0, 1000), 1_100_000),
            (double_cores, loads(250, 0), 1_350_000),
            (double_cores, loads(1000, 0), 2_100_000),
            (double_cores, loads(u32::MAX, 0), 2_100_000),
            (half_more, loads(0, 0), 1_100_000),
            (half_more, loads(100, 500), 1_375_000),
            (both, loads(1000, 0), 3_150_000),
            (Surcharge { cpu: 0, overall: 0, ..Surcharge::default() }, loads(1000, 1000), 1_100_000),
            (Surcharge { minimum: Price(5_000_000), ..Surcharge::default() }, loads(0, 0), 5_000_000),
            (Surcharge { minimum: Price(1), ..both }, loads(1000, 0), 3_150_000),
        ];
        for (surcharge, loads, price) in table {
            let found = price_at(&PRICES, &surcharge, &loads, &resources(1000, 1024, 0));
            assert_eq!(found, Price(price), "{surcharge:?} {loads:?}");
        }
        // Each rise is a rise, and the lowest is that of an empty machine.
        let at = |load| price_at(&PRICES, &both, &loads(load, load), &resources(1000, 1024, 0));
        assert!((0..1000).all(|load| at(load) <= at(load + 1)));
        assert_eq!(at(0), price_per_hour(&PRICES, &resources(1000, 1024, 0)));
        let dear = PriceList { core_hour: Price(u64::MAX), ..PRICES };
        let steep = Surcharge { cpu: u32::MAX, overall: u32::MAX, ..Surcharge::default() };
        assert_eq!(price_at(&dear, &steep, &loads(1000, 0), &resources(u64::MAX, 0, 0)), Price(u64::MAX));
    }

    #[test]
    fn a_load_is_the_share_that_is_taken_of_each_dimension() {
        let gpus = |count: u16| Resources { gpus: (0..count).map(GpuId).collect(), ..Resources::default() };
        let table = [
            (resources(4000, 1024, 10), resources(4000, 1024, 10), Loads::default()),
            (
                resources(4000, 1024, 0),
                resources(3000, 0, 0),
                Loads { cpu: 250, memory: 1000, ..Loads::default() },
            ),
            (gpus(4), gpus(1), Loads { gpu: 750, ..Loads::default() }),
            (resources(0, 0, 0), resources(0, 0, 0), Loads::default()),
            (resources(1, 1, 1), resources(2, 2, 2), Loads::default()),
            (resources(u64::MAX, 0, 0), resources(0, 0, 0), Loads { cpu: 1000, ..Loads::default() }),
        ];
        for (registered, available, loads) in table {
            assert_eq!(Loads::of(&registered, &available), loads, "{registered:?} {available:?}");
        }
    }
}
