//! Trees of files, blobs and the requests for them, and contracts as files.

use std::sync::Arc;

use ciborium::Value;
use dms_actors::blob::{self, BlobRefusal, BlobSource};
use dms_actors::signed::Signed;
use dms_messages::*;
use dms_node::proof;
use dms_tests::hostile::surroundings::Answering;
use dms_tests::hostile::{NOW, NOW_SECONDS, Parts, issuer, plain, reader, sign, words};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Table, judged, told};

/// The inputs.
pub(super) fn family(table: &mut Table) {
    paths(table);
    trees(table);
    requests(table);
    answers(table);
    proofs(table);
}

fn paths(table: &mut Table) {
    let read = |text: &str| judged(RelativePath::new(text));
    let deep = vec!["a"; 33].join("/");
    let deeper = "a/".repeat(10_000);
    let long_name = "a".repeat(256);
    let long_path = vec!["a".repeat(200); 6].join("/");
    table.texts(
        "the path in a tree",
        &[
            ("", "Path("),
            ("/", "Path("),
            ("/etc/passwd", "Path("),
            ("//server/share", "Path("),
            (".", "Path("),
            ("..", "Path("),
            ("../x", "Path("),
            ("a/..", "Path("),
            ("a/../../x", "Path("),
            ("a/./b", "Path("),
            ("a//b", "Path("),
            ("a/", "Path("),
            ("./a", "Path("),
            ("a\\b", "Path("),
            ("..\\x", "Path("),
            ("C:\\x", "Path("),
            ("a\0b", "Path("),
            ("a\nb", "Path("),
            ("a\rb", "Path("),
            ("a\u{1b}[31m", "Path("),
            ("a\u{7f}", "Path("),
            ("a\u{85}", "Path("),
            (&deep, "Path("),
            (&deeper, "Path("),
            (&long_name, "Path("),
            (&long_path, "Path("),
        ],
        read,
    );
}

fn entry(content: &[u8], length: impl Into<Value>) -> Value {
    let content = ContentId::of_bytes(content).to_string();
    Value::Map(vec![("length".into(), length.into()), ("content".into(), content.into())])
}

fn tree(files: Vec<(Value, Value)>) -> Vec<u8> {
    plain(&Value::Map(vec![("files".into(), Value::Map(files))]))
}

fn trees(table: &mut Table) {
    let add = |table: &mut Table, name: &str, blob: Vec<u8>, reason: &str| {
        table.refuse(format!("a tree: {name}"), blob, reason, |bytes| judged(FileTree::from_blob(bytes)));
    };
    let good = words::file_tree().to_blob().unwrap();
    add(table, "nothing", vec![], "Malformed(Truncated)");
    add(table, "a list", vec![0x80], "Malformed(Decode(");
    add(table, "no files", vec![0xa0], "missing field");
    add(table, "files that are a list", b"\xa1\x65files\x80".to_vec(), "Malformed(Decode(");
    add(table, "itself twice", [&good[..], &good[..]].concat(), "Malformed(Trailing(");
    add(table, "half of one", good[..good.len() / 2].to_vec(), "Malformed(");
    add(
        table,
        "a million files, as it says",
        b"\xa1\x65files\xba\x00\x0f\x42\x40".to_vec(),
        "Length(1000000)",
    );
    let all = b"\xa1\x65files\xbb\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    add(table, "all files, as it says", all, "Length(18446744073709551615)");
    add(table, "files without an end", b"\xa1\x65files\xbf\xff".to_vec(), "Malformed(Indefinite)");
    add(
        table,
        "a directory in a directory, a thousand deep",
        b"\xa1\x61a".repeat(1000),
        "Malformed(TooDeep)",
    );
    add(table, "more than a tree may have", vec![0; 8 * 1024 * 1024 + 1], "Malformed(TooLong");
    for path in ["", "..", "../x", "/etc/passwd", "a/../../x", "a\\b", "a\0", "a//b", "a/"] {
        let reason = "is not a plain relative path";
        add(table, &format!("a file {path:?}"), tree(vec![(path.into(), entry(b"x", 1))]), reason);
    }
    add(table, "a file by a number", tree(vec![(7.into(), entry(b"x", 1))]), "Malformed(Decode(");
    add(
        table,
        "a file by bytes",
        tree(vec![(Value::Bytes(vec![0x61]), entry(b"x", 1))]),
        "Malformed(Decode(",
    );
    for length in [Value::from(-1), "1".into(), Value::Null] {
        let name = format!("a length of {length:?}");
        add(table, &name, tree(vec![("a".into(), entry(b"x", length))]), "Malformed(Decode(");
    }
    add(table, "a length with a fraction", tree(vec![("a".into(), entry(b"x", 1.5))]), "Malformed(Float)");
    let text =
        |content: &str| Value::Map(vec![("length".into(), 1.into()), ("content".into(), content.into())]);
    for content in ["", "latest", "/etc/passwd", "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n"] {
        add(
            table,
            &format!("the content {content:?}"),
            tree(vec![("a".into(), text(content))]),
            "Malformed(Decode(",
        );
    }
    let twice = tree(vec![("a".into(), entry(b"x", 1)), ("a".into(), entry(b"y", 1))]);
    add(table, "one name twice", twice, "Malformed(DuplicateKey)");
    let unsorted = tree(vec![("b".into(), entry(b"x", 1)), ("a".into(), entry(b"y", 1))]);
    add(table, "names out of order", unsorted, "Malformed(UnsortedKeys)");
    let both = tree(vec![("a".into(), entry(b"x", 1)), ("a/b".into(), entry(b"x", 1))]);
    add(table, "a file that is a directory", both, "Conflict(\"a\")");
    let far = tree(vec![("a".into(), entry(b"x", 1)), ("a/b/c".into(), entry(b"x", 1))]);
    add(table, "a file that is a directory further down", far, "Conflict(\"a\")");
    let bomb =
        (0..100).map(|n| (format!("{n:03}").into(), entry(b"x", if n == 99 { 1 } else { 0 }))).collect();
    add(table, "a content that is short and long", tree(bomb), "Length(\"099\")");
    let many = (0..4097).map(|n| (format!("{n:04}").into(), entry(b"x", 1))).collect();
    add(table, "4,097 files", tree(many), "TooManyFiles");
}

