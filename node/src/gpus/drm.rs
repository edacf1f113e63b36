//! Graphics cards as Linux shows them: a directory `cardN` each, with a directory `device` of small files.
//!
//! Reads nothing but plain files, each up to a limit, below the directory that it is given. What cannot be read or is
//! not what it should be is as good as not there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{GpuError, MAX_GPUS};
use crate::files::read_text;
use crate::host::plain;

/// Longest file that is read, in bytes: numbers and names.
const MAX_FILE_BYTES: u64 = 256;
/// Most entries that are looked at: each card has one for each of its plugs, too.
const MAX_ENTRIES: usize = 4096;

/// A graphics card.
#[derive(Debug)]
pub(super) struct Card {
    device: PathBuf,
}

impl Card {
    /// The text of a file of the card's; none if there is none, or nothing in it.
    fn text(&self, name: &str) -> Option<String> {
        let path = self.device.join(name);
        // Opening a pipe would wait for whoever writes to it.
        fs::metadata(&path).ok().filter(fs::Metadata::is_file)?;
        let text = plain(&read_text(&path, MAX_FILE_BYTES).ok()?);
        (!text.is_empty()).then_some(text)
    }

    /// A decimal number of the card's.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }

    /// An identifier on the PCI bus, with or without its `0x`.
    fn identifier(&self, name: &str) -> Option<u16> {
        let text = self.text(name)?;
        u16::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
    }

    /// What the card calls itself, or else its vendor and its number.
    pub(super) fn model(&self, vendor: &str) -> String {
        let numbered = || Some(format!("{vendor} {:#06x}", self.identifier("device")?));
        self.text("product_name").or_else(numbered).unwrap_or_else(|| vendor.to_owned())
    }
}

/// The cards of one vendor, in the order of their numbers.
pub(super) fn cards(drm: &Path, vendor: u16) -> Result<Vec<Card>, GpuError> {
    let entries = match fs::read_dir(drm) {
        Ok(entries) => entries,
        // A machine without graphics.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(GpuError(format!("{}: {error}", drm.display()))),
    };
    let mut cards: Vec<(u32, Card)> = entries
        .take(MAX_ENTRIES)
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = number_of(entry.file_name().to_str()?)?;
            Some((number, Card { device: entry.path().join("device") }))
        })
        .filter(|(_, card)| card.identifier("vendor") == Some(vendor))
        .collect();
    cards.sort_by_key(|(number, _)| *number);
    cards.truncate(MAX_GPUS);
    Ok(cards.into_iter().map(|(_, card)| card).collect())
}

/// The number of a card; none for its plugs (`card0-DP-1`) and for other things.
fn number_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("card")?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory with these files.
    pub(in crate::gpus) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn count(files: &[(&str, &str)]) -> usize {
        cards(tree(files).path(), 0x1002).unwrap().len()
    }

    #[test]
    fn only_whole_cards_of_the_vendor_count() {
        let table = [
            ("card0/device/vendor", "0x1002\n", 1),
            ("card0/device/vendor", "1002", 1),
            ("card0/device/vendor", "0x8086\n", 0),
            ("card0-DP-1/device/vendor", "0x1002\n", 0),
            ("renderD128/device/vendor", "0x1002\n", 0),
            ("card/device/vendor", "0x1002\n", 0),
            ("card-1/device/vendor", "0x1002\n", 0),
            ("card+1/device/vendor", "0x1002\n", 0),
            ("card99999999999/device/vendor", "0x1002\n", 0),
            ("card0/device/vendor", "", 0),
            ("card0/device/vendor", "0x", 0),
            ("card0/device/vendor", "0x10020\n", 0),
            ("card0/device/vendor", "-0x1002\n", 0),
            ("card0/vendor", "0x1002\n", 0),
        ];
        for (path, text, expected) in table {
            assert_eq!(count(&[(path, text)]), expected, "{path} {text:?}");
        }
        assert_eq!(cards(Path::new("/does/not/exist"), 0x1002).unwrap().len(), 0);
    }

    #[test]
    fn what_no_driver_shows_is_as_good_as_not_there() {
        let long = "1".repeat(1 << 20);
        let directory = tree(&[
            ("card0/device/vendor", "0x1002"),
            ("card0/device/product_name", "a\x1b[2Jname\u{7}"),
            ("card0/device/mem_info_vram_total", "-5"),
            ("card1/device/vendor", long.as_str()),
            ("card2/device/vendor/is", "a directory"),
            ("card3/device/vendor", "0x1002"),
            ("card3/device/product_name", long.as_str()),
            ("card3/device/mem_info_vram_total", "99999999999999999999999"),
        ]);
        fs::write(directory.path().join("card3/device/device"), [0xff, 0xfe]).unwrap();
        std::os::unix::fs::symlink("card4", directory.path().join("card4")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", directory.path().join("card0/device/device")).unwrap();
        let found = cards(directory.path(), 0x1002).unwrap();
        let told: Vec<_> =
            found.iter().map(|card| (card.model("AMD"), card.number("mem_info_vram_total"))).collect();
        assert_eq!(told, [("a[2Jname".to_owned(), None), ("AMD".to_owned(), None)]);
    }

    #[test]
    fn more_cards_than_can_be_described_are_left_out_from_the_end() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..100 {
            let device = directory.path().join(format!("card{number}/device"));
            fs::create_dir_all(&device).unwrap();
            fs::write(device.join("vendor"), "0x1002").unwrap();
        }
        let found = cards(directory.path(), 0x1002).unwrap();
        assert_eq!(found.len(), MAX_GPUS);
        assert!(found[63].device.ends_with("card63/device"));
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_an_error() {
        let directory = tree(&[("drm", "x")]);
        assert!(cards(&directory.path().join("drm"), 0x1002).is_err());
    }
}
