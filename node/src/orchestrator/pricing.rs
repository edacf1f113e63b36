//! What capacity costs: each dimension that has a price times that, at least the minimum. Ports and slots have none.

use dms_messages::{Price, PriceList, Resources};

/// The price per hour of `resources`, rounded up, saturating.
pub fn price_per_hour(prices: &PriceList, resources: &Resources) -> Price {
    let part = |amount: u64, price: Price, unit: u64| {
        (u128::from(amount) * u128::from(price.0)).div_ceil(u128::from(unit))
    };
    let sum = part(resources.cpu.0, prices.core_hour, 1000)
        + part(resources.memory.0, prices.memory_gib_hour, 1024)
        + part(resources.disk.0, prices.disk_gib_hour, 1024)
        + part(resources.gpus.len() as u64, prices.gpu_hour, 1);
    Price(u64::try_from(sum).unwrap_or(u64::MAX)).max(prices.minimum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_messages::{CpuMillis, DiskMib, MemoryMib};

    #[test]
    fn each_dimension_counts_and_fractions_round_up() {
        let prices = PriceList {
            core_hour: Price(1_000_000),
            memory_gib_hour: Price(100_000),
            disk_gib_hour: Price(1),
            gpu_hour: Price(0),
            minimum: Price(10),
        };
        let resources = |cpu, memory, disk| Resources {
            cpu: CpuMillis(cpu),
            memory: MemoryMib(memory),
            disk: DiskMib(disk),
            ..Resources::default()
        };
        assert_eq!(price_per_hour(&prices, &resources(2500, 0, 0)), Price(2_500_000));
        assert_eq!(price_per_hour(&prices, &resources(0, 512, 0)), Price(50_000));
        assert_eq!(price_per_hour(&prices, &resources(0, 0, 1)), Price(10), "the minimum");
        assert_eq!(price_per_hour(&prices, &resources(1000, 0, 1)), Price(1_000_001), "rounded up");
        let dear = PriceList { core_hour: Price(u64::MAX), ..prices };
        assert_eq!(price_per_hour(&dear, &resources(u64::MAX, 0, 0)), Price(u64::MAX), "saturates");
    }
}