/// Nothing to give.
struct Nothing;

impl BlobSource for Nothing {
    fn open(&self, _: Did, _: &ContentId) -> Result<Vec<u8>, BlobRefusal> {
        Ok(b"given".to_vec())
    }
}

fn wait<R>(work: impl Future<Output = R>) -> R {
    // On a paused clock: whoever waits for bytes that never come has waited long enough at once.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(work)
}

/// Says this to whoever serves blobs, and nothing more; what it answered.
fn ask(request: &[u8]) -> Result<(), String> {
    wait(async {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_all(request).await.unwrap();
        let served = blob::serve(Box::new(far), reader(), &Nothing);
        let listened = async {
            near.shutdown().await.unwrap();
            let mut answer = Vec::new();
            near.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let (served, answer) = tokio::join!(served, listened);
        told(served)?;
        if answer == [1] { Err("not found".to_owned()) } else { Ok(()) }
    })
}

fn requests(table: &mut Table) {
    let id = ContentId::of_bytes(b"given").to_bytes();
    let mut good = vec![36];
    good.extend(&id);
    assert_eq!(ask(&good), Ok(()));
    let with = |length: u8, id: &[u8]| [&[length], id].concat();
    for (name, request, reason) in [
        ("nothing", vec![], "the stream broke"),
        ("an identifier of no bytes", vec![0], "not found"),
        ("an identifier of 65 bytes", with(65, &[1; 65]), "not found"),
        ("an identifier of 255 bytes, and no byte of it", vec![255], "not found"),
        ("half an identifier", good[..20].to_vec(), "the stream broke"),
        ("the beginning of one as a whole", with(20, &id[..20]), "not found"),
        ("an identifier and a byte", with(37, &[&id[..], &[0]].concat()), "not found"),
        ("zeros", with(36, &[0; 36]), "not found"),
        ("a name in words", with(5, b"latest".get(..5).unwrap()), "not found"),
        ("a path", with(11, b"/etc/passwd"), "not found"),
        ("another hash", with(36, &[&[1, 0x55, 0x13, 0x20], &id[4..]].concat()), "not found"),
        ("version 0", with(34, &[&[0x12, 0x20], &id[4..]].concat()), "not found"),
    ] {
        table.refuse(format!("a request for a blob: {name}"), request, reason, ask);
    }
}

fn answers(table: &mut Table) {
    let fetch = |answer: &[u8]| {
        wait(async {
            let transport = Arc::new(Answering { answer: answer.to_vec(), stays: true });
            let id = ContentId::of_bytes(b"wanted");
            told(blob::fetch(transport.as_ref(), reader(), id, 1024).await)
        })
    };
    assert_eq!(fetch(b"\x00\x00\x00\x00\x06wanted"), Ok(()));
    let answers: [(&str, &[u8], &str); 15] = [
        ("nothing", b"", "the peer sends nothing"),
        ("not found", b"\x01", "not found"),
        ("not allowed", b"\x02", "not allowed"),
        ("busy", b"\x03", "busy"),
        ("an unknown word", b"\x04", "unknown status 4"),
        ("another unknown word", b"\xff", "unknown status 255"),
        ("found, and no length", b"\x00", "the peer sends nothing"),
        ("half a length", b"\x00\x00\x00", "the peer sends nothing"),
        ("a length above the limit", b"\x00\x00\x00\x04\x01", "1025 bytes is too long (at most 1024)"),
        ("4 GiB", b"\x00\xff\xff\xff\xff", "4294967295 bytes is too long"),
        ("16 MiB", b"\x00\x01\x00\x00\x00", "16777216 bytes is too long"),
        ("less than it says", b"\x00\x00\x00\x04\x00wanted", "the peer sends nothing"),
        ("another content", b"\x00\x00\x00\x00\x06wantes", "not those of the identifier"),
        ("an empty content", b"\x00\x00\x00\x00\x00", "not those of the identifier"),
        ("more than the content", b"\x00\x00\x00\x00\x07wanted!", "not those of the identifier"),
    ];
    for (name, answer, reason) in answers {
        table.refuse(format!("an answer for a blob: {name}"), answer, reason, fetch);
    }
}

/// A contract's file is two documents in a row.
fn proofs(table: &mut Table) {
    let add = |table: &mut Table, name: &str, file: Vec<u8>, reason: &str| {
        table.refuse(format!("a contract's file: {name}"), file, reason, |bytes| {
            told(proof::verify(bytes, NOW))
        });
    };
    let mut parts = Parts::of(&words::contract());
    parts.set(3, reader().to_string());
    let contract = parts.seal();
    let value = |contract: ContentId| Accepted {
        attempt: words::attempt(),
        contract,
        allocation: AllocationId::from_random([6; 16]),
    };
    let accept = |value: &Accepted, change: fn(&mut Parts)| {
        let mut parts = Parts::of(value);
        parts.signer = [8; 32];
        parts.set(1, reader().to_string());
        parts.set(3, issuer().did().to_string());
        change(&mut parts);
        parts.seal()
    };
    let id = ContentId::of_document(&contract);
    let accepted = accept(&value(id), |_| {});
    let file = |second: &[u8]| [&contract[..], second].concat();
    assert_eq!(told(proof::verify(&file(&accepted), NOW)), Ok(()), "or nothing below would mean anything");
    add(table, "nothing", vec![], "the file is empty");
    add(table, "a text", b"contract".to_vec(), "the contract does not hold");
    add(table, "half a contract", contract[..contract.len() / 2].to_vec(), "the contract is cut short");
    add(table, "more than two documents have", vec![0xd2; 512 * 1024 + 1], "longer than a contract can be");
    add(table, "the provider's half first", [&accepted[..], &contract].concat(), "a contract is expected");
    add(table, "a bid", sign(words::bid()).bytes().to_vec(), "a contract is expected");
    let mut open = Parts::of(&words::contract());
    open.claims.remove(1);
    add(table, "a contract for everybody", open.seal(), "addressed to somebody else");
    let other = Contract { requester: Keypair::from_secret(&[3; 32]).did(), ..words::contract() };
    add(table, "signed by another than its requester", Parts::of(&other).seal(), "who is not the requester");
    let mut forged = contract.clone();
    *forged.last_mut().unwrap() ^= 1;
    add(table, "a forged contract", forged, "the contract does not hold");
    let mut forged = accepted.clone();
    *forged.last_mut().unwrap() ^= 1;
    add(table, "a forged signature below it", file(&forged), "the provider's signature does not hold");
    add(table, "half a signature below it", file(&accepted[..50]), "the provider's signature is cut short");
    add(table, "a text below it", file(b"agreed"), "the provider's signature does not hold");
    add(table, "the contract twice", file(&contract), "provider's signature is expected");
    add(
        table,
        "three documents",
        [&file(&accepted)[..], &accepted].concat(),
        "follow after the provider's signature",
    );
    add(table, "a byte at the end", [&file(&accepted)[..], &[0]].concat(), "1 byte that belongs to nothing");
    let mut own = value(id);
    let both = Parts::of(&own).seal();
    add(table, "signed twice by the requester", file(&both), "who is not the provider");
    let wrong = accept(&value(ContentId::of_bytes(b"other")), |_| {});
    add(table, "a signature of another contract", file(&wrong), "has signed another contract");
    own.attempt.number = 3;
    add(table, "a signature of another attempt", file(&accept(&own, |_| {})), "they are of two attempts");
    let other = accept(&value(id), |parts| parts.set(3, reader().to_string()));
    add(table, "a signature for another", file(&other), "for another requester");
    let other = accept(&value(id), |parts| parts.set("dms-net", "other"));
    add(table, "a signature in another mesh", file(&other), "they are of two meshes");
    let early = accept(&value(id), |parts| parts.set(6, NOW_SECONDS - 3600));
    add(table, "signed before it was offered", file(&early), "before the requester did");
    let late = accept(&value(id), |parts| {
        parts.set(6, NOW_SECONDS + 3600);
        parts.set(4, NOW_SECONDS + 7200);
    });
    add(table, "signed after it was over", file(&late), "after the requester's offer had expired");
    assert!(Signed::<Contract>::verify_offline(&contract).is_ok());
}
