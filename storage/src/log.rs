//! Keeps the event log: numbered bytes in [`Family::Events`], without gaps.
//!
//! Called by the books, which give every event the next number, and by readers. It knows nothing of what an event
//! says, and it refuses to hand out a log with a hole in it: what follows a hole was decided knowing what is missing.
//!
//! ```text
//! key    sequence: u64, big-endian, so that key order is event order
//! value  | frame version: u8 = 1 | the event's bytes |
//! ```
//!
//! No checksum of its own: RocksDB has one over every record and every block.

use crate::engine::{Batch, Engine, EngineError, ScanRange};
use crate::schema::Family;

/// The only frame version so far; another one is another layout of the bytes behind it.
const FRAME_VERSION: u8 = 1;

/// The event log: functions over an engine; the engine holds the state.
#[derive(Copy, Clone, Debug)]
pub struct EventLog;

impl EventLog {
    /// The number of the last event; `None` if there never was one.
    ///
    /// # Errors
    /// The engine's, and [`EngineError::Damaged`] if the last key is no sequence.
    pub fn last_sequence(engine: &dyn Engine) -> Result<Option<u64>, EngineError> {
        let last = engine.scan_back(Family::Events, ScanRange::all(), 1)?;
        last.first().map(|(key, _)| parse_key(key)).transpose()
    }

    /// The number of the first event still kept; `None` if there never was one.
    ///
    /// # Errors
    /// The engine's, and [`EngineError::Damaged`] if the first key is no sequence.
    pub fn first_sequence(engine: &dyn Engine) -> Result<Option<u64>, EngineError> {
        let first = engine.scan(Family::Events, ScanRange::all(), 1)?;
        first.first().map(|(key, _)| parse_key(key)).transpose()
    }

    /// At most `limit` events, the first of them `from`; empty if `from` is past the end.
    ///
    /// # Errors
    /// The engine's, and [`EngineError::Damaged`] if an event is missing (also if `from` itself is, while later ones
    /// are there) or a frame is none.
    pub fn read(engine: &dyn Engine, from: u64, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError> {
        let mut expected = Some(from);
        engine
            .scan(Family::Events, ScanRange::from(from.to_be_bytes()), limit)?
            .into_iter()
            .map(|(key, frame)| {
                let sequence = parse_key(&key)?;
                if expected != Some(sequence) {
                    return Err(EngineError::damaged(format!(
                        "event {} is missing, the next one is {sequence}",
                        expected.unwrap_or(u64::MAX)
                    )));
                }
                expected = sequence.checked_add(1);
                Ok((sequence, parse_frame(sequence, frame)?))
            })
            .collect()
    }

    /// Reads a row of the log: the event's number and its bytes.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] if the key is no sequence or the frame is none.
    pub fn parse<'a>(key: &[u8], frame: &'a [u8]) -> Result<(u64, &'a [u8]), EngineError> {
        let sequence = parse_key(key)?;
        match frame.split_first() {
            Some((&FRAME_VERSION, event)) => Ok((sequence, event)),
            _ => Err(EngineError::damaged(format!("event {sequence} has no frame that is known"))),
        }
    }

    /// Adds the event `sequence` to `batch`. The caller numbers without gaps; a gap shows when reading.
    pub fn append(batch: &mut Batch, sequence: u64, event: &[u8]) {
        let mut frame = Vec::with_capacity(1 + event.len());
        frame.push(FRAME_VERSION);
        frame.extend_from_slice(event);
        batch.put(Family::Events, sequence.to_be_bytes(), frame);
    }

    /// Adds to `batch` the removal of at most `limit` of the oldest events before `before`; how many.
    ///
    /// Only for events behind a snapshot that is synced. The last event always stays, so that numbering never starts
    /// again. From oldest to newest, so that whatever is done of it leaves no gap.
    ///
    /// # Errors
    /// The engine's, and [`EngineError::Damaged`] if a key is no sequence.
    pub fn cut(
        engine: &dyn Engine,
        batch: &mut Batch,
        before: u64,
        limit: usize,
    ) -> Result<usize, EngineError> {
        let Some(last) = Self::last_sequence(engine)? else { return Ok(0) };
        let Some(first) = Self::first_sequence(engine)? else { return Ok(0) };
        // Numbered without gaps, so the events themselves need not be read.
        let doomed = first..before.min(last);
        let count = doomed.clone().take(limit).map(|n| batch.delete(Family::Events, n.to_be_bytes())).count();
        Ok(count)
    }
}

fn parse_key(key: &[u8]) -> Result<u64, EngineError> {
    let bytes = key
        .try_into()
        .map_err(|_| EngineError::damaged(format!("an event's key is {} bytes long, not 8", key.len())))?;
    match u64::from_be_bytes(bytes) {
        // Numbers begin with 1, and after the last one there is none for the next event.
        sequence @ (0 | u64::MAX) => {
            Err(EngineError::damaged(format!("an event has the number {sequence}, which no event has")))
        }
        sequence => Ok(sequence),
    }
}

