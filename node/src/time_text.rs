//! Instants as people and other programs read them: UTC, nothing about time zones.
//!
//! Called by whatever prints; reads no clock.

use dms_messages::Timestamp;

/// An instant to the second: `2026-02-28 23:59:59 UTC`.
pub(crate) fn to_the_second(at: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = civil(at);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// An instant to the millisecond, as RFC 3339 has it: `2026-02-28T23:59:59.999Z`.
pub(crate) fn to_the_millisecond(at: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, millisecond } = civil(at);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// An instant in the civil calendar.
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u64,
}

/// The civil calendar from a count of days, by Howard Hinnant's method.
fn civil(at: Timestamp) -> Civil {
    let (seconds, millisecond) = (at.0 / 1000, at.0 % 1000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        hour: second / 3600,
        minute: second / 60 % 60,
        second: second % 60,
        millisecond,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_the_calendar() {
        for (at, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_001, "2000-02-28T23:59:59.001Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_735_689_599_999, "2024-12-31T23:59:59.999Z"),
            (1_798_761_600_000, "2027-01-01T00:00:00.000Z"),
        ] {
            assert_eq!(to_the_millisecond(Timestamp(at)), text);
            assert_eq!(to_the_second(Timestamp(at)), format!("{} {} UTC", &text[..10], &text[11..19]));
        }
    }
}
