//! Texts that name nothing: DIDs, peer ids, content identifiers, paths of actors, kinds, ids, abilities, amounts.

use dms_actors::{ActorPath, Address};
use dms_messages::*;
use dms_tests::hostile::issuer;

use super::{Table, judged};

/// A did:key of these bytes.
fn did_of(bytes: &[u8]) -> String {
    format!("did:key:z{}", bs58::encode(bytes).into_string())
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    dids(table);
    peer_ids(table);
    content_ids(table);
    paths(table);
    kinds(table);
    ids(table);
    abilities(table);
    amounts(table);
}

fn dids(table: &mut Table) {
    let read = |text: &str| judged(text.parse::<Did>());
    let good = issuer().did().to_string();
    let key = *issuer().did().public_key();
    let upper = good.to_uppercase();
    let slash = format!("{good}/");
    let fragment = format!("{good}#{}", &good[8..]);
    let space = format!(" {good}");
    let line = format!("{good}\n");
    let zero = format!("{good}\0");
    let twice = format!("{good}{good}");
    let thousand = "did:key:z".to_owned() + &"1".repeat(1_000);
    let million = "z".repeat(1_000_000);
    table.texts(
        "the DID",
        &[
            ("", "Method"),
            ("did", "Method"),
            ("did:", "Method"),
            ("did:key", "Method"),
            ("did:key:", "Method"),
            ("did:key:u7QEg", "Method"),
            ("did:key:f00", "Method"),
            ("did:key:Z6Mk", "Method"),
            ("did:web:example.org", "Method"),
            ("did:peer:2.Ez6LS", "Method"),
            ("did:ion:EiA", "Method"),
            ("DID:key:z6Mk", "Method"),
            ("key:z6Mk", "Method"),
            ("http://example.org", "Method"),
            ("did:key:z", "KeyType"),
            ("did:key:z1", "KeyType"),
            ("did:key:z2", "KeyType"),
            ("did:key:z0OIl", "Base58"),
            ("did:key:z6Mk ", "Base58"),
            ("did:key:z6Mk\u{fc}", "Base58"),
            ("did:key:z6Mk\u{200b}", "Base58"),
            ("did:key:z6Mk+/", "Base58"),
            ("did:key:z\0", "Base58"),
            (&upper, "Method"),
            (&slash, "Base58"),
            (&space, "Method"),
            (&line, "Base58"),
            (&zero, "Base58"),
            (&fragment, "TooLong("),
            (&twice, "TooLong("),
            (&thousand, "TooLong("),
            (&million, "TooLong("),
        ],
        read,
    );
    for (name, prefix) in [
        ("secp256k1", [0xe7, 0x01]),
        ("P-256", [0x80, 0x24]),
        ("X25519", [0xec, 0x01]),
        ("BLS12-381", [0xeb, 0x01]),
        ("RSA", [0x85, 0x24]),
        ("no varint", [0xff, 0xff]),
    ] {
        let text = did_of(&[&prefix[..], &key].concat());
        table.refuse(format!("a DID of {name}"), text, "KeyType", move |bytes| {
            read(std::str::from_utf8(bytes).unwrap())
        });
    }
    for length in [0, 1, 16, 31, 33] {
        let long = [&key[..], &[1]].concat();
        let text = did_of(&[&[0xed, 0x01], &long[..length]].concat());
        let reason = format!("Length({length})");
        table.refuse(format!("a DID of {length} bytes"), text, reason, move |bytes| {
            read(std::str::from_utf8(bytes).unwrap())
        });
    }
    let mut one = [0; 32];
    one[0] = 1;
    let mut order_two = [0xff; 32];
    (order_two[0], order_two[31]) = (0xec, 0x7f);
    let mut negative_one = one;
    negative_one[31] = 0x80;
    let mut no_point = [0; 32];
    no_point[0] = 2;
    let mut beyond = [0xff; 32];
    (beyond[0], beyond[31]) = (0xee, 0x7f);
    let order_eight = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ];
    for (name, point) in [
        ("zeros", [0; 32]),
        ("the neutral point", one),
        ("the neutral point with a sign", negative_one),
        ("a point of order two", order_two),
        ("a point of order eight", order_eight),
        ("the neutral point beyond the field", beyond),
        ("no point of the curve", no_point),
    ] {
        let text = did_of(&[&[0xed, 0x01], &point[..]].concat());
        table.refuse(format!("a DID of {name}"), text, "Point", move |bytes| {
            read(std::str::from_utf8(bytes).unwrap())
        });
    }
}

