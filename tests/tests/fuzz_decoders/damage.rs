//! What is done to valid bytes: small changes, pieces of others, and heads of CBOR that lie about what follows.

use bolero::TypeGenerator;
use dms_tests::hostile::head;

/// Most changes to one input: more of them leave nothing that gets past the first check.
const MAX_DAMAGES: usize = 6;
/// Most bytes of an input that is no seed's.
const MAX_NOISE: usize = 200;
/// Longest input that damage makes: more than any bound of a decoder that counts what it is given.
const MAX_LENGTH: usize = 64 * 1024;

/// Arguments of heads that have broken parsers.
const LIES: [u64; 12] =
    [0, 1, 23, 24, 255, 256, 0xffff, 0x1_0000, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// One change. Places are taken modulo the length.
#[derive(Debug, Clone, TypeGenerator)]
pub(super) enum Damage {
    /// One byte becomes another.
    Set(u16, u8),
    /// One bit turns.
    Flip(u16, u8),
    /// Bytes come between.
    Insert(u16, [u8; 4]),
    /// Some are taken away.
    Remove(u16, u8),
    /// A piece comes again somewhere else.
    Copy(u16, u16, u8),
    /// A piece of another seed comes between.
    Splice(u8, u16, u16, u8),
    /// A head of CBOR stands in the place of a byte.
    Head(u16, u8, u8),
    /// One byte is repeated.
    Repeat(u16, u16),
    /// Nothing follows.
    Cut(u16),
}

/// One input, as what is done to a seed.
#[derive(Debug, Clone, TypeGenerator)]
pub(super) struct Attempt {
    seed: u8,
    /// Now and then there is no seed at all.
    how: u8,
    #[generator(Vec::<u8>::produce().with().len(0usize..MAX_NOISE))]
    noise: Vec<u8>,
    #[generator(Vec::<Damage>::produce().with().len(0usize..MAX_DAMAGES))]
    damages: Vec<Damage>,
}

impl Attempt {
    /// The bytes.
    pub(super) fn apply(&self, seeds: &[Vec<u8>]) -> Vec<u8> {
        if self.how < 8 || seeds.is_empty() {
            return self.noise.clone();
        }
        let mut bytes = seeds[usize::from(self.seed) % seeds.len()].clone();
        for damage in &self.damages {
            damage.apply(&mut bytes, seeds);
            bytes.truncate(MAX_LENGTH);
        }
        bytes
    }
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let Some(last) = bytes.len().checked_sub(1) else { return };
        let place = |at: u16| usize::from(at) % (last + 1);
        let piece = |of: &[u8], from: u16, count: u8| {
            let from = usize::from(from) % of.len().max(1);
            of[from..of.len().min(from + usize::from(count))].to_vec()
        };
        match self {
            Self::Set(at, byte) => bytes[place(*at)] = *byte,
            Self::Flip(at, bit) => bytes[place(*at)] ^= 1 << (bit % 8),
            Self::Insert(at, more) => {
                let at = place(*at);
                bytes.splice(at..at, *more);
            }
            Self::Remove(at, count) => {
                let at = place(*at);
                bytes.drain(at..bytes.len().min(at + usize::from(*count)));
            }
            Self::Copy(from, to, count) => {
                let (piece, to) = (piece(bytes, *from, *count), place(*to));
                bytes.splice(to..to, piece);
            }
            Self::Splice(seed, from, to, count) => {
                let (piece, to) =
                    (piece(&seeds[usize::from(*seed) % seeds.len()], *from, *count), place(*to));
                bytes.splice(to..to, piece);
            }
            Self::Head(at, major, lie) => {
                let at = place(*at);
                bytes.splice(at..=at, head(major % 8, LIES[usize::from(*lie) % LIES.len()]));
            }
            Self::Repeat(at, count) => {
                let at = place(*at);
                bytes.splice(at..at, vec![bytes[at]; usize::from(*count)]);
            }
            Self::Cut(at) => bytes.truncate(place(*at)),
        }
    }
}
