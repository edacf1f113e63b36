//! Documents of a wrong form that are rightly signed, and of the right form that are wrongly signed.

use ciborium::Value;
use dms_actors::signed::{MAX_LIFETIME, SKEW};
use dms_actors::wire::DecodeContext;
use dms_messages::{Bid, Keypair, Refused, RefusedReason, Signed, Timestamp, Token};
use dms_tests::hostile::{
    NOW, NOW_SECONDS, Parts, context, envelope, issuer, options_of, plain, reader, sign, words,
};

use super::{Table, judged};

/// The order of the group of Ed25519, least byte first: a lax verifier accepts a scalar that is larger by it.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn add(table: &mut Table, name: impl Into<String>, input: impl Into<Vec<u8>>, reason: impl Into<String>) {
    table.refuse(name, input, reason, |bytes| judged(Signed::<Bid>::verify(bytes, &context())));
}

fn good() -> Parts {
    Parts::of(&words::bid())
}

/// One more document, made of a good one.
fn changed(table: &mut Table, name: &str, reason: &str, change: impl FnOnce(&mut Parts)) {
    let mut parts = good();
    change(&mut parts);
    add(table, name, parts.seal(), reason);
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    assert!(Signed::<Bid>::verify(&good().seal(), &context()).is_ok(), "or nothing here would mean anything");
    envelopes(table);
    algorithms(table);
    headers(table);
    claims(table);
    signatures(table);
    payloads(table);
    readers(table);
    nested(table);
}

fn envelopes(table: &mut Table) {
    let whole = good().seal();
    add(table, "no tag", &whole[1..], "not tagged as COSE_Sign1");
    add(table, "a tag that is not in its shortest form", [&[0xd8, 18], &whole[1..]].concat(), "NotShortest");
    for (tag, name) in
        [(17, "COSE_Mac0"), (16, "COSE_Encrypt0"), (61, "CWT"), (98, "COSE_Sign"), (96, "COSE_Encrypt")]
    {
        let input = plain(&Value::Tag(tag, Box::new(Value::Array(good().items()))));
        add(table, format!("tagged as {name}"), input, format!("Tag({tag})"));
    }
    let cwt = plain(&Value::Tag(61, Box::new(Value::Tag(18, Box::new(Value::Array(good().items()))))));
    add(table, "a CWT around it", cwt, "Tag(61)");
    add(table, "itself twice", [&whole[..], &whole[..]].concat(), format!("Trailing({})", whole.len()));
    add(table, "a byte after it", [&whole[..], &[0]].concat(), "Trailing(1)");
    for cut in [1, 2, 10, whole.len() / 2, whole.len() - 64, whole.len() - 1] {
        add(table, format!("the first {cut} bytes"), &whole[..cut], "Malformed(");
    }
    add(
        table,
        "a map in the place of the array",
        plain(&Value::Tag(18, Box::new(Value::Map(vec![])))),
        "not an array",
    );
    add(
        table,
        "a text in the place of the array",
        plain(&Value::Tag(18, Box::new("x".into()))),
        "not an array",
    );
    for count in [0, 1, 3] {
        add(
            table,
            format!("{count} items"),
            envelope(good().items()[..count].to_vec()),
            "not an array of four",
        );
    }
    let five = [good().items(), vec![Value::Null]].concat();
    add(table, "five items", envelope(five), "not an array of four");
    let item = |at: usize, value: Value| {
        let mut items = good().items();
        items[at] = value;
        envelope(items)
    };
    for (name, value) in [("null", Value::Null), ("a map", Value::Map(vec![])), ("a text", "x".into())] {
        add(
            table,
            format!("protected is {name}"),
            item(0, value.clone()),
            "the protected header is not a byte string",
        );
        add(table, format!("the signature is {name}"), item(3, value), "the signature is not a byte string");
    }
    changed(table, "the payload is detached", "the payload is not a byte string", |p| {
        p.payload = Value::Null
    });
    changed(table, "the payload is a text", "the payload is not a byte string", |p| p.payload = "x".into());
    changed(table, "the payload is a map", "the payload is not a byte string", |p| {
        p.payload = Value::Map(vec![])
    });
    changed(table, "the payload is a list", "the payload is not a byte string", |p| {
        p.payload = Value::Array(vec![1.into()]);
    });
    let unprotected = "the unprotected header is not an empty map";
    for (name, value) in [
        ("null", Value::Null),
        ("bytes", Value::Bytes(vec![0xa0])),
        ("a list", Value::Array(vec![])),
        ("a key id", Value::Map(vec![(4.into(), Value::Bytes(vec![1]))])),
        ("an algorithm", Value::Map(vec![(1.into(), (-7).into())])),
        ("a content type", Value::Map(vec![(3.into(), "dms.token/1".into())])),
        ("claims", Value::Map(vec![(15.into(), Value::Map(vec![]))])),
        ("a counter signature", Value::Map(vec![(7.into(), counter_signatures(3))])),
        ("three thousand counter signatures", Value::Map(vec![(7.into(), counter_signatures(3_000))])),
        ("a chain of certificates", Value::Map(vec![(33.into(), Value::Bytes(vec![0x30]))])),
        ("a private field", Value::Map(vec![("x".into(), 1.into())])),
    ] {
        changed(table, &format!("unprotected: {name}"), unprotected, |p| p.unprotected = value);
    }
    let long = Value::Bytes(vec![0; dms_actors::cbor::MAX_LENGTH]);
    add(table, "longer than a document", item(2, long), "TooLong(");
}