fn peer_ids(table: &mut Table) {
    let good = issuer().did().peer_id_bytes();
    let add = |table: &mut Table, name: &str, bytes: Vec<u8>, reason: &str| {
        table.refuse(format!("a peer id: {name}"), bytes, reason, |bytes| {
            judged(Did::from_peer_id_bytes(bytes))
        });
    };
    add(table, "nothing", vec![], "PeerId");
    add(table, "zeros", vec![0; 38], "PeerId");
    add(table, "a hash of a key", [&[0x12, 0x20][..], &[7; 32]].concat(), "PeerId");
    add(table, "RSA", [&[0x00, 0x24, 0x08, 0x00, 0x12, 0x20][..], &good[6..]].concat(), "PeerId");
    add(table, "secp256k1", [&[0x00, 0x24, 0x08, 0x02, 0x12, 0x20][..], &good[6..]].concat(), "PeerId");
    add(
        table,
        "a length that lies",
        [&[0x00, 0x24, 0x08, 0x01, 0x12, 0xff][..], &good[6..]].concat(),
        "PeerId",
    );
    add(table, "a key that is cut", good[..37].to_vec(), "Length(31)");
    add(table, "a byte too many", [&good[..], &[0]].concat(), "Length(33)");
    add(table, "a weak key", [&good[..6], &[0; 32]].concat(), "Point");
}

fn content_ids(table: &mut Table) {
    let id = ContentId::of_bytes(b"abc");
    let (good, bytes) = (id.to_string(), id.to_bytes());
    let upper = good.to_uppercase();
    let cut = good[..good.len() - 1].to_owned();
    let longer = format!("{good}a");
    let padded = format!("{good}=");
    let space = format!("{good} ");
    let before = format!("/ipfs/{good}");
    let link = format!("https://example.org/ipfs/{good}");
    let schemed = format!("ipfs://{good}");
    let long = "b".repeat(129);
    let million = "b".repeat(1_000_000);
    table.texts(
        "the content identifier",
        &[
            ("", "Malformed"),
            ("b", "Malformed"),
            ("z", "Malformed"),
            ("bafk", "Malformed"),
            ("not a cid", "Malformed"),
            ("\u{fc}\u{fc}", "Malformed"),
            ("b\0", "Malformed"),
            ("!!!!", "Malformed"),
            ("QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n", "Unsupported"),
            ("Qm", "Malformed"),
            ("Qm11111111111111111111111111111111111111111111", "Malformed"),
            (&upper[1..], "Malformed"),
            (&good[1..], "Malformed"),
            (&cut, "Malformed"),
            (&longer, "Malformed"),
            (&padded, "Malformed"),
            (&space, "Malformed"),
            (&before, "Malformed"),
            (&link, "Malformed"),
            (&schemed, "Malformed"),
            (&long, "Malformed"),
            (&million, "Malformed"),
        ],
        |text| judged(text.parse::<ContentId>()),
    );
    let add = |table: &mut Table, name: &str, bytes: Vec<u8>, reason: &str| {
        table.refuse(format!("a binary identifier: {name}"), bytes, reason, |bytes| {
            judged(ContentId::from_bytes(bytes))
        });
    };
    let digest = &bytes[4..];
    add(table, "nothing", vec![], "Malformed");
    add(table, "version 0", [&[0x12, 0x20][..], digest].concat(), "Unsupported");
    add(table, "version 0 said", [&[0, 0x55, 0x12, 0x20][..], digest].concat(), "Malformed");
    add(table, "version 2", [&[2, 0x55, 0x12, 0x20][..], digest].concat(), "Malformed");
    add(table, "a version without an end", [vec![0xff; 40], digest.to_vec()].concat(), "Malformed");
    add(
        table,
        "a version that is not in its shortest form",
        [&[0x81, 0x00][..], &bytes[1..]].concat(),
        "Malformed",
    );
    for (name, codec) in [("dag-pb", 0x70), ("dag-cbor", 0x71), ("libp2p-key", 0x72), ("dag-json", 0x29)] {
        let codec = if codec == 0x29 { vec![0xa9, 0x02] } else { vec![codec] };
        add(table, name, [&[1][..], &codec, &bytes[2..]].concat(), "Unsupported");
    }
    for (name, hash) in
        [("an identity hash", 0x00), ("SHA-1", 0x11), ("SHA-512", 0x13), ("SHA3-256", 0x16), ("BLAKE3", 0x1e)]
    {
        add(table, name, [&[1, 0x55, hash, 0x20][..], digest].concat(), "Unsupported");
    }
    for length in [0, 1, 20, 31] {
        let short = [&[1, 0x55, 0x12, length][..], &digest[..usize::from(length)]].concat();
        add(table, &format!("a hash of {length} bytes"), short, "Unsupported");
    }
    add(table, "a hash of 33 bytes", [&[1, 0x55, 0x12, 33][..], digest, &[0]].concat(), "Unsupported");
    add(table, "a hash of 64 bytes", [&[1, 0x55, 0x12, 64][..], digest, digest].concat(), "Unsupported");
    add(table, "a hash that claims 65 bytes", [&[1, 0x55, 0x12, 65][..], &[7; 65]].concat(), "Malformed");
    let lie = [&[1, 0x55, 0x12, 0xff, 0xff, 0xff, 0xff, 0x0f][..], digest].concat();
    add(table, "a hash that claims 4 GiB", lie, "Malformed");
    add(table, "a hash that is cut", bytes[..35].to_vec(), "Malformed");
    add(table, "a byte after it", [&bytes[..], &[0]].concat(), "Malformed");
    add(table, "itself twice", [&bytes[..], &bytes].concat(), "Malformed");
}

