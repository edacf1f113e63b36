//! Credentials that a peer shows when a link opens, or with what it gossips: none of them lets anybody do anything.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ciborium::Value;
use dms_actors::Policy;
use dms_actors::clock::SharedClock;
use dms_messages::ability::REQUEST_BIDS;
use dms_messages::*;
use dms_node::trust::authority::Authority;
use dms_node::trust::{Gate, Trust};
use dms_storage::books::Root;
use dms_tests::hostile::surroundings::StillClock;
use dms_tests::hostile::{NETWORK, NOW, Parts, plain, words};

use super::Table;

/// Whom the reader trusts, to any depth.
const ROOT: u8 = 5;
/// Who shows the tokens.
const HOLDER: u8 = 6;

fn key(seed: u8) -> Keypair {
    Keypair::from_secret(&[seed; 32])
}

/// A token to be signed.
#[derive(Clone)]
struct Draft {
    from: u8,
    to: Option<u8>,
    value: Token,
    network: &'static str,
    at: Timestamp,
    hours: u64,
    id: u8,
}

impl Draft {
    /// One that holds, between these two.
    fn new(from: u8, to: u8) -> Self {
        let value = Token { abilities: Role::Member.abilities(), topics: None, depth: 0, parent: None };
        Self { from, to: Some(to), value, network: NETWORK, at: NOW, hours: 24, id: 1 }
    }

    fn after(mut self, parent: &Signed<Token>) -> Self {
        self.value.parent = Some(parent.content_id());
        self
    }

    fn depth(mut self, depth: u8) -> Self {
        self.value.depth = depth;
        self
    }

    fn sign(self) -> Signed<Token> {
        let options = SignOptions {
            network: self.network.to_owned(),
            audience: self.to.map(|to| key(to).did()),
            issued_at: self.at,
            ttl: Duration::from_secs(self.hours * 3600),
            id: DocumentId([self.id; 16]),
        };
        Signed::sign(self.value, &key(self.from), options).unwrap()
    }
}

/// Shows these to somebody who trusts the root: what the holder lacks then, with what was wrong.
fn show(credentials: &[u8]) -> Result<(), String> {
    let shown: Credentials = from_canonical(credentials).map_err(|error| error.to_string())?;
    let root = Root { abilities: Role::Member.abilities(), depth: 3 };
    let given = BTreeMap::from([(key(ROOT).did(), root)]);
    let mut authority = Authority::new(key(1).did(), NETWORK, false, given);
    let errors = authority.show(key(HOLDER).did(), &shown, NOW);
    let missing = authority.may(key(HOLDER).did(), REQUEST_BIDS, None, NOW);
    missing.map_err(|missing| format!("{missing}; {errors:?}"))
}

fn add(table: &mut Table, name: impl Into<String>, tokens: &[&Signed<Token>], reason: &str) {
    let credentials = to_canonical(&Credentials::of(tokens.iter().copied())).unwrap();
    table.refuse(name, credentials, reason, show);
}

fn raw(table: &mut Table, name: impl Into<String>, tokens: &[Vec<u8>], reason: &str) {
    let credentials = plain(&Value::Array(tokens.iter().cloned().map(Value::Bytes).collect()));
    table.refuse(name, credentials, reason, show);
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    let good = Draft::new(ROOT, HOLDER).sign();
    assert_eq!(
        show(&to_canonical(&Credentials::of([&good])).unwrap()),
        Ok(()),
        "or nothing here would mean anything"
    );
    single(table, &good);
    chains(table);
    greetings(table);
}

fn single(table: &mut Table, good: &Signed<Token>) {
    let lacks = "it needs /dms/request/bids";
    add(table, "nothing", &[], lacks);
    add(table, "a token of oneself", &[&Draft::new(HOLDER, HOLDER).sign()], lacks);
    add(table, "a token of a stranger", &[&Draft::new(9, HOLDER).sign()], lacks);
    add(table, "a token for another", &[&Draft::new(ROOT, 7).sign()], lacks);
    add(table, "a token for its issuer", &[&Draft::new(ROOT, ROOT).sign()], lacks);
    add(table, "a token for everybody", &[&Draft { to: None, ..Draft::new(ROOT, HOLDER) }.sign()], lacks);
    let other = Draft { network: "other", ..Draft::new(ROOT, HOLDER) }.sign();
    add(table, "a token of another mesh", &[&other], "Network(");
    let old = Draft { at: Timestamp(NOW.0 - 25 * 3_600_000), ..Draft::new(ROOT, HOLDER) }.sign();
    add(table, "a token that has expired", &[&old], "NotNow(");
    let future = Draft { at: Timestamp(NOW.0 + 3_600_000), ..Draft::new(ROOT, HOLDER) }.sign();
    add(table, "a token from the future", &[&future], "NotNow(");
    for ability in
        ["/dms/provide", "/dms/request/invoke", "/dms/request/bids/x", "/dms/request/bid", "/dm", "/other"]
    {
        let mut draft = Draft::new(ROOT, HOLDER);
        draft.value.abilities = [ability.parse().unwrap()].into();
        add(table, format!("a token for {ability}"), &[&draft.sign()], lacks);
    }
    let mut bound = Draft::new(ROOT, HOLDER);
    bound.value.topics = Some(["bid-request".to_owned()].into());
    add(table, "a token for what is gossiped", &[&bound.sign()], lacks);
    for place in [0, 10, 100, good.bytes().len() - 1] {
        let mut forged = good.bytes().to_vec();
        forged[place] ^= 1;
        raw(table, format!("a token with byte {place} changed"), &[forged], "Malformed(");
    }
    raw(table, "a token that is cut", &[good.bytes()[..100].to_vec()], "Malformed(");
    raw(table, "a token and a byte", &[[good.bytes(), &[0]].concat()], "Malformed(");
    raw(table, "an empty token", &[vec![]], "Malformed(");
    raw(table, "sixteen empty tokens", &vec![vec![]; 16], "Malformed(");
    raw(table, "a kilobyte of zeros", &[vec![0; 1024]], "Malformed(");
    let bid = Parts::of(&words::bid()).seal();
    raw(table, "a bid in the place of a token", &[bid], "Malformed(");
    let empty = Token { abilities: [].into(), ..good.value().clone() };
    raw(table, "a token for nothing", &[Parts::of(&empty).seal()], "Malformed(");
    let mut stolen = Parts::of(good.value());
    stolen.set(1, key(ROOT).did().to_string());
    stolen.set(3, key(HOLDER).did().to_string());
    raw(table, "a token in the root's name", &[stolen.seal()], "Malformed(");
}

