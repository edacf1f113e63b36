//! Typed amounts with checked arithmetic: a thousandth of a core is not a mebibyte.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Why a text is not an amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is {problem}")]
pub struct UnitError {
    text: String,
    /// What goes on after "is".
    problem: &'static str,
}

impl UnitError {
    fn new(text: &str, problem: &'static str) -> Self {
        Self { text: text.chars().take(64).collect(), problem }
    }
}

macro_rules! amount {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The sum, unless it overflows.
            pub fn checked_add(self, other: Self) -> Option<Self> {
                self.0.checked_add(other.0).map(Self)
            }

            /// The difference, unless it would be negative.
            pub fn checked_sub(self, other: Self) -> Option<Self> {
                self.0.checked_sub(other.0).map(Self)
            }
        }
    };
}

amount!(
    /// CPU in thousandths of a core.
    CpuMillis);
amount!(
    /// Memory in mebibytes (2^20 bytes).
    MemoryMib);
amount!(
    /// Disk in mebibytes (2^20 bytes).
    DiskMib);
amount!(
    /// A price in millionths of a credit; per hour where it prices capacity. What a credit is worth is
    /// for the parties to agree.
    Price);
amount!(
    /// A duration in milliseconds.
    Millis);

impl Millis {
    /// The same as a [`Duration`].
    pub fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Duration> for Millis {
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl MemoryMib {
    /// The same in bytes, saturating.
    pub fn bytes(self) -> u64 {
        self.0.saturating_mul(1 << 20)
    }
}

impl DiskMib {
    /// The same in bytes, saturating.
    pub fn bytes(self) -> u64 {
        self.0.saturating_mul(1 << 20)
    }
}

/// Reads a decimal with at most three (or six) fraction digits as an integer of that scale.
fn parse_fixed(text: &str, fraction_digits: usize) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > fraction_digits {
        return None;
    }
    if text.contains('.') && fraction.is_empty() {
        return None;
    }
    let scale = 10u64.pow(u32::try_from(fraction_digits).ok()?);
    let padded = format!("{fraction:0<fraction_digits$}");
    let fraction: u64 = if padded.is_empty() { 0 } else { padded.parse().ok()? };
    whole.parse::<u64>().ok()?.checked_mul(scale)?.checked_add(fraction)
}

/// More fraction digits than anybody needs: a number with fewer is one, only too fine for its unit.
const FINE_DIGITS: usize = 18;

/// True for a number that is too fine for an amount, rather than none.
fn is_too_fine(text: &str) -> bool {
    text.split_once('.').is_some_and(|(whole, fraction)| {
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        is_digits(whole) && is_digits(fraction) && whole.len() <= FINE_DIGITS && fraction.len() <= FINE_DIGITS
    })
}

/// True for a number of bytes in a unit, or with a fraction, that whole mebibytes do not have.
fn is_other_mib(text: &str) -> bool {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    let is_number = !number.is_empty() && (number.bytes().all(|b| b.is_ascii_digit()) || is_too_fine(number));
    let units = ["B", "K", "KB", "kB", "KiB", "Ki", "M", "MB", "MiB", "Mi", "G", "GB", "GiB", "Gi"];
    is_number && (units.contains(&unit) || ["T", "TB", "TiB", "Ti"].contains(&unit))
}

/// Prints an integer of the given scale without trailing zeros.
fn format_fixed(value: u64, fraction_digits: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let scale = 10u64.pow(u32::try_from(fraction_digits).unwrap_or(0));
    let fraction = format!("{:0fraction_digits$}", value % scale);
    match fraction.trim_end_matches('0') {
        "" => write!(f, "{}", value / scale),
        fraction => write!(f, "{}.{fraction}", value / scale),
    }
}

fn parse_mib(text: &str) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..split].parse().ok()?;
    match text[split..].trim() {
        "M" | "MiB" | "Mi" => Some(number),
        "G" | "GiB" | "Gi" => number.checked_mul(1024),
        "T" | "TiB" | "Ti" => number.checked_mul(1024 * 1024),
        _ => None,
    }
}

