//! Invites and tokens as the one word that people carry from machine to machine.

use ciborium::Value;
use dms_messages::*;
use dms_tests::hostile::{plain, words};

use super::{Table, judged};

/// CBOR as such a word.
fn carry(prefix: &str, body: &[u8]) -> String {
    format!("{prefix}{}", bs58::encode(body).with_check().into_string())
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    let read = |text: &str| judged(text.parse::<Invite>());
    texts(table, "an invite", "dms-invite-1-", &words::invite().to_string(), read);
    let tokens = words::credentials().to_string();
    texts(table, "tokens", "dms-token-1-", &tokens, |text| judged(text.parse::<Credentials>()));
    invites(table);
    tokens_within(table);
}

fn texts(table: &mut Table, what: &str, prefix: &str, good: &str, read: fn(&str) -> Result<(), String>) {
    let other = if prefix.contains("token") { "dms-invite-1-" } else { "dms-token-1-" };
    let body = &good[prefix.len()..];
    let mut wrong_sum = good.to_owned();
    let last = wrong_sum.pop().unwrap();
    wrong_sum.push(if last == 'a' { 'b' } else { 'a' });
    let bs58_only = format!("{prefix}{}", bs58::encode(b"\xa0").into_string());
    let cases: Vec<(&str, String, &str)> = vec![
        ("nothing", String::new(), "Prefix"),
        ("white space", " \t\n".into(), "Prefix"),
        ("a greeting", "hello".into(), "Prefix"),
        ("the body alone", body.into(), "Prefix"),
        ("of another thing", format!("{other}{body}"), "Prefix"),
        ("of a later version", good.replacen("-1-", "-2-", 1), "Prefix"),
        ("in capitals", good.to_uppercase(), "Prefix"),
        ("a zero before it", format!("\0{good}"), "Prefix"),
        ("the prefix alone", prefix.into(), "Mistyped"),
        ("its first half", good[..good.len() / 2].into(), "Mistyped"),
        ("all but its last letter", good[..good.len() - 1].into(), "Mistyped"),
        ("another last letter", wrong_sum, "Mistyped"),
        ("its body twice", format!("{good}{body}"), "Mistyped"),
        ("itself twice", format!("{good}{good}"), "Mistyped"),
        ("white space within", format!("{} {}", &good[..40], &good[40..]), "Mistyped"),
        ("letters that are none of base58", format!("{prefix}0OIl"), "Mistyped"),
        ("letters beyond ASCII", format!("{prefix}\u{fc}\u{fc}\u{fc}"), "Mistyped"),
        ("no check sum", bs58_only, "Mistyped"),
        ("ones without an end", format!("{prefix}{}", "1".repeat(100_000)), "Mistyped"),
        ("letters without an end", format!("{prefix}{}", "z".repeat(1_000_000)), "Mistyped"),
        ("nothing carried", carry(prefix, b""), "Content"),
        ("null", carry(prefix, b"\xf6"), "Content"),
        ("a number", carry(prefix, b"\x00"), "Content"),
        ("an endless list", carry(prefix, b"\x9f\xff"), "indefinite length"),
        ("depth", carry(prefix, &[0x81; 100]), "nested deeper"),
        ("a length that lies", carry(prefix, b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff"), "exceeds the input"),
        ("a float", carry(prefix, b"\xf9\x00\x00"), "floats"),
        ("two values", carry(prefix, b"\xa0\xa0"), "1 bytes follow"),
    ];
    for (name, text, reason) in cases {
        table.refuse(format!("{what}: {name}"), text, reason, move |bytes| {
            read(std::str::from_utf8(bytes).unwrap())
        });
    }
}

fn invites(table: &mut Table) {
    let add = |table: &mut Table, name: &str, body: Vec<u8>, reason: &str| {
        table.refuse(format!("an invite: {name}"), carry("dms-invite-1-", &body), reason, |bytes| {
            judged(std::str::from_utf8(bytes).unwrap().parse::<Invite>())
        });
    };
    let good = to_canonical(&words::invite()).unwrap();
    let Value::Map(entries) = from_canonical(&good).unwrap() else { panic!("an invite is a map") };
    for at in 0..entries.len() {
        let name = entries[at].0.as_text().unwrap();
        if name == "pre_shared_key" {
            continue;
        }
        let mut fewer = entries.clone();
        fewer.remove(at);
        add(table, &format!("without {name}"), plain(&Value::Map(fewer)), "missing field");
    }
    let with = |field: &str, value: Value| {
        let mut entries = entries.clone();
        entries.iter_mut().find(|(name, _)| name.as_text() == Some(field)).unwrap().1 = value;
        plain(&Value::Map(entries))
    };
    add(table, "of nobody", with("inviter", "".into()), "Content");
    add(table, "of a web page", with("inviter", "did:web:example.org".into()), "Content");
    add(table, "as a god", with("role", "god".into()), "unknown variant");
    add(table, "with a short secret", with("secret", Value::Bytes(vec![7; 15])), "Content");
    add(table, "with a long secret", with("secret", Value::Bytes(vec![7; 17])), "Content");
    add(table, "with a secret of text", with("secret", "secret".into()), "Content");
    add(table, "with half a key", with("pre_shared_key", Value::Bytes(vec![8; 16])), "Content");
    add(table, "that ended before time began", with("expires", (-1).into()), "Content");
    add(table, "that never ends", with("expires", Value::Null), "Content");
    let many = Value::Array(vec!["/ip4/10.0.0.1/tcp/1".into(); 9]);
    add(table, "to nine places", with("addresses", many), "more than 8 addresses");
    let long = Value::Array(vec!["a".repeat(513).into()]);
    add(table, "to a place with a long name", with("addresses", long), "address is longer");
    add(table, "into a mesh with a long name", with("network", "n".repeat(513).into()), "network is longer");
}

fn tokens_within(table: &mut Table) {
    let add = |table: &mut Table, name: &str, body: &Value, reason: &str| {
        table.refuse(format!("tokens: {name}"), carry("dms-token-1-", &plain(body)), reason, |bytes| {
            judged(std::str::from_utf8(bytes).unwrap().parse::<Credentials>())
        });
    };
    let list = |count: usize, item: Value| Value::Array(vec![item; count]);
    add(table, "seventeen", &list(17, Value::Bytes(vec![1; 10])), "at most 16 tokens of 1024 bytes");
    add(
        table,
        "one of 1,025 bytes",
        &list(1, Value::Bytes(vec![0; 1025])),
        "at most 16 tokens of 1024 bytes",
    );
    add(table, "a thousand of nothing", &list(1000, Value::Bytes(vec![])), "at most 16 tokens of 1024 bytes");
    add(table, "a list of numbers", &list(3, 7.into()), "Content");
    add(table, "a map", &Value::Map(vec![]), "Content");
}
