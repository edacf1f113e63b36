//! Frames as the other end of a link may write them.

use ciborium::Value;
use dms_tests::hostile::{issuer, plain};

use super::Table;

/// Numbers of frames.
const HELLO: u64 = 0;
const UNWELCOME: u64 = 2;
const WORD: u64 = 3;
const TAKEN: u64 = 4;
const REFUSED: u64 = 5;
const REPLY: u64 = 6;
const LOOKUP: u64 = 8;
const WATCH: u64 = 11;
const ENDED: u64 = 13;
const PING: u64 = 14;

/// A frame with these two lengths before whatever follows.
fn raw(length: u32, header_length: u16, rest: &[u8]) -> Vec<u8> {
    [&length.to_be_bytes()[..], &header_length.to_be_bytes(), rest].concat()
}

/// A frame of this header, with honest lengths.
fn frame(header: &[u8], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(2 + header.len() + body.len()).unwrap();
    raw(length, u16::try_from(header.len()).unwrap(), &[header, body].concat())
}

fn header(number: u64, fields: Vec<Value>) -> Vec<u8> {
    plain(&Value::Array([vec![number.into()], fields].concat()))
}

/// A word with these options.
fn word(options: Vec<(Value, Value)>) -> Vec<u8> {
    let fields = vec!["/node".into(), "dms.bid/1".into(), 1.into(), false.into(), Value::Map(options)];
    header(WORD, fields)
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    lengths(table);
    headers(table);
    fields(table);
    options(table);
}

fn add(table: &mut Table, name: impl Into<String>, bytes: impl Into<Vec<u8>>, reason: &str) {
    table.refuse(name, bytes, reason, |bytes| {
        let mut count = 0;
        dms_actors::fuzz::read(bytes, &mut count)
    });
}

fn lengths(table: &mut Table) {
    let range = "is out of range";
    for length in [0, 1, 0xffff_ffff, 0x8000_0000, 0x7fff_ffff, 0x0100_0000, 264_195] {
        add(table, format!("a frame of {length} bytes"), raw(length, 0, &[]), range);
        add(table, format!("the length {length} and nothing more"), length.to_be_bytes(), range);
    }
    for (length, header) in [(2, 1), (2, 0xffff), (100, 99), (3_000, 2_049), (3_000, 0xffff)] {
        let name = format!("a header of {header} bytes in a frame of {length}");
        add(table, name, raw(length, header, &[0; 64]), "a header of");
    }
    add(table, "a body one byte too long", raw(2 + 256 * 1024 + 1, 0, &[]), range);
    add(table, "a request of the web", b"GET / HTTP/1.1\r\n\r\n".to_vec(), range);
    add(table, "a handshake of TLS", b"\x16\x03\x01\x02\x00\x01\x00".to_vec(), range);
    add(
        table,
        "a frame and then garbage",
        [frame(&header(PING, vec![]), b""), vec![0xff; 8]].concat(),
        range,
    );
}

fn headers(table: &mut Table) {
    let of = |bytes: &[u8]| frame(bytes, b"");
    for (name, bytes, reason) in [
        ("nothing", vec![], "the input ends early"),
        ("a number", vec![0x0e], "a field of another type"),
        ("a map", vec![0xa0], "a field of another type"),
        ("a text", vec![0x61, 0x61], "a field of another type"),
        ("an empty list", vec![0x80], "the input ends early"),
        ("an endless list", vec![0x9f, 0x0e, 0xff], "indefinite length"),
        ("a tag", vec![0xd2, 0x81, 0x0e], "a field of another type"),
        (
            "a list that claims all",
            vec![0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0e],
            "another number",
        ),
        ("a number below zero", vec![0x81, 0x20], "a field of another type"),
        ("a number as text", vec![0x81, 0x61, 0x33], "a field of another type"),
        ("a number that is not in its shortest form", vec![0x81, 0x18, 0x0e], "not in shortest form"),
        ("a list that is not in its shortest form", vec![0x98, 0x01, 0x0e], "not in shortest form"),
        ("a ping and a byte", vec![0x81, 0x0e, 0x00], "1 bytes follow"),
        ("two pings", vec![0x81, 0x0e, 0x81, 0x0e], "2 bytes follow"),
        ("a float", vec![0x81, 0xf9, 0x00, 0x00], "floats"),
        ("zeros", vec![0; 100], "a field of another type"),
        ("ones", vec![0xff; 100], "indefinite length"),
    ] {
        add(table, format!("a header of {name}"), of(&bytes), reason);
    }
    for number in [17, 18, 100, 255, 65_536, u64::MAX] {
        add(
            table,
            format!("a frame of the number {number}"),
            of(&header(number, vec![])),
            "an unknown number",
        );
    }
}