fn format_mib(value: u64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if value >= 1024 * 1024 && value.is_multiple_of(1024 * 1024) {
        write!(f, "{} TiB", value / (1024 * 1024))
    } else if value >= 1024 && value.is_multiple_of(1024) {
        write!(f, "{} GiB", value / 1024)
    } else {
        write!(f, "{value} MiB")
    }
}

impl fmt::Display for CpuMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_fixed(self.0, 3, f)
    }
}

impl FromStr for CpuMillis {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let millis = match text.strip_suffix('m') {
            // Digits only: a number of the standard library may begin with a plus.
            Some(millis) => parse_fixed(millis, 0),
            None => parse_fixed(text, 3),
        };
        millis.map(Self).ok_or_else(|| {
            UnitError::new(
                text,
                match is_too_fine(text.strip_suffix('m').unwrap_or(text)) {
                    true => "too fine: a thousandth of a core (0.001, or 1m) is the finest amount",
                    false => "not a number of cores (1, 0.5 or 500m)",
                },
            )
        })
    }
}

impl CpuMillis {
    /// The number with its noun.
    pub fn cores(self) -> String {
        format!("{self} core{}", if self == Self(1000) { "" } else { "s" })
    }
}

/// Reads an amount in whole mebibytes; `nonsense` says what a text is not that is no amount at all.
fn read_mib(text: &str, nonsense: &'static str) -> Result<u64, UnitError> {
    let problem = match is_other_mib(text) {
        true => "not a whole number of MiB, GiB or TiB: 1MiB is the finest amount",
        false => nonsense,
    };
    parse_mib(text).ok_or_else(|| UnitError::new(text, problem))
}

impl fmt::Display for MemoryMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_mib(self.0, f)
    }
}

impl FromStr for MemoryMib {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        read_mib(text, "not an amount of memory (512MiB, 4GiB)").map(Self)
    }
}

impl fmt::Display for DiskMib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_mib(self.0, f)
    }
}

impl FromStr for DiskMib {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        read_mib(text, "not an amount of disk (512MiB, 4GiB)").map(Self)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        format_fixed(self.0, 6, f)
    }
}

impl FromStr for Price {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_fixed(text, 6).map(Self).ok_or_else(|| {
            UnitError::new(
                text,
                match is_too_fine(text) {
                    true => "too fine: a millionth of a credit (0.000001) is the finest price",
                    false => "not a price in credits (2, 0.25)",
                },
            )
        })
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1000 {
            write!(f, "{} ms", self.0)
        } else {
            format_fixed(self.0, 3, f)?;
            f.write_str(" s")
        }
    }
}

impl FromStr for Millis {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let unit = match text[split..].trim() {
            "ms" if is_too_fine(&text[..split]) => return Err(UnitError::new(text, TOO_FINE_TIME)),
            "ms" => return text[..split].parse().map(Self).map_err(|_| UnitError::new(text, NO_TIME)),
            "s" => 1,
            "m" | "min" => 60,
            "h" => 3600,
            "d" => 24 * 3600,
            _ => return Err(UnitError::new(text, NO_TIME)),
        };
        let problem = if is_too_fine(&text[..split]) { TOO_FINE_TIME } else { NO_TIME };
        parse_fixed(&text[..split], 3)
            .and_then(|millis| millis.checked_mul(unit))
            .map(Self)
            .ok_or_else(|| UnitError::new(text, problem))
    }
}

