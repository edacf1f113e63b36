//! Looks into RocksDB's write-ahead logs before RocksDB does, for damage that it would take for a torn tail.
//!
//! Called by `RocksEngine::open` only. A process or a machine that dies leaves at most an unfinished last record, and
//! dropping that is right: nobody was told that it is saved. RocksDB finds a wrong checksum in the middle of a log,
//! but it stops *silently* at a length that points past the end of the file or at a header of zeros, even when intact
//! records follow, and those were acknowledged. So: wherever reading would stop, search the rest of the file; an
//! intact record there means that the damage came before it. This file reads; it repairs nothing.
//!
//! It is a suspicion on the safe side. Blocks reach the disk in any order, so when the power fails, the part of the log
//! that was not synced may be left with a hole before an intact record which *nobody* was told is saved. The bytes
//! cannot say which of the two it is, so the directory is refused in both cases. The committer syncs a second after
//! an un-synced batch at the latest ([`crate::committer::MAX_UNSYNCED`]), so this can meet only what was written in
//! the last second or so before a power cut. What a person can do then: copy the directory; bring the disk back
//! from a backup if older records must not be lost; or, if the error's two positions lie in what was written right
//! before the cut, cut the named log off at the byte where it is broken (`truncate -s`), after which the node opens
//! with everything before it. What was acknowledged behind that byte, if it was damage after all, is lost by that,
//! and a node that has promised more than it remembers must not make that choice by itself.
//!
//! The layout (RocksDB `db/log_format.h`), blocks of 32 KiB holding records that never cross a block:
//!
//! ```text
//! | masked CRC-32C of type and payload: u32 LE | payload length: u16 LE | type: u8 | payload |
//! ```

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::EngineError;

const BLOCK_BYTES: usize = 32 * 1024;
const HEADER_BYTES: usize = 7;
/// Types 1 to 4 are fragments of batches, 9 and 10 and 130 describe the log. The others are recycled logs', whose
/// header is longer; log files are never recycled here, so such a type is no intact record.
const KNOWN_TYPES: [u8; 7] = [1, 2, 3, 4, 9, 10, 130];

/// Refuses a directory in which some log is damaged before an intact record.
pub(super) fn check_directory(directory: &Path) -> Result<(), EngineError> {
    for path in log_files(directory)? {
        let reading = |error| EngineError::io(&format!("read {}", path.display()), &error);
        let file = match File::open(&path) {
            // A node that still runs here may have dropped the log meanwhile; opening will say so.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(reading)?,
        };
        if let Some(Damage { at, intact_at }) = find_damage(file).map_err(reading)? {
            return Err(EngineError::damaged(format!(
                "{} is broken at byte {at}, before an intact record at byte {intact_at}",
                path.display()
            )));
        }
    }
    Ok(())
}

