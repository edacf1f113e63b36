//! Writes a serde value as deterministic CBOR in one pass, without a tree of it in between.
//!
//! The entries of a map are written as they come and put into order when it ends; most structs of a few
//! fields cost one comparison per field. What a value looks like (a variant is its name, or a map of its
//! name; an option is its value or null) is ciborium's choice, so that ciborium reads it.

use serde::ser::{self, Serialize};

use super::{
    ARRAY, BYTES, CborError, MAP, MAX_DEPTH, NEGATIVE, TEXT, UNSIGNED, read_head, reason, write_head,
};

/// How ciborium's own types say that they are a tag.
const TAG_NAME: &str = "@@TAG@@";
const TAGGED: &str = "@@TAGGED@@";
const UNTAGGED: &str = "@@UNTAGGED@@";

/// Appends the deterministic CBOR of `value`. What is in `out` after an error means nothing.
pub(super) fn write<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), CborError> {
    let mut state = State { out, entries: Vec::new(), scratch: Vec::new() };
    value.serialize(Writer { state: &mut state, levels: MAX_DEPTH }).map_err(|Failed(error)| error)
}

/// One entry of a map, as places in the output.
#[derive(Clone, Copy)]
struct Entry {
    key: usize,
    value: usize,
    end: usize,
}

struct State<'a> {
    out: &'a mut Vec<u8>,
    /// The entries of all maps that are being written, the outermost map's first.
    entries: Vec<Entry>,
    /// Where entries are put into order.
    scratch: Vec<u8>,
}

/// [`CborError`] as an error of serde.
#[derive(Debug)]
struct Failed(CborError);

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Failed {}

impl ser::Error for Failed {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self(CborError::Encode(reason(&text)))
    }
}

struct Writer<'a, 'b> {
    state: &'a mut State<'b>,
    /// How many arrays and maps may still be opened around each other.
    levels: usize,
}

impl<'a, 'b> Writer<'a, 'b> {
    fn integer(self, value: i128) -> Result<(), Failed> {
        let (major, argument, tag) = if value < 0 { (NEGATIVE, -1 - value, 3) } else { (UNSIGNED, value, 2) };
        // Beyond 64 bits CBOR knows tagged byte strings only.
        let argument = u64::try_from(argument).map_err(|_| Failed(CborError::Tag(tag)))?;
        write_head(major, argument, self.state.out);
        Ok(())
    }

    fn text(self, text: &str) {
        write_head(TEXT, text.len() as u64, self.state.out);
        self.state.out.extend_from_slice(text.as_bytes());
    }

    fn open(self, major: u8, length: Option<usize>) -> Result<Container<'a, 'b>, Failed> {
        let levels = self.levels.checked_sub(1).ok_or(Failed(CborError::TooDeep))?;
        let head = self.state.out.len();
        write_head(major, length.unwrap_or(0) as u64, self.state.out);
        Ok(Container {
            major,
            head,
            body: self.state.out.len(),
            claimed: length.unwrap_or(0),
            count: 0,
            first_entry: self.state.entries.len(),
            key: 0,
            value: 0,
            levels,
            is_tag: false,
            state: self.state,
        })
    }

    /// The map of one entry that names a variant; what follows is its value.
    fn open_variant(self, variant: &'static str) -> Result<Self, Failed> {
        let levels = self.levels.checked_sub(1).ok_or(Failed(CborError::TooDeep))?;
        write_head(MAP, 1, self.state.out);
        let inner = Writer { state: self.state, levels };
        write_head(TEXT, variant.len() as u64, inner.state.out);
        inner.state.out.extend_from_slice(variant.as_bytes());
        Ok(inner)
    }
}

/// An array or map that is being written.
struct Container<'a, 'b> {
    state: &'a mut State<'b>,
    major: u8,
    /// Where its head is, and where its items begin.
    head: usize,
    body: usize,
    /// How many items its head says.
    claimed: usize,
    count: usize,
    first_entry: usize,
    /// Where the latest key and its value begin.
    key: usize,
    value: usize,
    levels: usize,
    /// It stands for a tag, which is refused by its number.
    is_tag: bool,
}

impl<'b> Container<'_, 'b> {
    fn writer(&mut self) -> Writer<'_, 'b> {
        Writer { state: self.state, levels: self.levels }
    }

    fn item<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        let start = self.state.out.len();
        value.serialize(self.writer())?;
        if self.is_tag {
            let mut position = start;
            return Err(Failed(match read_head(self.state.out, &mut position) {
                Ok((UNSIGNED, tag)) => CborError::Tag(tag),
                _ => CborError::Encode("expected tag".to_owned()),
            }));
        }
        self.count += 1;
        Ok(())
    }

    fn key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        self.key = self.state.out.len();
        key.serialize(self.writer())?;
        self.value = self.state.out.len();
        Ok(())
    }

    fn entry_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        value.serialize(self.writer())?;
        let end = self.state.out.len();
        self.state.entries.push(Entry { key: self.key, value: self.value, end });
        self.count += 1;
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Failed> {
        self.key = self.state.out.len();
        self.writer().text(name);
        self.value = self.state.out.len();
        self.entry_value(value)
    }

    fn close(self) -> Result<(), Failed> {
        let State { out, entries, scratch } = self.state;
        if self.major == MAP {
            sort(out, &mut entries[self.first_entry..], self.body, scratch)?;
            entries.truncate(self.first_entry);
        }
        if self.count != self.claimed {
            scratch.clear();
            write_head(self.major, self.count as u64, scratch);
            out.splice(self.head..self.body, scratch.drain(..));
        }
        Ok(())
    }
}

