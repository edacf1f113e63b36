//! What it costs to know who may do what.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use dms_actors::clock::SystemClock;
use dms_actors::signed::SignOptions;
use dms_actors::{Did, Keypair, Kind, Policy};
use dms_messages::ability::REQUEST_BIDS;
use dms_messages::{BidRequest, Credentials, DocumentId, Role, Signed, Timestamp, Token};
use dms_node::paths::NODE_PATH;
use dms_node::trust::authority::Authority;
use dms_node::trust::{Gate, Trust};
use dms_storage::books::{Root, TrustBooks};

use crate::report::Figure;

const NETWORK: &str = "bench";
const NOW: Timestamp = Timestamp(1_700_000_000_000);
/// Tokens of a chain.
const DEPTH: u8 = 3;
/// How often each is done.
const DOCUMENTS: u32 = 20_000;
const COLD: u32 = 2_000;
const CACHED: u32 = 1_000_000;

fn key(number: u8) -> Keypair {
    Keypair::from_secret(&[number; 32])
}

fn token(
    from: u8,
    to: u8,
    depth: u8,
    parent: Option<&Signed<Token>>,
    number: u32,
) -> anyhow::Result<Signed<Token>> {
    let token = Token {
        abilities: Role::Member.abilities(),
        topics: None,
        depth,
        parent: parent.map(Signed::content_id),
    };
    let mut id = [0; 16];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let options = SignOptions {
        network: NETWORK.to_owned(),
        audience: Some(key(to).did()),
        issued_at: NOW,
        ttl: Duration::from_secs(24 * 3600),
        id: DocumentId(id),
    };
    Ok(Signed::sign(token, &key(from), options)?)
}

/// A chain from node 1 by way of 2 and 3 to its holder, 4.
fn chain() -> anyhow::Result<(Did, Credentials)> {
    let mut tokens: Vec<Signed<Token>> = Vec::new();
    for number in 1..=DEPTH {
        let next = token(number, number + 1, DEPTH - number, tokens.last(), u32::from(number))?;
        tokens.push(next);
    }
    Ok((key(DEPTH + 1).did(), Credentials::of(&tokens)))
}

/// The authority of a node that trusts node 1 and whom it lets in.
fn authority() -> Authority {
    let root = Root { abilities: Role::Member.abilities(), depth: DEPTH };
    let roots = BTreeMap::from([(key(1).did(), root)]);
    let mut authority = Authority::new(key(9).did(), NETWORK, false, roots);
    authority.take_books(&TrustBooks::default());
    authority
}

fn per_second(count: u32, start: Instant) -> f64 {
    f64::from(count) / start.elapsed().as_secs_f64()
}

/// The group `trust`.
pub(crate) fn measure() -> anyhow::Result<Vec<Figure>> {
    let documents: Vec<Signed<Token>> =
        (0..DOCUMENTS).map(|number| token(1, 2, 0, None, number)).collect::<anyhow::Result<_>>()?;
    let start = Instant::now();
    for document in &documents {
        black_box(Signed::<Token>::verify_offline(document.bytes())?);
    }
    let verified = per_second(DOCUMENTS, start);

    let (holder, credentials) = chain()?;
    let start = Instant::now();
    for _ in 0..COLD {
        let mut authority = authority();
        let errors = authority.show(holder, &credentials, NOW);
        ensure!(errors.is_empty(), "the chain does not hold: {errors:?}");
        ensure!(authority.may(holder, REQUEST_BIDS, None, NOW).is_ok(), "the chain lets nobody in");
    }
    let cold = per_second(COLD, start);

    let mut known = authority();
    known.show(holder, &credentials, NOW);
    let start = Instant::now();
    for _ in 0..CACHED {
        ensure!(black_box(&known).may(holder, REQUEST_BIDS, None, NOW).is_ok(), "it was let in before");
    }
    let cached = per_second(CACHED, start);

    let trust = Trust { peers: [holder].into(), ..Trust::default() };
    let gate = Gate::new(key(9).did(), NETWORK, &trust, SystemClock::shared());
    let (path, kind) = (NODE_PATH.parse()?, Kind::of::<Signed<BidRequest>>());
    let policy: Arc<dyn Policy> = Arc::new(gate);
    let start = Instant::now();
    for _ in 0..CACHED {
        ensure!(black_box(&policy).admit(holder, &path, &kind).is_ok(), "it is trusted by name");
    }
    let frame = start.elapsed().as_nanos() as f64 / f64::from(CACHED);
    Ok(vec![
        Figure::new("documents_verified", verified, "documents/s")
            .bar("value >= 5000", verified >= 5_000.0)
            .means("signed tokens, each decoded and its signature checked, on one core"),
        Figure::new("token_authorise_cold", cold, "chains/s").means(format!(
            "a chain of {DEPTH} tokens that nobody has seen: three signatures, the chain proven, the ability found"
        )),
        Figure::new("token_authorise_cached", cached, "asks/s")
            .bar("value >= 100000", cached >= 100_000.0)
            .means(format!("whether the holder of a chain of {DEPTH} that was shown before may ask for bids")),
        Figure::new("policy_per_frame", frame, "ns")
            .means("what the gate adds to a word on a link: its kind looked up, its sender's ability found"),
    ])
}