/// Counter signatures within counter signatures, each in the protected header of the next one.
fn counter_signatures(levels: usize) -> Value {
    let leaf = vec![Value::Bytes(vec![]), Value::Map(vec![]), Value::Bytes(vec![1])];
    (0..levels).fold(Value::Array(leaf), |inner, _| {
        let protected = plain(&Value::Map(vec![(7.into(), inner)]));
        Value::Array(vec![Value::Bytes(protected), Value::Map(vec![]), Value::Bytes(vec![1])])
    })
}

fn algorithms(table: &mut Table) {
    for (number, name) in [
        (-7_i64, "ES256"),
        (-35, "ES384"),
        (-36, "ES512"),
        (-37, "PS256"),
        (-257, "RS256"),
        (-47, "ES256K"),
        (-19, "Ed25519 by its newer number"),
        (-53, "Ed448"),
        (1, "A128GCM"),
        (4, "HMAC 256/64"),
        (5, "HMAC 256/256"),
        (0, "none"),
        (8, "the number without its sign"),
        (i64::MIN, "the least number"),
    ] {
        changed(table, &format!("signed, as it says, by {name}"), "Algorithm", |p| {
            p.protected[0].1 = number.into()
        });
    }
    for name in ["EdDSA", "none", "", "-8"] {
        changed(table, &format!("the algorithm {name:?} as text"), "Algorithm", |p| {
            p.protected[0].1 = name.into()
        });
    }
    changed(table, "no algorithm but null", "Algorithm", |p| p.protected[0].1 = Value::Null);
    changed(table, "a list of algorithms", "Algorithm", |p| {
        p.protected[0].1 = Value::Array(vec![(-8).into()])
    });
    let fields = "other fields than 1, 3 and 15";
    changed(table, "no algorithm", fields, |p| drop(p.protected.remove(0)));
    changed(table, "the algorithm twice", "DuplicateKey", |p| p.protected.insert(1, (1.into(), (-7).into())));
}

