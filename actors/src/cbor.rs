//! Deterministic CBOR (RFC 8949 §4.2.1) and the walker that guards it.
//!
//! Everything that is signed, sent or stored is written by [`to_canonical`], so one value has one form
//! and one content identifier. Everything that comes from a peer or a disk passes [`check`] before a CBOR
//! library sees it: the walker needs no recursion and no memory, whatever lengths the input claims.
//!
//! Refused in both directions: floats, indefinite lengths, lengths and integers that are not in shortest
//! form, unsorted or duplicate map keys, simple values other than false, true and null, tags (but for
//! COSE_Sign1 around a document), more than [`MAX_DEPTH`] levels and more than [`MAX_LENGTH`] bytes.

mod reader;
mod writer;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Deepest accepted nesting of arrays and maps: the deepest word of a mesh nests about half of it.
pub const MAX_DEPTH: usize = 16;

/// Longest accepted document or frame body in bytes: small enough to keep hundreds in flight in memory;
/// anything larger travels as a blob.
pub const MAX_LENGTH: usize = 256 * 1024;

/// What most words take, so that writing one allocates once.
const USUAL_LENGTH: usize = 128;

/// The tag of COSE_Sign1 (RFC 9052 §2).
pub(crate) const SIGN1_TAG: u64 = 18;

/// Longest kept text of an error of serde, which may quote what a stranger sent.
const MAX_REASON_LENGTH: usize = 200;

/// Why bytes are not the deterministic CBOR of a value, or a value has none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CborError {
    /// More bytes than accepted.
    #[error("{length} bytes are too many (at most {limit})")]
    TooLong {
        /// How many there are.
        length: usize,
        /// How many are accepted.
        limit: usize,
    },
    /// Arrays and maps are nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The input ends inside an item.
    #[error("the input ends early")]
    Truncated,
    /// A string, array or map claims more than the input has left.
    #[error("a length of {0} exceeds the input")]
    Length(u64),
    /// An indefinite length, or the break that ends one.
    #[error("indefinite length")]
    Indefinite,
    /// An integer, length or tag is not in its shortest form.
    #[error("not in shortest form")]
    NotShortest,
    /// Additional information 28 to 30, which CBOR reserves.
    #[error("reserved additional information {0}")]
    Reserved(u8),
    /// A floating-point number.
    #[error("floats are not used")]
    Float,
    /// A simple value other than false, true and null.
    #[error("simple value {0} is not used")]
    Simple(u8),
    /// A tag other than COSE_Sign1 around a whole document. An integer beyond 64 bits is one, too.
    #[error("tag {0} is not used here")]
    Tag(u64),
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    Utf8,
    /// A map has the same key twice.
    #[error("duplicate map key")]
    DuplicateKey,
    /// The keys of a map are not in the bytewise order of their encodings.
    #[error("unsorted map keys")]
    UnsortedKeys,
    /// Bytes follow after the one item.
    #[error("{0} bytes follow after the end")]
    Trailing(usize),
    /// The value has no CBOR form.
    #[error("cannot be encoded: {0}")]
    Encode(String),
    /// Well-formed, but not a value of the expected type.
    #[error("not a value of the expected type: {0}")]
    Decode(String),
}

/// The deterministic CBOR of `value`.
///
/// ```
/// #[derive(serde::Serialize)]
/// struct Ping { count: u64, at: u8 }
/// let bytes = dms_actors::cbor::to_canonical(&Ping { count: 1, at: 2 })?;
/// assert_eq!(bytes, *b"\xa2\x62at\x02\x65count\x01");
/// # Ok::<(), dms_actors::cbor::CborError>(())
/// ```
pub fn to_canonical<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
    to_canonical_within(value, MAX_LENGTH)
}

/// Like [`to_canonical`], for contents that may be longer than a frame or document.
pub fn to_canonical_within<T: Serialize + ?Sized>(
    value: &T,
    max_length: usize,
) -> Result<Vec<u8>, CborError> {
    let mut bytes = Vec::with_capacity(USUAL_LENGTH);
    writer::write(value, &mut bytes)?;
    // What is written can always be read back.
    check_length(&bytes, max_length)?;
    Ok(bytes)
}