fn fields(table: &mut Table) {
    let did = issuer().did().to_string();
    let of = |number: u64, fields: Vec<Value>| frame(&header(number, fields), b"");
    let other = "a field of another type";
    let count = "another number of fields";
    for (name, bytes, reason) in [
        ("a ping with three fields", of(PING, vec![1.into(), 2.into(), 3.into()]), count),
        ("a word with no field", of(WORD, vec![]), "the input ends early"),
        ("a word with one field", of(WORD, vec!["/node".into()]), "the input ends early"),
        ("a word by a number", of(WORD, vec![7.into(), "k/1".into(), 1.into(), true.into()]), other),
        (
            "a word by bytes",
            of(WORD, vec![Value::Bytes(vec![0x61]), "k/1".into(), 1.into(), true.into()]),
            other,
        ),
        ("a word of no kind", of(WORD, vec!["/node".into(), Value::Null, 1.into(), true.into()]), other),
        (
            "a word with a number below zero",
            of(WORD, vec!["/a".into(), "k/1".into(), (-1).into(), true.into()]),
            other,
        ),
        (
            "a word that may be an ask",
            of(WORD, vec!["/a".into(), "k/1".into(), 1.into(), Value::Null]),
            other,
        ),
        (
            "a word that is an ask by a number",
            of(WORD, vec!["/a".into(), "k/1".into(), 1.into(), 1.into()]),
            other,
        ),
        (
            "a greeting without a name",
            of(HELLO, vec![2.into(), "test".into(), "".into()]),
            "a name that is no DID",
        ),
        (
            "a greeting of a web page",
            of(HELLO, vec![2.into(), "test".into(), "did:web:x".into()]),
            "a name that is no DID",
        ),
        ("a greeting without a mesh", of(HELLO, vec![2.into(), Value::Null, did.clone().into()]), other),
        (
            "a greeting of a version in words",
            of(HELLO, vec!["2".into(), "test".into(), did.clone().into()]),
            other,
        ),
        (
            "a greeting with a field more",
            of(HELLO, vec![2.into(), "t".into(), did.into(), 1.into(), 2.into()]),
            count,
        ),
        ("an answer without a number", of(REPLY, vec![]), "the input ends early"),
        ("an answer by a text", of(REPLY, vec!["1".into()]), other),
        ("a refusal by a code in numbers", of(REFUSED, vec![1.into(), 7.into(), "x".into()]), other),
        ("a refusal that is cut", of(REFUSED, vec![1.into(), "busy".into()]), "the input ends early"),
        ("a farewell in numbers", of(UNWELCOME, vec![1.into(), 2.into()]), other),
        ("credit for nobody", of(TAKEN, vec![Value::Null, 1.into()]), other),
        ("credit below zero", of(TAKEN, vec!["/node".into(), (-1).into()]), other),
        ("a question without a kind", of(LOOKUP, vec![1.into(), "/node".into()]), "the input ends early"),
        ("a watch of a list", of(WATCH, vec![1.into(), Value::Array(vec![])]), other),
        (
            "an end for a reason in words",
            of(ENDED, vec![1.into(), "stopped".into(), "".into(), 0.into()]),
            other,
        ),
    ] {
        add(table, name, bytes, reason);
    }
    // Texts inside of headers.
    let lie = [&[0x85, 0x03, 0x7b][..], &[0xff; 8], b"/node"].concat();
    add(table, "a path that claims all", frame(&lie, b""), "exceeds the input");
    let lie = b"\x85\x03\x65/node\x78\xffk";
    add(table, "a kind that claims 255 bytes", frame(lie, b""), "exceeds the input");
    let not_text = b"\x85\x03\x62\xff\xfe\x63k/1\x01\xf4";
    add(table, "a path that is not UTF-8", frame(not_text, b""), "not UTF-8");
    let endless = b"\x85\x03\x7f\x61/\xff\x63k/1\x01\xf4";
    add(table, "a path in pieces", frame(endless, b""), "indefinite length");
}

fn options(table: &mut Table) {
    let of = |options: Vec<(Value, Value)>| frame(&word(options), b"");
    let bytes = |length: usize| Value::Bytes(vec![7; length]);
    for (name, frame, reason) in [
        ("a time to live in words", of(vec![(1.into(), "5s".into())]), "a field of another type"),
        ("a time to live below zero", of(vec![(1.into(), (-5).into())]), "a field of another type"),
        ("a time to live with a fraction", of(vec![(1.into(), 0.5.into())]), "floats"),
        ("a sender by a number", of(vec![(2.into(), 7.into())]), "a field of another type"),
        ("a short trace", of(vec![(3.into(), bytes(24))]), "a trace context of another length"),
        ("a long trace", of(vec![(3.into(), bytes(26))]), "a trace context of another length"),
        ("no trace", of(vec![(3.into(), bytes(0))]), "a trace context of another length"),
        ("a trace in words", of(vec![(3.into(), "00-".into())]), "a field of another type"),
        ("an option by a text", of(vec![("ttl".into(), 5.into())]), "a field of another type"),
        ("an option below zero", of(vec![((-1).into(), 5.into())]), "a field of another type"),
        ("an option twice", of(vec![(1.into(), 5.into()), (1.into(), 6.into())]), "unsorted map keys"),
        (
            "options out of order",
            of(vec![(2.into(), "/a".into()), (1.into(), 6.into())]),
            "unsorted map keys",
        ),
        ("an unknown option with a tag", of(vec![(9.into(), Value::Tag(1, Box::new(0.into())))]), "tag 1"),
        ("an unknown option with a float", of(vec![(9.into(), 1.5.into())]), "floats"),
    ] {
        add(table, name, frame, reason);
    }
    let start = word(vec![])[..].to_vec();
    let start = &start[..start.len() - 1];
    for (name, tail, reason) in [
        ("options that are a list", &b"\x80"[..], "a field of another type"),
        ("options that claim all", b"\xbb\xff\xff\xff\xff\xff\xff\xff\xff", "the input ends early"),
        ("options without an end", b"\xbf\xff", "indefinite length"),
        (
            "an unknown option that claims all",
            b"\xa1\x09\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
            "exceeds the input",
        ),
        (
            "an unknown option with a long text",
            b"\xa1\x09\x7b\xff\xff\xff\xff\xff\xff\xff\xff",
            "exceeds the input",
        ),
        ("an unknown option that is cut", b"\xa1\x09", "the input ends early"),
        ("an unknown option without an end", b"\xa1\x09\x9f\xff", "indefinite length"),
    ] {
        add(table, name, frame(&[start, tail].concat(), b""), reason);
    }
    let deep = [start, b"\xa1\x09", &[0x81; 1_500]].concat();
    add(table, "an unknown option of great depth", frame(&deep, b""), "the input ends early");
}