fn parse_frame(sequence: u64, mut frame: Vec<u8>) -> Result<Vec<u8>, EngineError> {
    match frame.first() {
        Some(&FRAME_VERSION) => {
            frame.remove(0);
            Ok(frame)
        }
        Some(version) => {
            Err(EngineError::damaged(format!("event {sequence} has the unknown frame version {version}")))
        }
        None => Err(EngineError::damaged(format!("event {sequence} is empty"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Durability;
    use crate::engine::tests::engines;

    fn fill(engine: &dyn Engine, sequences: impl IntoIterator<Item = u64>) {
        let mut batch = Batch::new();
        for sequence in sequences {
            EventLog::append(&mut batch, sequence, &sequence.to_le_bytes()[..1]);
        }
        engine.write(batch, Durability::Synced).expect("writes");
    }

    fn sequences(engine: &dyn Engine, from: u64, limit: usize) -> Result<Vec<u64>, EngineError> {
        EventLog::read(engine, from, limit).map(|events| events.into_iter().map(|(n, _)| n).collect())
    }

    fn is_damaged<T>(result: Result<T, EngineError>) -> bool {
        matches!(result, Err(EngineError::Damaged { .. }))
    }

    #[test]
    fn reads_what_was_appended_in_order_and_in_pages() {
        for engine in engines() {
            assert_eq!(EventLog::last_sequence(&*engine), Ok(None));
            assert_eq!(EventLog::first_sequence(&*engine), Ok(None));
            assert_eq!(EventLog::read(&*engine, 1, 10), Ok(vec![]));
            // Crosses the byte borders where little-endian keys would come out of order.
            fill(&*engine, 1..=300);
            assert_eq!(EventLog::first_sequence(&*engine), Ok(Some(1)));
            assert_eq!(EventLog::last_sequence(&*engine), Ok(Some(300)));
            assert_eq!(EventLog::read(&*engine, 255, 2), Ok(vec![(255, vec![255]), (256, vec![0])]));
            assert_eq!(sequences(&*engine, 1, 1_000), Ok((1..=300).collect()));
            assert_eq!(sequences(&*engine, 301, 10), Ok(vec![]));
            assert_eq!(sequences(&*engine, 1, 0), Ok(vec![]));
        }
    }

    #[test]
    fn numbers_that_no_event_has_are_damage() {
        for engine in engines() {
            fill(&*engine, [u64::MAX - 1]);
            assert_eq!(sequences(&*engine, u64::MAX - 1, 10), Ok(vec![u64::MAX - 1]));
            fill(&*engine, [u64::MAX]);
            assert!(is_damaged(sequences(&*engine, u64::MAX - 1, 10)));
            assert!(is_damaged(EventLog::last_sequence(&*engine)));
        }
        for engine in engines() {
            fill(&*engine, [0, 1]);
            assert!(is_damaged(sequences(&*engine, 0, 10)));
            assert!(is_damaged(EventLog::first_sequence(&*engine)));
            assert_eq!(EventLog::last_sequence(&*engine), Ok(Some(1)));
        }
    }

    #[test]
    fn gaps_and_broken_frames_are_refused() {
        for engine in engines() {
            fill(&*engine, [1, 2, 4]);
            assert_eq!(sequences(&*engine, 1, 2), Ok(vec![1, 2]));
            assert!(is_damaged(sequences(&*engine, 1, 3)), "3 is missing");
            assert!(is_damaged(sequences(&*engine, 3, 1)), "3 was asked for");
            assert_eq!(sequences(&*engine, 4, 9), Ok(vec![4]));
        }
        let broken: [(&[u8], &[u8]); 4] = [
            (&5u64.to_be_bytes(), &[]),
            (&5u64.to_be_bytes(), &[FRAME_VERSION + 1, 7]),
            (&[0, 0, 0, 0, 0, 0, 5], &[FRAME_VERSION]),
            (&[0, 0, 0, 0, 0, 0, 0, 5, 0], &[FRAME_VERSION]),
        ];
        for (key, value) in broken {
            for engine in engines() {
                let mut batch = Batch::new();
                batch.put(Family::Events, key, value);
                engine.write(batch, Durability::Synced).expect("writes");
                assert!(is_damaged(EventLog::read(&*engine, 5, 1)) || key.len() != 8);
                assert!(key.len() == 8 || is_damaged(EventLog::last_sequence(&*engine)));
                assert!(is_damaged(EventLog::read(&*engine, 0, 1)));
            }
        }
    }

    #[test]
    fn cutting_keeps_the_last_event_and_makes_no_gap() {
        for engine in engines() {
            let cut = |before, limit| {
                let mut batch = Batch::new();
                let count = EventLog::cut(&*engine, &mut batch, before, limit).expect("cuts");
                engine.write(batch, Durability::Synced).expect("writes");
                count
            };
            assert_eq!(cut(10, 10), 0);
            fill(&*engine, 1..=10);
            assert_eq!(cut(1, 10), 0);
            assert_eq!(cut(6, 3), 3);
            assert_eq!(EventLog::first_sequence(&*engine), Ok(Some(4)));
            assert_eq!(cut(6, 100), 2);
            assert_eq!(sequences(&*engine, 6, 100), Ok((6..=10).collect()));
            assert!(is_damaged(sequences(&*engine, 5, 100)), "5 is gone, which is not the end of the log");
            assert_eq!(cut(u64::MAX, 100), 4);
            assert_eq!(EventLog::last_sequence(&*engine), Ok(Some(10)));
        }
    }
}
