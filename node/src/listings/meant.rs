//! The ids that a person means by the beginning of one, as a range of ids: comparing one is comparing bytes, and
//! no id of the books is written out as text for it.
//!
//! Both kinds of ids are texts of one length whose order is that of their bytes (hexadecimal digits; base32), so
//! all that begin alike lie between the beginning filled up with the lowest digits and with the highest.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use dms_messages::{AllocationId, BidId, BidRequestId, ContentId, JobId};

/// An id that people shorten. The order of its values is that of their texts.
pub(crate) trait Shortened: Copy + Ord + fmt::Display + FromStr {
    /// The lowest and the highest there is.
    fn extremes() -> [Self; 2];
}

macro_rules! shortened_uuids {
    ($($id:ident),*) => {$(
        impl Shortened for $id {
            fn extremes() -> [Self; 2] {
                [Self::from_bytes([0; 16]), Self::from_bytes([0xff; 16])]
            }
        }
    )*};
}

shortened_uuids!(AllocationId, BidId, BidRequestId, JobId);

/// Of documents: nobody lists modules or files by their CIDs.
impl Shortened for ContentId {
    fn extremes() -> [Self; 2] {
        let some = Self::of_document(&[]).to_bytes();
        [0, 0xff].map(|byte| {
            let digest = [byte; 32];
            let header = &some[..some.len() - digest.len()];
            Self::from_bytes(&[header, &digest].concat()).expect("a digest of any bytes makes a CID")
        })
    }
}

/// The ids that begin with `text`, in either case; none if no id can. An empty beginning means nothing.
pub(super) fn meant<I: Shortened>(text: &str) -> Option<RangeInclusive<I>> {
    let text = text.to_ascii_lowercase();
    let [low, high] = I::extremes().map(|extreme| filled(&text, extreme));
    let (low, high) = (low?, high?);
    // Else an inverted range would panic in the books' maps.
    (!text.is_empty() && low <= high).then_some(low..=high)
}

/// True if `id` is one of those meant.
pub(super) fn is_in<I: Ord>(range: &Option<RangeInclusive<I>>, id: &I) -> bool {
    range.as_ref().is_some_and(|range| range.contains(id))
}

/// The id that begins with `text` and goes on like `extreme`.
fn filled<I: Shortened>(text: &str, extreme: I) -> Option<I> {
    let whole = format!("{text}{}", extreme.to_string().get(text.len()..)?);
    // Other spellings of ids (braces, other bases) are not ordered like this one.
    whole.parse().ok().filter(|id: &I| id.to_string() == whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_of_any_length_means_exactly_the_ids_that_begin_so() {
        let bids: Vec<BidId> = (0..=255u8).map(|n| BidId::from_random([n; 16])).collect();
        let cids: Vec<ContentId> = (0..=255u8).map(|n| ContentId::of_document(&[n])).collect();
        check(&bids);
        check(&cids);
    }

    #[track_caller]
    fn check<I: Shortened + fmt::Debug>(ids: &[I]) {
        for of in ids.iter().step_by(17) {
            let text = of.to_string();
            for length in 1..=text.len() {
                let beginning = &text[..length];
                for spelling in [beginning.to_owned(), beginning.to_ascii_uppercase()] {
                    let range = meant::<I>(&spelling).unwrap_or_else(|| panic!("{spelling} means nothing"));
                    for id in ids {
                        let begins = id.to_string().starts_with(beginning);
                        assert_eq!(range.contains(id), begins, "{spelling} {id}");
                    }
                }
            }
            let whole = meant::<I>(&text).unwrap();
            assert_eq!((whole.start(), whole.end()), (of, of), "a whole id means itself alone");
        }
    }

    #[test]
    fn what_no_id_begins_with_means_nothing() {
        let cid = ContentId::of_document(b"").to_string();
        let module = ContentId::of_bytes(b"").to_string();
        let uuid = BidId::from_random([7; 16]).to_string();
        let simple = uuid.replace('-', "");
        let longer = [format!("{uuid}0"), format!("{cid}a"), format!("{{{uuid}}}"), "f".repeat(5000)];
        let odd = ["", "g", "-", "0-", "é", "bafyreiz", "z", "m", "0000000g"];
        for text in longer.iter().map(String::as_str).chain(odd).chain([&*simple]) {
            assert_eq!(meant::<BidId>(text), None, "{text}");
            assert_eq!(meant::<ContentId>(text), None, "{text}");
        }
        for text in [&*uuid, "baf8", "f0171"] {
            assert_eq!(meant::<ContentId>(text), None, "{text}");
        }
        assert_eq!(meant::<BidId>(&cid), None);
        assert!(meant::<ContentId>(&module).is_none_or(|range| range.start().to_string() == module));
    }
}