/// The write-ahead logs of `directory`, `<number>.log`, oldest first.
pub(super) fn log_files(directory: &Path) -> Result<Vec<std::path::PathBuf>, EngineError> {
    let reading = |error| EngineError::io(&format!("read {}", directory.display()), &error);
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(reading)? {
        let path = entry.map_err(reading)?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        let number =
            path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok());
        if let (true, Some(number)) = (is_log, number) {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files.into_iter().map(|(_, path)| path).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Damage {
    at: u64,
    intact_at: u64,
}

/// The first place where reading `log` stops although an intact record follows. Reads block by block.
fn find_damage(mut log: impl Read) -> io::Result<Option<Damage>> {
    let mut block = Vec::with_capacity(BLOCK_BYTES);
    let mut block_start = 0;
    let mut broken_at = None;
    loop {
        block.clear();
        (&mut log).take(BLOCK_BYTES as u64).read_to_end(&mut block)?;
        if block.is_empty() {
            return Ok(None);
        }
        let intact = match broken_at {
            // Every block begins with a record, so after a broken block one look per block is enough.
            Some(_) => record_at(&block, 0).map(|_| 0),
            None => read_block(&block).and_then(|stop| {
                broken_at = Some(block_start + stop as u64);
                // Where the next record begins cannot be known any more: try everywhere. Stored bytes that look like
                // a record can at worst refuse a torn tail, never let damage pass.
                (stop + 1..block.len()).find(|at| record_at(&block, *at).is_some())
            }),
        };
        if let (Some(at), Some(intact)) = (broken_at, intact) {
            return Ok(Some(Damage { at, intact_at: block_start + intact as u64 }));
        }
        block_start += block.len() as u64;
    }
}

/// Reads the records of a block; where it had to stop, if not at the block's end.
fn read_block(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while block.len() - at >= HEADER_BYTES {
        let Some(length) = record_at(block, at) else { return Some(at) };
        at += length;
    }
    // Fewer bytes than a header: padding at the end of a whole block, a torn header at the end of the file. Nothing
    // fits behind either in this block, but blocks may follow; whole blocks are followed rightly.
    None
}

/// How many bytes the intact record at `at` takes, if there is one.
fn record_at(block: &[u8], at: usize) -> Option<usize> {
    let (header, rest) = block.get(at..)?.split_at_checked(HEADER_BYTES)?;
    let stored_crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let kind = header[6];
    let payload = rest.get(..length)?;
    let is_intact = KNOWN_TYPES.contains(&kind) && masked_crc(kind, payload) == stored_crc;
    is_intact.then_some(HEADER_BYTES + length)
}

fn masked_crc(kind: u8, payload: &[u8]) -> u32 {
    let crc = !payload.iter().fold(crc_step(u32::MAX, kind), |crc, byte| crc_step(crc, *byte));
    // Stored rotated and shifted, so that the checksum of bytes which hold checksums stays a good one.
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

const fn crc_step(crc: u32, byte: u8) -> u32 {
    CRC_TABLE[((crc ^ byte as u32) & 0xff) as usize] ^ (crc >> 8)
}

/// CRC-32C (Castagnoli), byte by byte. The workspace has no crate for this polynomial, and a log has 32 MiB at most.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = masked_crc(kind, payload).to_le_bytes().to_vec();
        bytes.extend(u16::try_from(payload.len()).expect("small").to_le_bytes());
        bytes.push(kind);
        bytes.extend(payload);
        bytes
    }

    /// A full block: one record that leaves `padding` bytes, then the padding.
    fn full_block(padding: usize) -> Vec<u8> {
        let mut bytes = record(1, &vec![b'x'; BLOCK_BYTES - HEADER_BYTES - padding]);
        bytes.resize(BLOCK_BYTES, 0);
        bytes
    }

    fn damage(log: &[u8]) -> Option<(u64, u64)> {
        find_damage(log).expect("a slice reads").map(|Damage { at, intact_at }| (at, intact_at))
    }

    #[test]
    fn crc_is_castagnoli() {
        let crc = !b"123456789".iter().fold(u32::MAX, |crc, byte| crc_step(crc, *byte));
        assert_eq!(crc, 0xe306_9283);
    }

    #[test]
    fn torn_tails_are_no_damage() {
        let whole = [record(1, b"first"), record(1, b"second")].concat();
        for cut in 0..=whole.len() {
            assert_eq!(damage(&whole[..cut]), None, "cut at {cut}");
        }
        // Space set aside and never written, and a record of which only the beginning reached the disk.
        assert_eq!(damage(&[whole.clone(), vec![0; 100_000]].concat()), None);
        assert_eq!(damage(&[&whole[..whole.len() - 3], &[0, 0, 0]].concat()), None);
        // Padding at the end of a block.
        for padding in 0..HEADER_BYTES {
            assert_eq!(damage(&[full_block(padding), record(1, b"next")].concat()), None);
        }
    }

    #[test]
    fn damage_before_an_intact_record_is_found() {
        let (first, second) = (record(1, b"first"), record(1, b"second"));
        let whole = [first.clone(), second].concat();
        for at in 0..first.len() {
            for bit in 0..8 {
                let mut log = whole.clone();
                log[at] ^= 1 << bit;
                assert_eq!(damage(&log), Some((0, first.len() as u64)), "byte {at}, bit {bit}");
            }
        }
        // A hole of zeros, which reading would skip or take for the end.
        let mut holed = whole.clone();
        holed[..first.len()].fill(0);
        assert_eq!(damage(&holed), Some((0, first.len() as u64)));
        // The intact record stands blocks later.
        let mut blocks = [full_block(0), full_block(3), full_block(0)].concat();
        blocks[..2 * BLOCK_BYTES].fill(0);
        assert_eq!(damage(&blocks), Some((0, 2 * BLOCK_BYTES as u64)));
    }
}