/// Reads the value whose deterministic CBOR `bytes` are. Fields that `T` does not know are skipped,
/// because words grow by added fields.
pub fn from_canonical<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    from_canonical_within(bytes, MAX_LENGTH)
}

/// Like [`from_canonical`], for contents that may be longer than a frame or document.
///
/// Inside of [`crate::signed::without_verifying`] the form is not looked at, only the values are read.
pub fn from_canonical_within<T: DeserializeOwned>(bytes: &[u8], max_length: usize) -> Result<T, CborError> {
    if crate::signed::is_trusting() {
        check_length(bytes, max_length)?;
        return reader::read(bytes);
    }
    walk(bytes, max_length, false)?;
    decode(bytes)
}

/// Refuses `bytes` unless they are one item of deterministic CBOR, bare or tagged as COSE_Sign1, of at
/// most `max_length` bytes. What is inside of a byte string is not looked at.
pub fn check(bytes: &[u8], max_length: usize) -> Result<(), CborError> {
    walk(bytes, max_length, true)
}

/// Decodes bytes that the walker has passed.
pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    let mut rest = bytes;
    // Room for the levels that ciborium counts and the walker does not: the tag and a unit variant.
    let value = ciborium::de::from_reader_with_recursion_limit(&mut rest, MAX_DEPTH + 2)
        .map_err(|error| CborError::Decode(reason(&error)))?;
    // ciborium skips nothing when a tuple has too many elements or a unit variant has a body. It then
    // consumes less than the one item that the walker saw, so this is where such input is refused.
    if !rest.is_empty() {
        return Err(CborError::Trailing(rest.len()));
    }
    Ok(value)
}

fn reason(error: &impl std::fmt::Display) -> String {
    let mut text = error.to_string();
    if let Some((end, _)) = text.char_indices().nth(MAX_REASON_LENGTH) {
        text.truncate(end);
    }
    text
}

fn check_length(bytes: &[u8], limit: usize) -> Result<(), CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLong { length: bytes.len(), limit });
    }
    Ok(())
}

// Major types (RFC 8949 §3.1).
pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;
pub(crate) const TAG: u8 = 6;