/// Puts the entries of a map, which fill `out` from `body` on, into the order of their encoded keys.
fn sort(out: &mut [u8], entries: &mut [Entry], body: usize, scratch: &mut Vec<u8>) -> Result<(), Failed> {
    let key = |entry: &Entry| &out[entry.key..entry.value];
    if entries.windows(2).all(|pair| key(&pair[0]) < key(&pair[1])) {
        return Ok(());
    }
    entries.sort_unstable_by(|a, b| key(a).cmp(key(b)));
    if entries.windows(2).any(|pair| key(&pair[0]) == key(&pair[1])) {
        return Err(Failed(CborError::DuplicateKey));
    }
    scratch.clear();
    for entry in entries.iter() {
        scratch.extend_from_slice(&out[entry.key..entry.end]);
    }
    out[body..].copy_from_slice(scratch);
    Ok(())
}

macro_rules! integers {
    ($($method:ident($type:ty)),+ $(,)?) => {
        $(fn $method(self, value: $type) -> Result<(), Failed> {
            self.integer(i128::from(value))
        })+
    };
}

impl<'a, 'b> ser::Serializer for Writer<'a, 'b> {
    type Ok = ();
    type Error = Failed;
    type SerializeSeq = Container<'a, 'b>;
    type SerializeTuple = Container<'a, 'b>;
    type SerializeTupleStruct = Container<'a, 'b>;
    type SerializeTupleVariant = Container<'a, 'b>;
    type SerializeMap = Container<'a, 'b>;
    type SerializeStruct = Container<'a, 'b>;
    type SerializeStructVariant = Container<'a, 'b>;

    integers! {
        serialize_i8(i8), serialize_i16(i16), serialize_i32(i32), serialize_i64(i64), serialize_i128(i128),
    }

    fn serialize_u8(self, value: u8) -> Result<(), Failed> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Failed> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Failed> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Failed> {
        write_head(UNSIGNED, value, self.state.out);
        Ok(())
    }

    fn serialize_u128(self, value: u128) -> Result<(), Failed> {
        self.serialize_u64(u64::try_from(value).map_err(|_| Failed(CborError::Tag(2)))?)
    }

    fn serialize_bool(self, value: bool) -> Result<(), Failed> {
        self.state.out.push(if value { 0xf5 } else { 0xf4 });
        Ok(())
    }

    fn serialize_f32(self, _: f32) -> Result<(), Failed> {
        Err(Failed(CborError::Float))
    }

    fn serialize_f64(self, _: f64) -> Result<(), Failed> {
        Err(Failed(CborError::Float))
    }

    fn serialize_char(self, value: char) -> Result<(), Failed> {
        self.text(value.encode_utf8(&mut [0; 4]));
        Ok(())
    }

    fn serialize_str(self, text: &str) -> Result<(), Failed> {
        self.text(text);
        Ok(())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Failed> {
        write_head(BYTES, bytes.len() as u64, self.state.out);
        self.state.out.extend_from_slice(bytes);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Failed> {
        self.state.out.push(0xf6);
        Ok(())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failed> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Failed> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failed> {
        self.serialize_none()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Failed> {
        self.text(variant);
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Failed> {
        if (name, variant) == (TAG_NAME, UNTAGGED) {
            return value.serialize(self);
        }
        value.serialize(self.open_variant(variant)?)
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Container<'a, 'b>, Failed> {
        self.open(ARRAY, length)
    }

    fn serialize_tuple(self, length: usize) -> Result<Container<'a, 'b>, Failed> {
        self.open(ARRAY, Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Container<'a, 'b>, Failed> {
        self.open(ARRAY, Some(length))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Container<'a, 'b>, Failed> {
        if (name, variant) == (TAG_NAME, TAGGED) {
            return Ok(Container { is_tag: true, ..self.open(ARRAY, Some(length))? });
        }
        self.open_variant(variant)?.open(ARRAY, Some(length))
    }

    fn serialize_map(self, length: Option<usize>) -> Result<Container<'a, 'b>, Failed> {
        self.open(MAP, length)
    }

    fn serialize_struct(self, _: &'static str, length: usize) -> Result<Container<'a, 'b>, Failed> {
        self.open(MAP, Some(length))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        length: usize,
    ) -> Result<Container<'a, 'b>, Failed> {
        self.open_variant(variant)?.open(MAP, Some(length))
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// The traits of arrays differ in the name of one method only, and so do those of structs.
macro_rules! arrays {
    ($($trait:ident::$method:ident),+ $(,)?) => {
        $(impl ser::$trait for Container<'_, '_> {
            type Ok = ();
            type Error = Failed;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
                self.item(value)
            }

            fn end(self) -> Result<(), Failed> {
                self.close()
            }
        })+
    };
}

arrays! {
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field,
}

macro_rules! structs {
    ($($trait:ident),+ $(,)?) => {
        $(impl ser::$trait for Container<'_, '_> {
            type Ok = ();
            type Error = Failed;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                name: &'static str,
                value: &T,
            ) -> Result<(), Failed> {
                self.field(name, value)
            }

            fn end(self) -> Result<(), Failed> {
                self.close()
            }
        })+
    };
}

structs! { SerializeStruct, SerializeStructVariant }

impl ser::SerializeMap for Container<'_, '_> {
    type Ok = ();
    type Error = Failed;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failed> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failed> {
        self.entry_value(value)
    }

    fn end(self) -> Result<(), Failed> {
        self.close()
    }
}