fn headers(table: &mut Table) {
    let fields = "other fields than 1, 3 and 15";
    changed(table, "no content type", fields, |p| drop(p.protected.remove(1)));
    changed(table, "no claims", fields, |p| p.claims.clear());
    changed(table, "nothing protected", fields, |p| {
        p.protected.clear();
        p.claims.clear();
    });
    let mut empty = good().items();
    empty[0] = Value::Bytes(vec![]);
    add(table, "an empty protected header", envelope(empty), "Truncated");
    for (label, value, name) in [
        (Value::from(2), Value::Array(vec![1.into()]), "critical fields"),
        (4.into(), Value::Bytes(issuer().did().public_key().to_vec()), "the signer's key id"),
        (4.into(), Value::Bytes(reader().public_key().to_vec()), "another's key id"),
        (5.into(), Value::Bytes(vec![1; 12]), "an initialisation vector"),
        (7.into(), counter_signatures(3_000), "counter signatures"),
        (11.into(), counter_signatures(3), "counter signatures of the second kind"),
        (16.into(), "application/cwt".into(), "a type"),
        (33.into(), Value::Bytes(vec![0x30]), "certificates"),
        (35.into(), "http://example.org/key".into(), "a place to fetch the key from"),
    ] {
        changed(table, &format!("protected: {name}"), fields, |p| {
            let claims = Value::Map(std::mem::take(&mut p.claims));
            p.protected.extend([(15.into(), claims), (label, value)]);
            p.protected.sort_by_key(|(label, _)| plain(label));
        });
    }
    changed(table, "protected: a text label", fields, |p| p.protected.push(("x".into(), 1.into())));
    changed(table, "fields out of order", "UnsortedKeys", |p| p.protected.swap(0, 1));
    let mut list = good().items();
    list[0] = Value::Bytes(plain(&Value::Array(vec![1.into(), (-8).into()])));
    add(table, "the protected header is a list", envelope(list), "the protected header is not a map");
    for (content, reason) in [
        (Value::from(60), "the content type is not a text"),
        (Value::Null, "a protected header field is malformed"),
        ("dms.bid".into(), "Structure("),
        ("dms.bid/".into(), "the content type is not a kind"),
        ("dms.bid/01".into(), "the content type is not a kind"),
        ("dms.bid/+1".into(), "the content type is not a kind"),
        ("dms.bid/-1".into(), "the content type is not a kind"),
        ("dms.bid/65536".into(), "the content type is not a kind"),
        ("dms.bid/1/1".into(), "Structure("),
        ("DMS.BID/1".into(), "the content type is not a kind"),
        ("dms bid/1".into(), "Structure("),
        (" dms.bid/1".into(), "Structure("),
        ("/1".into(), "Structure("),
        ("".into(), "Structure("),
        (format!("{}/1", "a".repeat(65)).into(), "the content type is not a kind"),
        ("dms.bid\0/1".into(), "the content type is not a kind"),
    ] {
        let name = format!("the content type {content:?}");
        changed(table, &name, reason, |p| p.protected[1].1 = content);
    }
    for kind in
        ["dms.bid/2", "dms.bid/0", "dms.bid/65535", "dms.token/1", "dms.bids/1", "dms.bi/1", "other/1"]
    {
        changed(table, &format!("of the kind {kind}"), "Kind {", |p| p.protected[1].1 = kind.into());
    }
}

fn claims(table: &mut Table) {
    let missing = "a claim is missing or not known";
    for (at, name) in [(0, "issuer"), (2, "expiry"), (3, "issued-at"), (4, "id")] {
        changed(table, &format!("no {name}"), missing, |p| drop(p.claims.remove(at)));
    }
    changed(table, "no reader", "NoAudience", |p| drop(p.claims.remove(1)));
    changed(table, "no mesh", "private claims", |p| drop(p.claims.pop()));
    changed(table, "a subject", missing, |p| p.set(2, "x"));
    changed(table, "not before a time", missing, |p| p.set(5, NOW_SECONDS));
    changed(table, "a private claim more", "private claims", |p| p.set("dms-new", 1));
    changed(table, "a claim by an unknown number", "Structure(", |p| p.set(8, Value::Map(vec![])));
    changed(table, "a claim by a large number", "Structure(", |p| p.set(i64::MAX, 1));
    changed(table, "claims that are a list", "the claims are not a CWT claims set", |p| {
        p.claims.clear();
        p.protected.push((15.into(), Value::Array(vec![])));
    });
    changed(table, "a claim twice", "DuplicateKey", |p| p.claims.insert(1, (1.into(), "x".into())));
    changed(table, "claims out of order", "UnsortedKeys", |p| p.claims.swap(1, 2));
    for issuer in ["", "alice", "did:web:example.org", "did:key:z", "did:key:z6Mk", "DID:KEY:Z6MK"] {
        changed(table, &format!("issued by {issuer:?}"), "Issuer(", |p| p.set(1, issuer));
    }
    changed(table, "issued by a number", "the claims are not a CWT claims set", |p| p.set(1, 1));
    changed(table, "issued by a weak key", "Issuer(Point)", |p| {
        let weak = [&[0xed, 0x01][..], &[0; 32]].concat();
        p.set(1, format!("did:key:z{}", bs58::encode(weak).into_string()));
    });
    changed(table, "issued by a name of ten thousand letters", "Issuer(TooLong(", |p| {
        p.set(1, "a".repeat(10_000))
    });
    changed(table, "signed by another than its issuer", "Signature", |p| p.signer = [3; 32]);
    changed(table, "issued by the reader, as it says", "Signature", |p| p.set(1, reader().to_string()));
    for audience in ["", "bob", "did:key:z1"] {
        changed(table, &format!("for {audience:?}"), "AudienceDid(", |p| p.set(3, audience));
    }
    changed(table, "for a list of readers", "the claims are not a CWT claims set", |p| {
        p.set(3, Value::Array(vec![reader().to_string().into()]));
    });
    for (name, length) in
        [("an empty id", 0), ("a short id", 15), ("a long id", 17), ("an id of a kilobyte", 1024)]
    {
        changed(table, name, "the id does not have 16 bytes", |p| p.set(7, Value::Bytes(vec![9; length])));
    }
    changed(table, "an id as text", "the claims are not a CWT claims set", |p| p.set(7, "0".repeat(32)));
    for (name, value) in
        [("a number", Value::from(1)), ("null", Value::Null), ("bytes", Value::Bytes(vec![1]))]
    {
        changed(table, &format!("the mesh is {name}"), "private claims", |p| p.set("dms-net", value));
    }
    changed(table, "a mesh without a name", "the name of the mesh is empty or too long", |p| {
        p.set("dms-net", "")
    });
    changed(table, "a mesh with a long name", "the name of the mesh is empty or too long", |p| {
        p.set("dms-net", "n".repeat(65));
    });
    times(table);
}