pub(crate) fn write_head(major: u8, argument: u64, out: &mut Vec<u8>) {
    let major = major << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..=23 => out.push(major | bytes[7]),
        24..=0xff => out.extend_from_slice(&[major | 24, bytes[7]]),
        0x100..=0xffff => {
            out.push(major | 25);
            out.extend_from_slice(&bytes[6..]);
        }
        0x1_0000..=0xffff_ffff => {
            out.push(major | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(major | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// An array or map that the walker is in.
#[derive(Clone, Copy, Default)]
struct Container {
    /// Where it starts: it may be a key itself.
    start: usize,
    /// Items still to come; a map has two for each entry.
    remaining: u64,
    is_map: bool,
    /// First byte and end of the latest key.
    key: Option<(usize, usize)>,
}

impl Container {
    /// Takes note of one finished item, which begins at `start` and ends at `end`.
    fn finish_item(&mut self, bytes: &[u8], start: usize, end: usize) -> Result<(), CborError> {
        if self.is_map && self.remaining.is_multiple_of(2) {
            if let Some((previous, previous_end)) = self.key {
                match bytes[previous..previous_end].cmp(&bytes[start..end]) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Err(CborError::DuplicateKey),
                    std::cmp::Ordering::Greater => return Err(CborError::UnsortedKeys),
                }
            }
            self.key = Some((start, end));
        }
        self.remaining -= 1;
        Ok(())
    }
}

/// Walks over one item. The stack is an array of [`MAX_DEPTH`] containers, the time is linear in the
/// input for each level: a byte is compared at most once for each level of keys that it is in.
fn walk(bytes: &[u8], max_length: usize, is_document_allowed: bool) -> Result<(), CborError> {
    check_length(bytes, max_length)?;
    let mut stack = [Container::default(); MAX_DEPTH];
    let mut depth = 0;
    let mut position = 0;
    loop {
        let mut start = position;
        let (major, argument) = read_head(bytes, &mut position)?;
        let left = (bytes.len() - position) as u64;
        match major {
            UNSIGNED | NEGATIVE => {}
            BYTES | TEXT => {
                if argument > left {
                    return Err(CborError::Length(argument));
                }
                let content = position;
                // Lossless: it is not more than what is left of a slice.
                position += argument as usize;
                if major == TEXT && std::str::from_utf8(&bytes[content..position]).is_err() {
                    return Err(CborError::Utf8);
                }
            }
            ARRAY | MAP => {
                if depth == MAX_DEPTH {
                    return Err(CborError::TooDeep);
                }
                let is_map = major == MAP;
                let items = if is_map { argument.checked_mul(2) } else { Some(argument) };
                // Each item takes a byte at least.
                let remaining = items.filter(|items| *items <= left).ok_or(CborError::Length(argument))?;
                if remaining > 0 {
                    stack[depth] = Container { start, remaining, is_map, key: None };
                    depth += 1;
                    continue;
                }
            }
            TAG => {
                if is_document_allowed && start == 0 && argument == SIGN1_TAG {
                    continue;
                }
                return Err(CborError::Tag(argument));
            }
            // Simple values: `read_head` passes false, true and null only.
            _ => {}
        }
        // The item is finished, and with it every container of which it is the last item.
        loop {
            let Some(container) = depth.checked_sub(1).map(|top| &mut stack[top]) else {
                return match bytes.len() - position {
                    0 => Ok(()),
                    trailing => Err(CborError::Trailing(trailing)),
                };
            };
            container.finish_item(bytes, start, position)?;
            if container.remaining > 0 {
                break;
            }
            start = container.start;
            depth -= 1;
        }
    }
}

/// Reads the head of an item: its major type and its argument.
#[inline]
pub(crate) fn read_head(bytes: &[u8], position: &mut usize) -> Result<(u8, u64), CborError> {
    let first = *bytes.get(*position).ok_or(CborError::Truncated)?;
    *position += 1;
    let (major, info) = (first >> 5, first & 0x1f);
    if major > TAG {
        return match info {
            20..=22 => Ok((major, u64::from(info))),
            24 => Err(CborError::Simple(*bytes.get(*position).ok_or(CborError::Truncated)?)),
            25..=27 => Err(CborError::Float),
            28..=30 => Err(CborError::Reserved(info)),
            31 => Err(CborError::Indefinite),
            _ => Err(CborError::Simple(info)),
        };
    }
    let width = match info {
        0..=23 => return Ok((major, u64::from(info))),
        24..=27 => 1 << (info - 24),
        31 if matches!(major, BYTES | TEXT | ARRAY | MAP) => return Err(CborError::Indefinite),
        _ => return Err(CborError::Reserved(info)),
    };
    let argument = bytes.get(*position..*position + width).ok_or(CborError::Truncated)?;
    let argument = argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
    *position += width;
    let smallest = match info {
        24 => 24,
        25 => 1 << 8,
        26 => 1 << 16,
        _ => 1 << 32,
    };
    if argument < smallest {
        return Err(CborError::NotShortest);
    }
    Ok((major, argument))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ciborium::Value;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Shape {
        Point,
        Circle(u32),
        Line(i8, i8),
        Box { width: u64, depth: Option<u16> },
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Inner {
        text: String,
        flag: bool,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Everything {
        zebra: u64,
        aa: i64,
        b: Option<Inner>,
        none: Option<Inner>,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
        list: Vec<u16>,
        shapes: Vec<Shape>,
        map: BTreeMap<String, i32>,
        numbers: BTreeMap<i64, bool>,
        unit: (),
        letter: char,
        pair: (u8, String),
    }

    fn everything() -> Everything {
        Everything {
            zebra: u64::MAX,
            aa: i64::MIN,
            b: Some(Inner { text: "\u{fc}\u{1f980}".into(), flag: true }),
            none: None,
            bytes: vec![0xff; 5000],
            list: vec![0, 23, 24, 255, 256, u16::MAX],
            shapes: vec![
                Shape::Point,
                Shape::Circle(u32::MAX),
                Shape::Line(-1, -128),
                Shape::Box { width: 1 << 32, depth: None },
                Shape::Box { width: 0, depth: Some(1) },
            ],
            map: [("b".into(), 1), ("aa".into(), -2), ("".into(), 3)].into(),
            numbers: [(-1, true), (0, false), (1000, true), (-1000, false), (23, true)].into(),
            unit: (),
            letter: 'x',
            pair: (7, "y".repeat(5000)),
        }
    }

    #[test]
    fn every_sort_of_value_comes_back_and_passes_the_walker() {
        let value = everything();
        let bytes = to_canonical(&value).unwrap();
        assert_eq!(check(&bytes, MAX_LENGTH), Ok(()));
        assert_eq!(from_canonical::<Everything>(&bytes).unwrap(), value);
        assert_eq!(to_canonical(&from_canonical::<Everything>(&bytes).unwrap()).unwrap(), bytes);
    }

    /// Reads as a store reads what it wrote.
    fn trusted<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
        crate::signed::without_verifying(|| from_canonical(bytes))
    }

    #[test]
    fn the_trusting_reader_reads_the_same_values() {
        let value = everything();
        let bytes = to_canonical(&value).unwrap();
        assert_eq!(trusted::<Everything>(&bytes).unwrap(), value);
        for number in [i128::from(u64::MAX), 0, -1, i128::from(i64::MIN), -1 - i128::from(u64::MAX)] {
            assert_eq!(trusted::<i128>(&to_canonical(&number).unwrap()), Ok(number));
        }
        let newer = b"\xa3\x63new\xa1\x01\x82\x02\x03\x64flag\xf5\x64text\x61x";
        assert_eq!(trusted::<Inner>(newer), Ok(Inner { text: "x".into(), flag: true }));
        assert_eq!(trusted::<()>(b"\xf6"), Ok(()));
        assert_eq!(trusted::<Option<bool>>(b"\xf6"), Ok(None));
        assert!(crate::signed::without_verifying(|| from_canonical_within::<u8>(b"\x01", 0)).is_err());
    }

    #[test]
    fn the_trusting_reader_refuses_what_is_no_value_of_the_type() {
        let bodies: [&[u8]; 8] = [
            b"\xa1\x65Point\x01",
            b"\xa1\x64Line\x83\x01\x02\x03",
            b"\x65Klein",
            b"\xa0",
            b"\xa2\x65Point\x01\x64Line\x01",
            b"\x01",
            b"\x65Point\x01",
            b"\xd2\x65Point",
        ];
        for bytes in bodies {
            assert!(trusted::<Shape>(bytes).is_err(), "{bytes:02x?}");
        }
        let more = |bytes: &[u8]| trusted::<(u8, u8)>(bytes).is_err();
        assert!(
            more(b"\x83\x01\x02\x03") && more(b"\x81\x01") && more(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff")
        );
        assert!(trusted::<u8>(b"\x19\x01\x00").is_err());
        assert_eq!(trusted::<Value>(&nested(MAX_DEPTH + 1)), Err(CborError::TooDeep));
        assert_eq!(trusted::<Value>(&nested(10_000)), Err(CborError::TooDeep));
        // Skipped, however deep: a field that a newer program added.
        let deep = [b"\xa3\x64deep".as_slice(), &nested(10_000), b"\x64flag\xf5\x64text\x61x"].concat();
        assert!(trusted::<Inner>(&deep).is_ok());
        let endless = b"\xa3\x64deep\x9b\xff\xff\xff\xff\xff\xff\xff\xff";
        assert!(trusted::<Inner>(endless).is_err());
    }

    /// What `to_canonical` must equal: the value as a tree, written by plain recursion.
    fn oracle<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CborError> {
        let value = Value::serialized(value).map_err(|error| CborError::Encode(reason(&error)))?;
        let mut bytes = Vec::new();
        write(&value, MAX_DEPTH, &mut bytes)?;
        check_length(&bytes, MAX_LENGTH)?;
        Ok(bytes)
    }

    fn write(value: &Value, levels: usize, out: &mut Vec<u8>) -> Result<(), CborError> {
        match value {
            Value::Integer(integer) => {
                let integer = i128::from(*integer);
                let (major, argument) =
                    if integer < 0 { (NEGATIVE, -1 - integer) } else { (UNSIGNED, integer) };
                let argument = u64::try_from(argument)
                    .map_err(|_| CborError::Encode("an integer beyond 64 bits".to_owned()))?;
                write_head(major, argument, out);
            }
            Value::Bytes(bytes) => {
                write_head(BYTES, bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            Value::Text(text) => {
                write_head(TEXT, text.len() as u64, out);
                out.extend_from_slice(text.as_bytes());
            }
            Value::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
            Value::Null => out.push(0xf6),
            Value::Array(items) => {
                let levels = levels.checked_sub(1).ok_or(CborError::TooDeep)?;
                write_head(ARRAY, items.len() as u64, out);
                for item in items {
                    write(item, levels, out)?;
                }
            }
            Value::Map(entries) => {
                let levels = levels.checked_sub(1).ok_or(CborError::TooDeep)?;
                let mut sorted = Vec::with_capacity(entries.len());
                for (key, value) in entries {
                    let mut encoded = Vec::new();
                    write(key, levels, &mut encoded)?;
                    sorted.push((encoded, value));
                }
                sorted.sort_unstable_by(|a, b| a.0.cmp(&b.0));
                if sorted.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err(CborError::DuplicateKey);
                }
                write_head(MAP, entries.len() as u64, out);
                for (key, value) in sorted {
                    out.extend_from_slice(&key);
                    write(value, levels, out)?;
                }
            }
            Value::Float(_) => return Err(CborError::Float),
            Value::Tag(tag, _) => return Err(CborError::Tag(*tag)),
            _ => return Err(CborError::Encode("an unknown sort of item".to_owned())),
        }
        Ok(())
    }

    #[test]
    fn every_sort_of_value_is_written_like_the_tree_of_it() {
        #[derive(Serialize)]
        struct Unit;
        #[derive(Serialize)]
        struct Pair(u8, Option<char>);
        /// Says a length that it does not keep, as `skip_serializing_if` in a flattened struct does.
        struct Liar(Option<usize>);
        impl Serialize for Liar {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(self.0)?;
                for n in (0..30u8).rev() {
                    map.serialize_entry(&n, &[n])?;
                }
                map.end()
            }
        }
        /// Refuses to be written.
        struct Mute;
        impl Serialize for Mute {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(serde::ser::Error::custom("m".repeat(2 * MAX_REASON_LENGTH)))
            }
        }
        macro_rules! same {
            ($($value:expr),+ $(,)?) => { $(assert_eq!(to_canonical(&$value), oracle(&$value));)+ };
        }
        same!(
            everything(),
            (Unit, Pair(1, Some('ü')), Pair(2, None), (), Some(Some(3)), true),
            (i8::MIN, i16::MIN, i32::MIN, i64::MIN, u128::from(u64::MAX), -1 - i128::from(u64::MAX)),
            Liar(None),
            Liar(Some(30)),
            Liar(Some(1)),
            Liar(Some(70_000)),
            (1, 1.5),
            u128::MAX,
            i128::MIN,
            ciborium::tag::Required::<u8, 18>(1),
            ciborium::tag::Captured(None, 7u8),
            ciborium::tag::Captured(Some(2), "x"),
            BTreeMap::from([((1, "b"), 2), ((0, "a"), 1)]),
            Shape::Box { width: 1, depth: Some(2) },
        );
        // What the value itself says, cut; the tree puts its own words around it.
        assert_eq!(to_canonical(&vec![Mute]), Err(CborError::Encode("m".repeat(MAX_REASON_LENGTH))));
        assert!(matches!(oracle(&vec![Mute]), Err(CborError::Encode(_))));
    }

    #[test]
    fn heads_are_the_shortest() {
        let table: &[(i128, &[u8])] = &[
            (0, b"\x00"),
            (23, b"\x17"),
            (24, b"\x18\x18"),
            (255, b"\x18\xff"),
            (256, b"\x19\x01\x00"),
            (65_535, b"\x19\xff\xff"),
            (65_536, b"\x1a\x00\x01\x00\x00"),
            (0xffff_ffff, b"\x1a\xff\xff\xff\xff"),
            (0x1_0000_0000, b"\x1b\x00\x00\x00\x01\x00\x00\x00\x00"),
            (u64::MAX as i128, b"\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
            (-1, b"\x20"),
            (-24, b"\x37"),
            (-25, b"\x38\x18"),
            (i64::MIN as i128, b"\x3b\x7f\xff\xff\xff\xff\xff\xff\xff"),
            (-1 - u64::MAX as i128, b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff"),
        ];
        for (number, bytes) in table {
            assert_eq!(to_canonical(number).unwrap(), *bytes, "{number}");
            assert_eq!(from_canonical::<i128>(bytes).unwrap(), *number);
        }
    }

    #[test]
    fn keys_are_sorted_by_their_encoding() {
        // Shorter texts first, and numbers before texts, negative ones after positive ones.
        #[derive(Serialize)]
        struct Unsorted {
            bb: u8,
            c: u8,
            aaa: u8,
        }
        let bytes = to_canonical(&Unsorted { bb: 1, c: 2, aaa: 3 }).unwrap();
        assert_eq!(bytes, b"\xa3\x61c\x02\x62bb\x01\x63aaa\x03");
        let numbers: BTreeMap<i16, ()> = [(-1, ()), (100, ()), (10, ())].into();
        assert_eq!(to_canonical(&numbers).unwrap(), b"\xa3\x0a\xf6\x18\x64\xf6\x20\xf6");
    }

    #[test]
    fn what_has_no_deterministic_form_is_not_written() {
        let twice = Value::Map(vec![(1.into(), 1.into()), (1.into(), 2.into())]);
        assert_eq!(to_canonical(&twice), Err(CborError::DuplicateKey));
        assert_eq!(to_canonical(&1.5f32), Err(CborError::Float));
        assert_eq!(to_canonical(&vec![1.0f64]), Err(CborError::Float));
        assert_eq!(to_canonical(&u128::MAX), Err(CborError::Tag(2)));
        assert_eq!(to_canonical(&i128::MIN), Err(CborError::Tag(3)));
        let long = serde_bytes::Bytes::new(&[0; MAX_LENGTH]);
        assert_eq!(to_canonical(long), Err(CborError::TooLong { length: MAX_LENGTH + 5, limit: MAX_LENGTH }));
        let nested = |levels| (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        assert!(to_canonical(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(to_canonical(&nested(MAX_DEPTH + 1)), Err(CborError::TooDeep));
    }

    /// Heads of arrays around a null.
    fn nested(levels: usize) -> Vec<u8> {
        [vec![0x81; levels], vec![0xf6]].concat()
    }

    #[test]
    fn hostile_input_is_refused_by_name() {
        let table: &[(&[u8], CborError)] = &[
            (b"", CborError::Truncated),
            (b"\x18", CborError::Truncated),
            (b"\x1b\x01\x02", CborError::Truncated),
            (b"\x82\x81\x01", CborError::Truncated),
            (b"\xa1\x61a", CborError::Truncated),
            (b"\xa1\x61", CborError::Length(1)),
            (b"\xa1\x0a\x82\x01", CborError::Length(2)),
            (b"\x42a", CborError::Length(2)),
            (b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff", CborError::Length(u64::MAX)),
            (b"\x7b\x7f\xff\xff\xff\xff\xff\xff\xff", CborError::Length(u64::MAX >> 1)),
            (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", CborError::Length(u64::MAX)),
            (b"\xbb\x80\x00\x00\x00\x00\x00\x00\x00", CborError::Length(1 << 63)),
            (b"\xbb\x80\x00\x00\x00\x00\x00\x00\x01aaaa", CborError::Length((1 << 63) + 1)),
            (b"\x9f\xff", CborError::Indefinite),
            (b"\xbf\xff", CborError::Indefinite),
            (b"\x5f\x41a\xff", CborError::Indefinite),
            (b"\x7f\x61a\xff", CborError::Indefinite),
            (b"\xff", CborError::Indefinite),
            (b"\x81\xff", CborError::Indefinite),
            (b"\x18\x17", CborError::NotShortest),
            (b"\x38\x00", CborError::NotShortest),
            (b"\x19\x00\xff", CborError::NotShortest),
            (b"\x1a\x00\x00\xff\xff", CborError::NotShortest),
            (b"\x1b\x00\x00\x00\x00\xff\xff\xff\xff", CborError::NotShortest),
            (b"\x58\x01a", CborError::NotShortest),
            (b"\x78\x01a", CborError::NotShortest),
            (b"\x98\x01\x01", CborError::NotShortest),
            (b"\xb8\x01\x01\x01", CborError::NotShortest),
            (b"\xd8\x12\x80", CborError::NotShortest),
            (b"\x1c", CborError::Reserved(28)),
            (b"\x5d", CborError::Reserved(29)),
            (b"\xfe", CborError::Reserved(30)),
            (b"\x1f", CborError::Reserved(31)),
            (b"\xdf", CborError::Reserved(31)),
            (b"\xf9\x3c\x00", CborError::Float),
            (b"\xfa\x00\x00\x00\x00", CborError::Float),
            (b"\xfb\x00\x00\x00\x00\x00\x00\x00\x00", CborError::Float),
            (b"\xf7", CborError::Simple(23)),
            (b"\xe0", CborError::Simple(0)),
            (b"\xf8\x20", CborError::Simple(32)),
            (b"\xf8\x14", CborError::Simple(20)),
            (b"\x62\xc3\x28", CborError::Utf8),
            (b"\x61\xed", CborError::Utf8),
            (b"\xa2\x61a\x01\x61a\x02", CborError::DuplicateKey),
            (b"\xa2\x80\x01\x80\x02", CborError::DuplicateKey),
            (b"\xa2\x81\x01\x01\x81\x01\x02", CborError::DuplicateKey),
            (b"\xa2\x61b\x01\x61a\x02", CborError::UnsortedKeys),
            (b"\xa2\x62aa\x01\x61b\x02", CborError::UnsortedKeys),
            (b"\xa2\x20\x01\x00\x02", CborError::UnsortedKeys),
            (b"\x81\xa2\x82\x01\x02\x80\x81\x01\x80", CborError::UnsortedKeys),
            (b"\x01\x01", CborError::Trailing(1)),
            (b"\x80\xf6\xf6", CborError::Trailing(2)),
            (b"\xc2\x41\x01", CborError::Tag(2)),
            (b"\x81\xd2\x80", CborError::Tag(18)),
            (b"\xd2\xd2\x80", CborError::Tag(18)),
            (b"\xd2", CborError::Truncated),
            (b"\xd9\xd9\xf7\x80", CborError::Tag(55_799)),
            (&nested(MAX_DEPTH + 1), CborError::TooDeep),
            (&nested(10_000), CborError::TooDeep),
            (&[0xa1; 10_000], CborError::TooDeep),
            (&[0xd2; 10_000], CborError::Tag(18)),
        ];
        for (bytes, error) in table {
            let start = &bytes[..bytes.len().min(24)];
            assert_eq!(check(bytes, MAX_LENGTH).as_ref(), Err(error), "{start:02x?}");
            assert!(from_canonical::<Value>(bytes).is_err(), "{start:02x?}");
        }
    }

    #[test]
    fn the_limits_themselves_are_accepted() {
        assert_eq!(check(&nested(MAX_DEPTH), MAX_LENGTH), Ok(()));
        assert!(from_canonical::<Value>(&nested(MAX_DEPTH)).is_ok());
        // An empty container is a level, too.
        let empty = [vec![0x81; MAX_DEPTH], vec![0x80]].concat();
        assert_eq!(check(&empty, MAX_LENGTH), Err(CborError::TooDeep));
        let full = [vec![0x5a, 0, 3, 0xff, 0xfb], vec![0; MAX_LENGTH - 5]].concat();
        assert_eq!(check(&full, MAX_LENGTH), Ok(()));
        let error = CborError::TooLong { length: MAX_LENGTH, limit: MAX_LENGTH - 1 };
        assert_eq!(check(&full, MAX_LENGTH - 1), Err(error));
    }

    #[test]
    fn a_tag_makes_no_second_form_of_a_plain_value() {
        assert_eq!(check(b"\xd2\x01", MAX_LENGTH), Ok(()));
        assert_eq!(from_canonical::<u8>(b"\xd2\x01"), Err(CborError::Tag(18)));
    }

    #[test]
    fn well_formed_values_of_another_type_are_refused() {
        // A unit variant with a body, a tuple with too many elements: ciborium alone would accept them.
        let body: [&[u8]; 3] = [b"\xa1\x65Point\x01", b"\xa1\x64Line\x83\x01\x02\x03", b"\x65Klein"];
        for bytes in body {
            assert_eq!(check(bytes, MAX_LENGTH), Ok(()));
            assert!(from_canonical::<Shape>(bytes).is_err(), "{bytes:02x?}");
        }
        assert!(matches!(from_canonical::<(u8, u8)>(b"\x83\x01\x02\x03"), Err(CborError::Trailing(1))));
        assert!(matches!(from_canonical::<u8>(b"\x19\x01\x00"), Err(CborError::Decode(_))));
    }

    #[test]
    fn unknown_fields_are_skipped_and_quoted_input_is_cut() {
        let newer = b"\xa3\x63new\xa1\x01\x82\x02\x03\x64flag\xf5\x64text\x61x";
        assert_eq!(from_canonical::<Inner>(newer), Ok(Inner { text: "x".into(), flag: true }));
        let long = to_canonical(&"\u{fc}".repeat(1500)).unwrap();
        let Err(CborError::Decode(reason)) = from_canonical::<Shape>(&long) else { panic!("accepted") };
        assert_eq!(reason.chars().count(), MAX_REASON_LENGTH);
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<bool>().prop_map(Value::from),
            Just(Value::Null),
            ".{0,30}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
                proptest::collection::vec((inner.clone(), inner), 0..6).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_tree_of_it_gives(value in any_value()) {
            prop_assert_eq!(to_canonical(&value), oracle(&value));
        }

        #[test]
        fn any_bytes_are_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            // What the walker accepts has one form only: writing it again gives the same bytes.
            let read = from_canonical::<Value>(&bytes);
            let again = trusted::<Value>(&bytes);
            if let Ok(value) = read {
                prop_assert_eq!(again.as_ref(), Ok(&value));
                prop_assert_eq!(to_canonical(&value), Ok(bytes));
            }
        }

        #[test]
        fn what_is_written_is_accepted_and_any_cut_of_it_is_not(value in any_value(), cut in any::<u16>()) {
            match to_canonical(&value) {
                Ok(bytes) => {
                    prop_assert_eq!(check(&bytes, MAX_LENGTH), Ok(()));
                    let again: Value = from_canonical(&bytes).unwrap();
                    prop_assert_eq!(to_canonical(&again).unwrap(), &bytes[..]);
                    prop_assert_eq!(trusted::<Value>(&bytes), Ok(again));
                    prop_assert!(trusted::<Value>(&bytes[..usize::from(cut) % bytes.len()]).is_err());
                    prop_assert!(check(&bytes[..usize::from(cut) % bytes.len()], MAX_LENGTH).is_err());
                }
                Err(error) => prop_assert_eq!(error, CborError::DuplicateKey),
            }
        }
    }
}
