//! Reads bytes that this program wrote and verified before: no walk for canonical form, no copies.
//!
//! [`super::from_canonical`] uses it inside of [`crate::signed::without_verifying`] and nowhere else: it does not see
//! unsorted or duplicate keys or lengths that are not the shortest of a map, so it is not for what a peer sent. It is
//! safe for any bytes all the same: lengths are checked against what is left, the depth is bounded, and what is no
//! value of the type is refused. On what the walker accepts it reads the same values as ciborium; tests hold the two
//! against each other.

use serde::de::{self, DeserializeSeed, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;

use super::{ARRAY, BYTES, CborError, MAP, MAX_DEPTH, NEGATIVE, TEXT, UNSIGNED, read_head, reason};

/// The heads of the simple values, as bytes.
const NULL: u8 = 0xf6;

/// Reads the one value that `bytes` are.
pub(super) fn read<'de, T: de::Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, CborError> {
    let mut reader = Reader { bytes, position: 0, levels: MAX_DEPTH };
    let value = T::deserialize(&mut reader).map_err(|Failed(error)| error)?;
    match bytes.len() - reader.position {
        0 => Ok(value),
        trailing => Err(CborError::Trailing(trailing)),
    }
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

impl de::Error for Failed {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self(CborError::Decode(reason(&text)))
    }
}

struct Reader<'de> {
    bytes: &'de [u8],
    position: usize,
    /// How many arrays and maps may still be opened around each other.
    levels: usize,
}

impl<'de> Reader<'de> {
    #[inline]
    fn head(&mut self) -> Result<(u8, u64), Failed> {
        read_head(self.bytes, &mut self.position).map_err(Failed)
    }

    #[inline]
    fn peek(&self) -> Result<u8, Failed> {
        self.bytes.get(self.position).copied().ok_or(Failed(CborError::Truncated))
    }

    #[inline]
    fn take(&mut self, length: u64) -> Result<&'de [u8], Failed> {
        let rest = &self.bytes[self.position..];
        let taken = usize::try_from(length).ok().and_then(|length| rest.get(..length));
        let taken = taken.ok_or(Failed(CborError::Length(length)))?;
        self.position += taken.len();
        Ok(taken)
    }

    #[inline]
    fn text(&mut self, length: u64) -> Result<&'de str, Failed> {
        std::str::from_utf8(self.take(length)?).map_err(|_| Failed(CborError::Utf8))
    }

    /// Hands the items of an array or map to `visit`, which must take them all.
    fn items<R>(
        &mut self,
        count: u64,
        visit: impl FnOnce(&mut Items<'_, 'de>) -> Result<R, Failed>,
    ) -> Result<R, Failed> {
        self.levels = self.levels.checked_sub(1).ok_or(Failed(CborError::TooDeep))?;
        let mut items = Items { reader: self, left: count };
        let result = visit(&mut items)?;
        if items.left > 0 {
            return Err(Failed(CborError::Decode("more items than expected".to_owned())));
        }
        self.levels += 1;
        Ok(result)
    }

    /// Reads over one item. Items are counted instead of nested, so no depth costs any stack.
    fn skip(&mut self) -> Result<(), Failed> {
        let mut left = 1u64;
        while left > 0 {
            left -= 1;
            let (major, argument) = self.head()?;
            let inner = match major {
                BYTES | TEXT => {
                    self.take(argument)?;
                    0
                }
                ARRAY => argument,
                MAP => argument.checked_mul(2).ok_or(Failed(CborError::Length(argument)))?,
                super::TAG => return Err(Failed(CborError::Tag(argument))),
                _ => 0,
            };
            left = left.checked_add(inner).ok_or(Failed(CborError::Length(argument)))?;
        }
        Ok(())
    }
}

impl<'de> de::Deserializer<'de> for &mut Reader<'de> {
    type Error = Failed;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        let (major, argument) = self.head()?;
        match major {
            UNSIGNED => visitor.visit_u64(argument),
            NEGATIVE => match i64::try_from(argument) {
                Ok(argument) => visitor.visit_i64(-1 - argument),
                Err(_) => visitor.visit_i128(-1 - i128::from(argument)),
            },
            BYTES => visitor.visit_borrowed_bytes(self.take(argument)?),
            TEXT => visitor.visit_borrowed_str(self.text(argument)?),
            ARRAY => self.items(argument, |items| visitor.visit_seq(items)),
            MAP => self.items(argument, |items| visitor.visit_map(items)),
            super::TAG => Err(Failed(CborError::Tag(argument))),
            // `read_head` lets false, true and null pass.
            _ if argument == 22 => visitor.visit_none(),
            _ => visitor.visit_bool(argument == 21),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        if self.peek()? == NULL {
            self.position += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        if self.peek()? != NULL {
            return self.deserialize_any(visitor);
        }
        self.position += 1;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failed> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        match self.head()? {
            (TEXT, length) => {
                let variant: de::value::BorrowedStrDeserializer<'de, Failed> =
                    de::value::BorrowedStrDeserializer::new(self.text(length)?);
                visitor.visit_enum(variant)
            }
            (MAP, 1) => self.items(1, |items| {
                items.left = 0;
                visitor.visit_enum(Variant(items.reader))
            }),
            _ => Err(Failed(CborError::Decode(
                "neither a text nor a map of one entry for a variant".to_owned(),
            ))),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failed> {
        self.skip()?;
        visitor.visit_unit()
    }

    fn is_human_readable(&self) -> bool {
        false
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        seq tuple tuple_struct map struct identifier
    }
}

/// What is left of an array (items) or a map (entries).
struct Items<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: u64,
}

impl Items<'_, '_> {
    fn size_hint(&self) -> Option<usize> {
        // Each takes a byte at least: no head makes anybody allocate for more than there is.
        let most = self.reader.bytes.len() - self.reader.position;
        Some(usize::try_from(self.left).map_or(most, |left| left.min(most)))
    }
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Failed;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Items::size_hint(self)
    }
}

impl<'de> de::MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Failed;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failed> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.reader).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failed> {
        seed.deserialize(&mut *self.reader)
    }

    fn size_hint(&self) -> Option<usize> {
        Items::size_hint(self)
    }
}

/// A variant with a value: the one entry of a map.
struct Variant<'a, 'de>(&'a mut Reader<'de>);

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Failed;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Failed> {
        let variant = match self.0.head()? {
            (TEXT, length) => self.0.text(length)?,
            _ => return Err(Failed(CborError::Decode("a variant's name is not a text".to_owned()))),
        };
        Ok((seed.deserialize(IntoDeserializer::<Failed>::into_deserializer(variant))?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Failed;

    fn unit_variant(self) -> Result<(), Failed> {
        Err(Failed(CborError::Decode("a variant without a value has one".to_owned())))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failed> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failed> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failed> {
        de::Deserializer::deserialize_any(self.0, visitor)
    }
}