fn times(table: &mut Table) {
    let range = "a time is out of range";
    changed(table, "issued before 1970", range, |p| p.set(6, -1));
    changed(table, "issued at the beginning of all numbers", range, |p| p.set(6, i64::MIN));
    changed(table, "expires at the end of all numbers", range, |p| p.set(4, i64::MAX));
    changed(table, "expires one second past what is counted", range, |p| {
        p.set(4, (u64::MAX / 1000 + 1) as i64)
    });
    changed(table, "expires beyond the range of a claim", "Structure(", |p| p.set(4, u64::MAX));
    changed(table, "expires in the middle of a second", "Float", |p| p.set(4, 1.5));
    changed(table, "expires never", "Structure(", |p| p.set(4, Value::Null));
    changed(table, "expires on a date in words", "Structure(", |p| p.set(4, "2030-01-01"));
    changed(table, "holds for no time", "Lifetime", |p| p.set(4, NOW_SECONDS));
    changed(table, "ends before it begins", "Lifetime", |p| p.set(4, NOW_SECONDS - 1));
    let longest = MAX_LIFETIME.as_secs() as i64;
    changed(table, "holds for longer than anything may", "Lifetime", |p| p.set(4, NOW_SECONDS + longest + 2));
    changed(table, "holds for a thousand years", "Lifetime", |p| p.set(4, NOW_SECONDS + 31_536_000_000));
}

