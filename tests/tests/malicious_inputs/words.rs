//! Bodies of words that are told without a signature: for the decoder that a link gives each kind to.

use ciborium::Value;
use dms_messages::{
    MAX_MESSAGE_LENGTH, MAX_MESSAGE_TYPE_LENGTH, MAX_RECONCILED, MAX_REVOCATIONS, MAX_SHOWN_TOKENS,
    MAX_TOKEN_LENGTH,
};
use dms_node::trust::needs;
use dms_tests::hostile::{context, plain, words};

use super::{Table, judged};

/// One more body of a word of this kind.
fn add(table: &mut Table, kind: &'static str, name: &str, body: impl Into<Vec<u8>>, reason: &str) {
    table.refuse(format!("{kind}: {name}"), body, reason, move |body| {
        let known = needs::table().into_iter().find(|word| word.kind.to_string() == kind).unwrap();
        judged((known.read)(body, &context()))
    });
}

/// The entries of the example of a kind, to be changed.
fn example(kind: &str) -> Vec<(Value, Value)> {
    let (_, body) = words::bodies().into_iter().find(|(name, _)| name == kind).unwrap();
    let Value::Map(entries) = dms_messages::from_canonical(&body).unwrap() else {
        panic!("{kind} is no map")
    };
    entries
}

/// The example of a kind with one field changed.
fn with(kind: &str, field: &str, value: impl Into<Value>) -> Vec<u8> {
    let mut entries = example(kind);
    let entry = entries.iter_mut().find(|(name, _)| name.as_text() == Some(field)).unwrap();
    entry.1 = value.into();
    plain(&Value::Map(entries))
}

/// The example of a kind with one field of a field changed.
fn within(kind: &str, outer: &str, field: &str, value: impl Into<Value>) -> Vec<u8> {
    let mut entries = example(kind);
    let entry = entries.iter_mut().find(|(name, _)| name.as_text() == Some(outer)).unwrap();
    let inner = entry.1.as_map_mut().unwrap();
    inner.iter_mut().find(|(name, _)| name.as_text() == Some(field)).unwrap().1 = value.into();
    plain(&Value::Map(entries))
}

fn bytes(length: usize) -> Value {
    Value::Bytes(vec![7; length])
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    for (kind, body) in words::bodies() {
        let kind: &'static str = kind.leak();
        add(table, kind, "nothing", b"", "Truncated");
        add(table, kind, "an array in the place of the map", b"\x80", "Decode");
        add(table, kind, "null in the place of the map", b"\xf6", "Decode");
        add(table, kind, "tagged as a document", [&[0xd2], &body[..]].concat(), "Tag(18)");
        add(table, kind, "said twice", [&body[..], &body[..]].concat(), &format!("Trailing({})", body.len()));
        if body.len() > 1 {
            add(table, kind, "the first half", &body[..body.len() / 2], "Cbor(");
            add(table, kind, "all but the last byte", &body[..body.len() - 1], "Cbor(");
            add(table, kind, "no field at all", b"\xa0", "missing field");
        }
    }
    ids(table);
    amounts(table);
    variants(table);
    lists(table);
    messages(table);
}

fn messages(table: &mut Table) {
    let message = "dms.allocation-message/1";
    for length in [MAX_MESSAGE_LENGTH + 1, 200_000] {
        let body = within(message, "content", "body", bytes(length));
        add(table, message, &format!("a body of {length} bytes"), body, "a message has at most 65536 bytes");
    }
    let long = "x".repeat(MAX_MESSAGE_TYPE_LENGTH + 1);
    for content_type in ["", "text plain", "a\n", "\u{1b}[2J", "ä", &long] {
        let body = within(message, "content", "type", content_type);
        add(table, message, &format!("the type {content_type:?}"), body, "the type of a message is");
    }
    add(table, message, "a wish that is a number", with(message, "wants_reply", 1), "Decode");
    let check = "dms.allocation-check/1";
    add(table, check, "an id of 15 bytes", with(check, "allocation", bytes(15)), "Decode");
}

fn ids(table: &mut Table) {
    let release = "dms.release/1";
    for length in [0, 1, 15, 17, 32] {
        add(
            table,
            release,
            &format!("an id of {length} bytes"),
            with(release, "bid", bytes(length)),
            "Decode",
        );
        let ack = within("dms.acknowledge/1", "attempt", "job", bytes(length));
        add(table, "dms.acknowledge/1", &format!("a job of {length} bytes"), ack, "Decode");
        let join = with("dms.join/1", "secret", bytes(length));
        add(table, "dms.join/1", &format!("a secret of {length} bytes"), join, "Decode");
    }
    let text = "00000000-0000-4000-8000-000000000000";
    add(table, release, "an id as text", with(release, "bid", text), "Decode");
    add(table, release, "an id as a number", with(release, "bid", 7), "Decode");
    add(table, release, "no id", with(release, "bid", Value::Null), "Decode");
    let refused = "dms.not-admitted/1";
    for text in ["", "bafk", "not a cid", "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"] {
        let body = plain(&Value::Map(vec![("invite".into(), text.into()), ("reason".into(), "used".into())]));
        add(table, refused, &format!("the invite {text:?}"), body, "Decode");
    }
}