fn chains(table: &mut Table) {
    let first = || Draft::new(ROOT, 7).depth(2).sign();
    let second = || Draft::new(7, HOLDER).after(&first());
    let good = [second().sign(), first()];
    assert_eq!(show(&to_canonical(&Credentials::of(&good)).unwrap()), Ok(()));
    add(table, "a chain without its beginning", &[&second().sign()], "Missing(");
    add(table, "a chain without its end", &[&first()], "it needs");
    let thief = Draft { from: 9, ..second() }.sign();
    add(table, "a chain that a stranger goes on with", &[&thief, &first()], "Stranger(");
    let holder = Draft { from: HOLDER, ..second() }.sign();
    add(table, "a chain that its holder goes on with", &[&holder, &first()], "Stranger(");
    let mut wide = second();
    wide.value.abilities = Role::Admin.abilities();
    add(table, "more than was given", &[&wide.sign(), &first()], "Widened(");
    let mut wide = second();
    wide.value.abilities.insert("/dms/admin".parse().unwrap());
    add(table, "something beside what was given", &[&wide.sign(), &first()], "Widened(");
    add(
        table,
        "for longer than was given",
        &[&Draft { hours: 25, ..second() }.sign(), &first()],
        "Outlives(",
    );
    for depth in [2, 3, 7] {
        let deep = second().depth(depth).sign();
        add(table, format!("a depth of {depth} below 2"), &[&deep, &first()], "TooDeep(");
    }
    let closed = Draft::new(ROOT, 7).sign();
    let after = Draft::new(7, HOLDER).after(&closed).sign();
    add(table, "a token after one that lets nobody in", &[&after, &closed], "TooDeep(");
    let other = Draft { network: "other", ..Draft::new(ROOT, 7).depth(2) }.sign();
    let after = Draft::new(7, HOLDER).after(&other).sign();
    add(table, "a beginning in another mesh", &[&after, &other], "Network(");
    let mut bound = Draft::new(ROOT, 7).depth(2);
    bound.value.topics = Some(["bid-request".to_owned()].into());
    let bound = bound.sign();
    add(
        table,
        "topics that are lost on the way",
        &[&Draft::new(7, HOLDER).after(&bound).sign(), &bound],
        "Widened(",
    );
    let nobody = Draft { to: None, ..Draft::new(ROOT, 7).depth(2) }.sign();
    let after = Draft::new(7, HOLDER).after(&nobody).sign();
    add(table, "a beginning that is for nobody", &[&after, &nobody], "Stranger(");
    // Longer than the root is trusted to vouch for.
    let mut chain = vec![Draft::new(ROOT, 20).depth(7).sign()];
    for step in 20..23 {
        let parent = chain.last().unwrap().clone();
        chain.push(Draft::new(step, step + 1).depth(26 - step).after(&parent).sign());
    }
    let parent = chain.last().unwrap().clone();
    chain.push(Draft::new(23, HOLDER).after(&parent).sign());
    add(table, "five tokens where three may follow", &chain.iter().collect::<Vec<_>>(), "it needs");
}

/// What a link's first frame may carry.
fn greetings(table: &mut Table) {
    let introduce = |bytes: &[u8]| {
        let clock: SharedClock = Arc::new(StillClock);
        let gate = Gate::new(key(1).did(), NETWORK, &Trust::default(), clock);
        gate.introduce(key(HOLDER).did(), bytes).map_err(|refusal| format!("{refusal:?}"))
    };
    let list = |count: usize, length: usize| plain(&Value::Array(vec![Value::Bytes(vec![0; length]); count]));
    for (name, greeting, reason) in [
        ("a break", vec![0xff], "indefinite length"),
        ("a number", vec![0x07], "expected type"),
        ("a map", vec![0xa0], "expected type"),
        ("a text", b"\x65token".to_vec(), "expected type"),
        ("a list of numbers", vec![0x81, 0x07], "expected type"),
        ("two lists", vec![0x80, 0x80], "1 bytes follow"),
        ("a list that claims all", b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(), "exceeds the input"),
        (
            "a token that claims all",
            b"\x81\x5b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
            "exceeds the input",
        ),
        ("depth", vec![0x81; 1000], "nested deeper"),
        ("seventeen tokens", list(17, 1), "at most 16 tokens"),
        ("a long token", list(1, 1025), "at most 16 tokens"),
        ("ten thousand tokens", list(10_000, 0), "at most 16 tokens"),
        ("more than a document", vec![0; 300_000], "are too many"),
    ] {
        table.refuse(format!("a greeting with {name}"), greeting, reason, introduce);
    }
}
