//! Lists of documents, as the bytes that were signed, bounded when they are read.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_bytes::ByteBuf;

/// At most `COUNT` documents of at most `LENGTH` bytes each.
pub(crate) fn documents<'de, D: Deserializer<'de>, const COUNT: usize, const LENGTH: usize>(
    deserializer: D,
) -> Result<Vec<ByteBuf>, D::Error> {
    let documents = Vec::<ByteBuf>::deserialize(deserializer)?;
    let is_bounded = documents.len() <= COUNT && documents.iter().all(|one| one.len() <= LENGTH);
    let too_much = || D::Error::custom(format!("more than {COUNT} documents, or one of over {LENGTH} bytes"));
    is_bounded.then_some(documents).ok_or_else(too_much)
}