fn amounts(table: &mut Table) {
    let ask = "dms.allocation-status-request/1";
    add(table, ask, "an offset below zero", with(ask, "stdout_offset", -1), "Decode");
    add(table, ask, "an offset as text", with(ask, "stderr_offset", "1"), "Decode");
    let beyond = Value::Tag(2, Box::new(bytes(9)));
    add(table, ask, "an offset beyond 64 bits", with(ask, "stdout_offset", beyond), "Tag(2)");
    add(table, ask, "an offset with a fraction", with(ask, "stdout_offset", 1.5), "Float");
    for (field, value) in [("pod", 0x1_0000_i64), ("pod", -1), ("number", 0x1_0000_0000), ("number", -1)] {
        let body = within("dms.cancel/1", "attempt", field, value);
        add(table, "dms.cancel/1", &format!("{field} is {value}"), body, "Decode");
    }
}

fn variants(table: &mut Table) {
    for (kind, field, value) in [
        ("dms.release/1", "cause", "because"),
        ("dms.release/1", "cause", "NotChosen"),
        ("dms.cancel/1", "cause", ""),
        ("dms.cancel/1", "cause", "node_restarted"),
        ("dms.allocation-output/1", "stream", "stdin"),
        ("dms.allocation-output/1", "stream", "STDOUT"),
    ] {
        add(table, kind, &format!("the {field} {value:?}"), with(kind, field, value), "unknown variant");
    }
    let body = Value::Map(vec![("superseded".into(), Value::Map(vec![]))]);
    add(table, "dms.cancel/1", "a cause with a body", with("dms.cancel/1", "cause", body), "Cbor(");
    add(table, "dms.release/1", "a cause as a number", with("dms.release/1", "cause", 0), "Decode");
    let list = Value::Array(vec![1.into(), 2.into(), Value::Text("three".into())]);
    let output = "dms.allocation-output/1";
    add(table, output, "bytes as a list with a text", with(output, "bytes", list), "Decode");
    let list = Value::Array(vec![256.into()]);
    add(table, output, "bytes as a list beyond bytes", with(output, "bytes", list), "Decode");
}

fn lists(table: &mut Table) {
    let reconcile = "dms.reconcile/1";
    let of = |field: &str, count: usize| {
        let entries = example(reconcile);
        let list = entries.iter().find(|(name, _)| name.as_text() == Some(field)).unwrap();
        Value::Array(vec![list.1.as_array().unwrap()[0].clone(); count])
    };
    for count in [MAX_RECONCILED + 1, 2 * MAX_RECONCILED, 1000] {
        for field in ["requested", "provided"] {
            let body = with(reconcile, field, of(field, count));
            add(table, reconcile, &format!("{count} {field}"), body, "more than 256 attempts");
        }
    }
    let both = plain(&Value::Map(vec![
        ("provided".into(), of("provided", 129)),
        ("requested".into(), of("requested", 128)),
    ]));
    add(table, reconcile, "too many of both together", both, "more than 256 attempts");
    add(table, reconcile, "a page that is a number", with(reconcile, "provided", 3), "Decode");
    let nulls = Value::Array(vec![Value::Null; 4]);
    add(table, reconcile, "attempts of nothing", with(reconcile, "requested", nulls), "Decode");

    let revocations = "dms.revocations/1";
    let many = |count: usize, length: usize| Value::Array(vec![bytes(length); count]);
    for (count, length) in [(MAX_REVOCATIONS + 1, 1), (1, MAX_TOKEN_LENGTH + 1), (1000, 0), (100, 2000)] {
        let body = with(revocations, "revocations", many(count, length));
        add(table, revocations, &format!("{count} of {length} bytes"), body, "documents, or one of over");
    }
    let admitted = "dms.admitted/1";
    for (count, length) in [(MAX_SHOWN_TOKENS + 1, 1), (1, MAX_TOKEN_LENGTH + 1), (200, 1024), (5000, 0)] {
        let body = with(admitted, "credentials", many(count, length));
        add(table, admitted, &format!("{count} tokens of {length} bytes"), body, "at most 16 tokens");
    }
    add(table, admitted, "tokens as one text", with(admitted, "credentials", "tokens"), "Decode");
    add(
        table,
        admitted,
        "a token as a number",
        with(admitted, "credentials", Value::Array(vec![7.into()])),
        "Decode",
    );
}