fn paths(table: &mut Table) {
    let nine = "/a".repeat(9);
    let thousands = "/a".repeat(100_000);
    let long = format!("/{}", "a".repeat(65));
    table.texts(
        "the path",
        &[
            ("", "SegmentCount(0)"),
            ("/", "SegmentCount(0)"),
            ("//", "Segment"),
            ("/node/", "Segment"),
            ("/node//x", "Segment"),
            ("/..", "Segment"),
            ("/node/../x", "Segment"),
            ("/.", "Segment"),
            ("/Node", "Segment"),
            ("/no de", "Segment"),
            ("/node\0", "Segment"),
            ("/node\n", "Segment"),
            ("/n\u{f6}de", "Segment"),
            ("/node_1", "Segment"),
            ("/node*", "Segment"),
            ("/node%2f", "Segment"),
            ("\\node", "Segment"),
            (&long, "Segment"),
            (&nine, "SegmentCount(9)"),
            (&thousands, "SegmentCount(100000)"),
        ],
        |text| judged(text.parse::<ActorPath>()),
    );
    let did = issuer().did();
    let (no_path, deep) = (did.to_string(), format!("{did}{nine}"));
    table.texts(
        "the address",
        &[
            ("/node", "Did(Method)"),
            ("did:key:z/node", "Did(KeyType)"),
            ("did:web:example.org/node", "Did(Method)"),
            (&no_path, "SegmentCount(0)"),
            (&deep, "SegmentCount(9)"),
        ],
        |text| judged(text.parse::<Address>()),
    );
}

fn kinds(table: &mut Table) {
    let long = format!("{}/1", "a".repeat(65));
    let texts = [
        ("", "no kind"),
        ("/", "no kind"),
        ("/1", "no kind"),
        ("a", "no kind"),
        ("a/", "no kind"),
        ("A/1", "no kind"),
        ("a b/1", "no kind"),
        ("a_b/1", "no kind"),
        ("a/01", "no kind"),
        ("a/+1", "no kind"),
        ("a/-1", "no kind"),
        ("a/1.0", "no kind"),
        ("a/65536", "no kind"),
        ("a/99999999999999999999", "no kind"),
        ("a/1 ", "no kind"),
        ("a/\u{661}", "no kind"),
        ("\u{e4}/1", "no kind"),
        ("a\0/1", "no kind"),
        ("a/b/1", "no kind"),
        (&long, "no kind"),
    ];
    table.texts("the kind", &texts, |text| Kind::parse(text).map(drop).ok_or("no kind".to_owned()));
}