fn signatures(table: &mut Table) {
    let parts = good();
    let signature = parts.signature();
    let with = |signature: Vec<u8>| {
        let mut items = parts.items();
        items[3] = Value::Bytes(signature);
        envelope(items)
    };
    for length in [0, 1, 32, 63] {
        add(
            table,
            format!("{length} bytes of the signature"),
            with(signature[..length].to_vec()),
            "Signature",
        );
    }
    add(table, "a byte after the signature", with([&signature[..], &[0]].concat()), "Signature");
    add(table, "the signature twice", with([&signature[..], &signature[..]].concat()), "Signature");
    add(table, "a signature of zeros", with(vec![0; 64]), "Signature");
    add(table, "a signature of ones", with(vec![0xff; 64]), "Signature");
    let mut small = vec![0; 64];
    small[0] = 1;
    add(table, "the neutral point and no scalar", with(small), "Signature");
    let halves = [&signature[32..], &signature[..32]].concat();
    add(table, "the halves of the signature exchanged", with(halves), "Signature");
    let backwards: Vec<u8> = signature.iter().rev().copied().collect();
    add(table, "the signature backwards", with(backwards), "Signature");
    for (byte, bit) in [(0, 0), (31, 7), (32, 0), (63, 7), (63, 4)] {
        let mut flipped = signature.clone();
        flipped[byte] ^= 1 << bit;
        add(table, format!("bit {bit} of byte {byte} of the signature turned"), with(flipped), "Signature");
    }
    let mut malleated = signature.clone();
    let mut carry = 0;
    for (byte, addend) in malleated[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(addend) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    add(table, "the scalar larger by the order", with(malleated), "Signature");
    let der = [&[0x30, 0x44, 0x02, 0x20], &signature[..32], &[0x02, 0x20], &signature[32..]].concat();
    add(table, "the signature as DER", with(der), "Signature");
    changed(table, "signed with external data", "Signature", |p| p.external = b"dms".to_vec());
    changed(table, "signed as one of many", "Signature", |p| p.context = "Signature");
    changed(table, "signed as a counter signature", "Signature", |p| p.context = "CounterSignature");
    changed(table, "signed as a code", "Signature", |p| p.context = "MAC0");
    // Of the payload alone, and of what another library might take for the message.
    let payload = good().payload.into_bytes().unwrap();
    add(table, "a signature of the payload alone", with(issuer().sign(&payload).to_vec()), "Signature");
    let header = parts.protected_bytes();
    add(table, "a signature of the header alone", with(issuer().sign(&header).to_vec()), "Signature");
    add(table, "a signature of nothing", with(issuer().sign(b"").to_vec()), "Signature");
    let mut other = good();
    other.set(7, Value::Bytes(vec![10; 16]));
    add(table, "the signature of another document", with(other.signature()), "Signature");
    let mut moved = good().items();
    moved[2] = Value::Bytes(dms_messages::to_canonical(&Bid { score: 1, ..words::bid() }).unwrap());
    add(table, "another payload below the signature", envelope(moved), "Signature");
    let mut dressed = good().items();
    dressed[0] = Value::Bytes(Parts::of(&words::token()).protected_bytes());
    add(table, "another header above the signature", envelope(dressed), "Signature");
}

fn payloads(table: &mut Table) {
    let bid = dms_messages::to_canonical(&words::bid()).unwrap();
    let payload = |bytes: Vec<u8>| Parts::new("dms.bid/1", bytes).seal();
    for (name, bytes, reason) in [
        ("nothing", vec![], "Payload(Truncated)"),
        ("an array", vec![0x80], "Payload(Decode("),
        ("no field", vec![0xa0], "Payload(Decode("),
        ("null", vec![0xf6], "Payload(Decode("),
        ("a value and a byte", [&bid[..], &[0]].concat(), "Payload(Trailing(1))"),
        ("half of a value", bid[..bid.len() / 2].to_vec(), "Payload("),
        ("a tagged value", [&[0xd2], &bid[..]].concat(), "Payload(Tag(18))"),
        ("an endless map", vec![0xbf, 0xff], "Payload(Indefinite)"),
        ("a float", vec![0xf9, 0, 0], "Payload(Float)"),
        ("depth", vec![0x81; 100], "Payload(TooDeep)"),
        ("a length that lies", vec![0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "Payload(Length("),
        ("a value of another word", dms_messages::to_canonical(&words::token()).unwrap(), "Payload(Decode("),
        ("a document", sign(words::bid()).bytes().to_vec(), "Payload(Tag(18))"),
    ] {
        add(table, format!("a payload of {name}"), payload(bytes), reason);
    }
    let Value::Map(entries) = dms_messages::from_canonical(&bid).unwrap() else { panic!("a bid is a map") };
    for at in 0..entries.len() {
        let name = entries[at].0.as_text().unwrap().to_owned();
        let mut fewer = entries.clone();
        fewer.remove(at);
        add(table, format!("a bid without {name}"), payload(plain(&Value::Map(fewer))), "missing field");
        let mut twice = entries.clone();
        twice.insert(at, entries[at].clone());
        add(table, format!("a bid with {name} twice"), payload(plain(&Value::Map(twice))), "DuplicateKey");
        let mut empty = entries.clone();
        empty[at].1 = Value::Null;
        add(
            table,
            format!("a bid whose {name} is null"),
            payload(plain(&Value::Map(empty))),
            "Payload(Decode(",
        );
    }
}

fn readers(table: &mut Table) {
    let document = |change: fn(&mut dms_messages::SignOptions)| {
        let mut options = options_of::<Bid>();
        change(&mut options);
        Signed::sign(words::bid(), &issuer(), options).unwrap().bytes().to_vec()
    };
    let somebody = |options: &mut dms_messages::SignOptions| {
        options.audience = Some(Keypair::from_secret(&[3; 32]).did());
    };
    add(table, "addressed to somebody else", document(somebody), "Audience");
    add(
        table,
        "addressed to its issuer",
        document(|options| options.audience = Some(issuer().did())),
        "Audience",
    );
    for network in ["tes", "tests", "TEST", "main", "test/1", " test"] {
        let options = dms_messages::SignOptions { network: network.to_owned(), ..options_of::<Bid>() };
        let document = Signed::sign(words::bid(), &issuer(), options).unwrap();
        add(table, format!("of the mesh {network:?}"), document.bytes(), "Network");
    }
    let skew = SKEW.as_millis() as u64;
    let past = |ago: u64| {
        let options = dms_messages::SignOptions { issued_at: Timestamp(NOW.0 - ago), ..options_of::<Bid>() };
        Signed::sign(words::bid(), &issuer(), options).unwrap().bytes().to_vec()
    };
    add(table, "expired just beyond the skew", past(60_000 + skew), "Expired");
    add(table, "expired a day ago", past(86_400_000), "Expired");
    add(table, "from the beginning of time", past(NOW.0), "Expired");
    let future = |ahead: u64| {
        let options =
            dms_messages::SignOptions { issued_at: Timestamp(NOW.0 + ahead), ..options_of::<Bid>() };
        Signed::sign(words::bid(), &issuer(), options).unwrap().bytes().to_vec()
    };
    add(table, "issued just beyond the skew", future(skew + 1_000), "NotYetValid");
    add(table, "issued next year", future(365 * 86_400_000), "NotYetValid");
    // What holds for one reader does not for another.
    let document = good().seal();
    let late = DecodeContext { now: Timestamp(u64::MAX), ..context() };
    table.refuse("read at the end of all clocks", document.clone(), "Expired", move |bytes| {
        judged(Signed::<Bid>::verify(bytes, &late))
    });
    let early = DecodeContext { now: Timestamp(0), ..context() };
    table.refuse("read at the beginning of all clocks", document.clone(), "NotYetValid", move |bytes| {
        judged(Signed::<Bid>::verify(bytes, &early))
    });
    table.refuse("read as a word of another kind", document, "Kind {", |bytes| {
        judged(Signed::<Token>::verify(bytes, &context()))
    });
    let refused = Refused { attempt: words::attempt(), reason: RefusedReason::Busy };
    let document = sign(refused).bytes().to_vec();
    table.refuse("kept as a word of another kind", document, "Kind {", |bytes| {
        judged(Signed::<Bid>::verify_offline(bytes))
    });
}

fn nested(table: &mut Table) {
    use dms_messages::Invocation;
    let decode = |bytes: &[u8]| judged(Signed::<Invocation>::verify(bytes, &context()));
    let outer = |contract: Vec<u8>| {
        let entries = vec![
            ("bid".into(), Value::Bytes(words::bid().id.as_bytes().to_vec())),
            ("contract".into(), Value::Bytes(contract)),
        ];
        Parts::new("dms.invocation/1", plain(&Value::Map(entries))).seal()
    };
    let contract = sign(words::contract()).bytes().to_vec();
    assert_eq!(decode(&outer(contract.clone())), Ok(()), "or nothing below would mean anything");
    let mut forged = contract.clone();
    *forged.last_mut().unwrap() ^= 1;
    table.refuse("a forged contract within", outer(forged), "the signature does not hold", decode);
    table.refuse("no contract within", outer(vec![]), "malformed document", decode);
    table.refuse("half of a contract within", outer(contract[..100].to_vec()), "malformed document", decode);
    let bid = sign(words::bid()).bytes().to_vec();
    table.refuse("a bid in the place of the contract", outer(bid), "dms.contract/1 is expected", decode);
    let twice = [&contract[..], &contract[..]].concat();
    table.refuse("two contracts within", outer(twice), "malformed document", decode);
    let itself = outer(outer(contract));
    table.refuse("an order within an order", itself, "dms.contract/1 is expected", decode);
    let first = dms_messages::Contract {
        attempt: dms_messages::AttemptId { number: 0, ..words::attempt() },
        ..words::contract()
    };
    table.refuse("attempt 0 within", outer(Parts::of(&first).seal()), "attempts are counted from 1", decode);
    let other =
        dms_messages::Contract { bid: dms_messages::BidId::from_random([4; 16]), ..words::contract() };
    let other = sign(other).bytes().to_vec();
    table.refuse("a contract for another bid", outer(other), "the contract is for another bid", decode);
}