const NO_TIME: &str = "not a duration (250ms, 30s, 5m, 2h, 30d)";
const TOO_FINE_TIME: &str =
    "too fine: a duration has at most three decimals, and a millisecond (1ms) is the finest";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_people_write_them() {
        assert_eq!("1".parse(), Ok(CpuMillis(1000)));
        assert_eq!("0.25".parse(), Ok(CpuMillis(250)));
        assert_eq!("250m".parse(), Ok(CpuMillis(250)));
        assert_eq!("64MiB".parse(), Ok(MemoryMib(64)));
        assert_eq!("2 GiB".parse(), Ok(MemoryMib(2048)));
        assert_eq!("0.5".parse(), Ok(Price(500_000)));
        assert_eq!("90s".parse(), Ok(Millis(90_000)));
        assert_eq!("1.5m".parse(), Ok(Millis(90_000)));
        assert_eq!("250ms".parse(), Ok(Millis(250)));
        assert_eq!("30d".parse(), Ok(Millis(30 * 24 * 3_600_000)));
    }

    #[test]
    fn nonsense_and_overflow_are_refused() {
        for text in [
            "",
            ".",
            "1.",
            "-1",
            "1.2345",
            "1,5",
            "99999999999999999999",
            "m",
            "+5m",
            "5.m",
            "18446744073709551615",
        ] {
            assert!(text.parse::<CpuMillis>().is_err(), "{text}");
        }
        for text in ["", "64", "64KiB", "-1MiB", "1.5GiB", "18446744073709551615TiB"] {
            assert!(text.parse::<MemoryMib>().is_err(), "{text}");
        }
        for text in ["", "5", "5 days", "s", "1.2.3s", "99999999999999999999h"] {
            assert!(text.parse::<Millis>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_only_too_fine_is_told_the_finest_amount() {
        let said = |error: UnitError| error.to_string();
        let table = [
            (said("0.0001".parse::<CpuMillis>().unwrap_err()), "is too fine: a thousandth of a core"),
            (said("0.5m".parse::<CpuMillis>().unwrap_err()), "is too fine: a thousandth of a core"),
            (said("many".parse::<CpuMillis>().unwrap_err()), "is not a number of cores"),
            (said("0.0000001".parse::<Price>().unwrap_err()), "is too fine: a millionth of a credit"),
            (said("-1".parse::<Price>().unwrap_err()), "is not a price"),
            (said("1KiB".parse::<MemoryMib>().unwrap_err()), "is not a whole number of MiB"),
            (said("1.5GiB".parse::<DiskMib>().unwrap_err()), "1MiB is the finest amount"),
            (said("5MB".parse::<DiskMib>().unwrap_err()), "is not a whole number of MiB"),
            (said("64".parse::<MemoryMib>().unwrap_err()), "is not an amount of memory"),
            (said("lots".parse::<DiskMib>().unwrap_err()), "is not an amount of disk"),
            (said("0.5ms".parse::<Millis>().unwrap_err()), "is too fine"),
            (said("0.0001s".parse::<Millis>().unwrap_err()), "is too fine"),
            (said("soon".parse::<Millis>().unwrap_err()), "is not a duration"),
        ];
        for (said, expected) in table {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn amounts_print_as_they_are_read() {
        assert_eq!(CpuMillis(1500).to_string(), "1.5");
        assert_eq!(CpuMillis(2000).to_string(), "2");
        assert_eq!(MemoryMib(2048).to_string(), "2 GiB");
        assert_eq!(MemoryMib(1500).to_string(), "1500 MiB");
        assert_eq!(MemoryMib(100 << 20).to_string(), "100 TiB");
        assert_eq!((CpuMillis(1000).cores(), CpuMillis(500).cores()), ("1 core".into(), "0.5 cores".into()));
        assert_eq!(Price(1_250_000).to_string(), "1.25");
        assert_eq!(Millis(90_500).to_string(), "90.5 s");
        assert_eq!(Millis(20).to_string(), "20 ms");
    }

    #[test]
    fn arithmetic_never_wraps() {
        assert_eq!(CpuMillis(1).checked_sub(CpuMillis(2)), None);
        assert_eq!(CpuMillis(u64::MAX).checked_add(CpuMillis(1)), None);
    }
}