fn ids(table: &mut Table) {
    let long = "0".repeat(100_000);
    let texts = [
        "",
        "0",
        "nonsense",
        "00000000-0000-0000-0000-00000000000",
        "00000000-0000-0000-0000-0000000000000",
        "00000000-0000-0000-0000-00000000000g",
        "00000000_0000_0000_0000_000000000000",
        "../../../../etc/passwd",
        "00000000-0000-0000-0000-000000000000\0",
        " 00000000-0000-0000-0000-000000000000",
        "\u{661}",
        &long,
    ];
    let table_of: Vec<(&str, &str)> = texts.iter().map(|text| (*text, "is not a job id (a UUID)")).collect();
    table.texts("the job", &table_of, |text| super::told(text.parse::<JobId>()));
    let upper = "A0".repeat(16);
    let longer = "a0".repeat(17);
    table.texts(
        "the document",
        &[
            ("", "DocumentIdError"),
            ("a0", "DocumentIdError"),
            ("g0000000000000000000000000000000", "DocumentIdError"),
            ("\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}\u{fc}", "DocumentIdError"),
            (&upper, "DocumentIdError"),
            (&longer, "DocumentIdError"),
        ],
        |text| judged(text.parse::<DocumentId>()),
    );
}

fn abilities(table: &mut Table) {
    let long = format!("/{}", "a".repeat(128));
    let deep = "/a".repeat(9);
    let texts = [
        "", "dms", "//", "/dms/", "/dms//x", "/DMS", "/d ms", "/dms/..", "/dms/.", "/dms/*", "/**",
        "/\u{e4}", "/-a", "/a\0", "/a\n", "/a%2f", "/a/../b", "\\dms", "/dms\\x", &long, &deep,
    ];
    let table_of: Vec<(&str, &str)> = texts.iter().map(|text| (*text, "AbilityError")).collect();
    table.texts("the ability", &table_of, |text| judged(text.parse::<Ability>()));
    let roles = ["", "root", "Admin", "ADMIN", "owner", " member", "member ", "members", "*"];
    let table_of: Vec<(&str, &str)> = roles.iter().map(|text| (*text, "RoleError")).collect();
    table.texts("the role", &table_of, |text| judged(text.parse::<Role>()));
}

fn amounts(table: &mut Table) {
    let cores = "not a number of cores";
    let digits = "9".repeat(10_000);
    table.texts(
        "the cores",
        &[
            ("", cores),
            (".", cores),
            ("1.", cores),
            (".5", cores),
            ("-1", cores),
            ("+1", cores),
            ("+5m", cores),
            ("1e3", cores),
            ("0x10", cores),
            ("1,5", cores),
            ("1 ", cores),
            ("NaN", cores),
            ("inf", cores),
            ("\u{661}", cores),
            ("99999999999999999999", cores),
            ("18446744073709551616m", cores),
            ("m", cores),
            ("1.2345", "too fine"),
            ("0.5m", "too fine"),
            (&digits, cores),
        ],
        |text| super::told(text.parse::<CpuMillis>()),
    );
    let memory = "not an amount of memory";
    table.texts(
        "the memory",
        &[
            ("64", memory),
            ("-1MiB", memory),
            ("+1MiB", memory),
            ("1e3MiB", memory),
            ("MiB", memory),
            ("18446744073709551615TiB", "not a whole number"),
            ("1.5GiB", "not a whole number"),
            ("64KiB", "not a whole number"),
        ],
        |text| super::told(text.parse::<MemoryMib>()),
    );
    let price = "not a price";
    table.texts(
        "the price",
        &[
            ("-0.1", price),
            ("1.", price),
            ("free", price),
            ("18446744073710", price),
            ("0.0000001", "too fine"),
        ],
        |text| super::told(text.parse::<Price>()),
    );
    let time = "not a duration";
    table.texts(
        "the duration",
        &[
            ("5", time),
            ("soon", time),
            ("-5s", time),
            ("+5s", time),
            ("s", time),
            ("1.2.3s", time),
            ("5y", time),
            ("99999999999999999999h", time),
            ("18446744073709551615d", time),
            ("1e9s", time),
            ("0.5ms", "too fine"),
        ],
        |text| super::told(text.parse::<Millis>()),
    );
}
