//! Bytes that are no deterministic CBOR: for the walker that guards every decoder.

use dms_actors::cbor::{MAX_DEPTH, MAX_LENGTH, check};
use dms_tests::hostile::{head, string};

use super::{Table, judged};

/// Major types (RFC 8949 §3.1), with their names.
const MAJORS: [(u8, &str); 7] = [
    (0, "an unsigned integer"),
    (1, "a negative integer"),
    (2, "a byte string"),
    (3, "a text"),
    (4, "an array"),
    (5, "a map"),
    (6, "a tag"),
];

/// The first byte of an item.
fn first(major: u8, info: u8) -> u8 {
    major << 5 | info
}

fn add(table: &mut Table, name: impl Into<String>, input: impl Into<Vec<u8>>, reason: impl Into<String>) {
    table.refuse(name, input, reason, |bytes| judged(check(bytes, MAX_LENGTH)));
}

/// The inputs.
pub(super) fn family(table: &mut Table) {
    lengths_that_lie(table);
    heads_of_another_form(table);
    values_that_are_not_used(table);
    nesting(table);
    keys(table);
    texts(table);
    ends(table);
}

fn lengths_that_lie(table: &mut Table) {
    let lies = [
        4,
        24,
        255,
        256,
        0xffff,
        0x1_0000,
        MAX_LENGTH as u64,
        0xffff_ffff,
        0x1_0000_0000,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
        u64::MAX - 1,
        u64::MAX,
    ];
    for (major, name) in &MAJORS[2..6] {
        for lie in lies {
            let input = [&head(*major, lie)[..], b"\x00\x00\x00"].concat();
            add(table, format!("{name} that claims {lie}"), input, format!("Length({lie})"));
        }
    }
    // Inside of others, where a parser may already have believed somebody.
    for depth in [1, 2, MAX_DEPTH - 1] {
        for (major, name) in &MAJORS[2..6] {
            let input = [vec![0x81; depth], head(*major, u64::MAX)].concat();
            let reason = format!("Length({})", u64::MAX);
            add(table, format!("{name} that claims all, {depth} deep"), input, reason);
        }
    }
    add(table, "a map with one item too few", b"\xa2\x00\x00\x01", "Length(2)");
    add(table, "an array with one item too few", b"\x83\x00\x00", "Length(3)");
    add(table, "an outer array that counts on its inner one", b"\x82\x81\x00", "Truncated");
    add(table, "a map that ends at its key", b"\x82\xa1\x00", "Length(1)");
    add(table, "a text longer by one", b"\x62a", "Length(2)");
}

fn heads_of_another_form(table: &mut Table) {
    for (major, name) in MAJORS {
        for (info, width, largest) in [(24, 1, 23_u64), (25, 2, 0xff), (26, 4, 0xffff), (27, 8, 0xffff_ffff)]
        {
            let long = [&[first(major, info)], &largest.to_be_bytes()[8 - width..]].concat();
            add(table, format!("{name} with {largest} in {width} bytes"), long, "NotShortest");
            let cut = vec![first(major, info); width];
            add(table, format!("{name} whose head of {width} bytes is cut"), cut, "Truncated");
        }
        for info in 28..=30 {
            let input = [first(major, info), 0];
            add(table, format!("{name} with the reserved {info}"), input, format!("Reserved({info})"));
        }
        let reason = if (2..6).contains(&major) { "Indefinite" } else { "Reserved(31)" };
        add(table, format!("{name} without an end"), [first(major, 31), 0xff], reason);
    }
    add(table, "a break that ends nothing", b"\xff", "Indefinite");
    add(table, "a break in an array", b"\x81\xff", "Indefinite");
    add(table, "a break in a map", b"\xa1\x00\xff", "Indefinite");
    add(table, "chunks of a text without an end", b"\x7f\x61a\x61b\xff", "Indefinite");
    add(table, "chunks of bytes within chunks", b"\x5f\x5f\x41a\xff\xff", "Indefinite");
    add(table, "an endless array in an array", b"\x81\x9f\x00\xff", "Indefinite");
}

fn values_that_are_not_used(table: &mut Table) {
    for simple in (0..20).chain([23]) {
        add(table, format!("simple value {simple}"), [first(7, simple)], format!("Simple({simple})"));
    }
    for simple in [0, 20, 22, 24, 31, 32, 255] {
        let reason = format!("Simple({simple})");
        add(table, format!("simple value {simple} in two bytes"), [0xf8, simple], reason);
    }
    add(table, "a simple value that is cut", b"\xf8", "Truncated");
    for info in 28..=30 {
        add(table, format!("reserved simple value {info}"), [first(7, info)], format!("Reserved({info})"));
    }
    let floats: [(&str, &[u8]); 14] = [
        ("half zero", b"\xf9\x00\x00"),
        ("half minus zero", b"\xf9\x80\x00"),
        ("half one", b"\xf9\x3c\x00"),
        ("half infinity", b"\xf9\x7c\x00"),
        ("half not a number", b"\xf9\x7e\x00"),
        ("single zero", b"\xfa\x00\x00\x00\x00"),
        ("single tenth", b"\xfa\x3d\xcc\xcc\xcd"),
        ("single infinity", b"\xfa\x7f\x80\x00\x00"),
        ("single signalling not a number", b"\xfa\x7f\xa0\x00\x00"),
        ("double zero", b"\xfb\x00\x00\x00\x00\x00\x00\x00\x00"),
        ("double least", b"\xfb\x00\x00\x00\x00\x00\x00\x00\x01"),
        ("double minus infinity", b"\xfb\xff\xf0\x00\x00\x00\x00\x00\x00"),
        ("double not a number", b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        ("half that is cut", b"\xf9"),
    ];
    for (name, input) in floats {
        add(table, format!("a float: {name}"), input, "Float");
    }
    add(table, "a float as a key", b"\xa1\xf9\x00\x00\x00", "Float");
    for tag in [0, 1, 2, 3, 4, 5, 16, 17, 19, 24, 32, 37, 42, 61, 96, 97, 98, 0xd9f7, 0xffff_ffff, u64::MAX] {
        let input = [&head(6, tag)[..], b"\x40"].concat();
        add(table, format!("tag {tag}"), input, format!("Tag({tag})"));
    }
    add(table, "a document in an array", b"\x81\xd2\x80", "Tag(18)");
    add(table, "a document around a document", b"\xd2\xd2\x80", "Tag(18)");
    add(table, "a document as a key", b"\xa1\xd2\x80\x00", "Tag(18)");
    add(table, "a document of nothing", b"\xd2", "Truncated");
    add(table, "documents around documents, ten thousand deep", vec![0xd2; 10_000], "Tag(18)");
    add(table, "a large integer", b"\xc2\x49\x01\x00\x00\x00\x00\x00\x00\x00\x00", "Tag(2)");
    add(table, "CBOR within CBOR", b"\xd8\x18\x41\x80", "Tag(24)");
}

fn nesting(table: &mut Table) {
    for depth in [MAX_DEPTH + 1, 32, 64, 1_000, 10_000, 100_000, MAX_LENGTH - 1] {
        let arrays = [vec![0x81; depth], vec![0]].concat();
        add(table, format!("{depth} arrays within each other"), arrays, "TooDeep");
        let maps = [b"\xa1\x00".repeat(depth / 2 + MAX_DEPTH), vec![0]].concat();
        let reason = if maps.len() > MAX_LENGTH { "TooLong" } else { "TooDeep" };
        add(table, format!("{} maps within each other", depth / 2 + MAX_DEPTH), maps, reason);
    }
    add(table, "maps as keys of maps", vec![0xa1; 40], "TooDeep");
    add(table, "an empty array one too deep", [vec![0x81; MAX_DEPTH], vec![0x80]].concat(), "TooDeep");
    add(table, "an empty map one too deep", [vec![0x81; MAX_DEPTH], vec![0xa0]].concat(), "TooDeep");
    let wide = [vec![0x98, 30], vec![0; 29], vec![0x81; MAX_DEPTH], vec![0]].concat();
    add(table, "a deep item at the end of a wide one", wide, "TooDeep");
    add(table, "a deep document", [vec![0xd2], vec![0x81; MAX_DEPTH + 1], vec![0]].concat(), "TooDeep");
    let wide = [&head(4, 200_000)[..], &vec![0x80; 199_999]].concat();
    add(table, "two hundred thousand empty arrays, less one", wide, "Length(200000)");
}

fn keys(table: &mut Table) {
    let duplicates: [(&str, &[u8]); 9] = [
        ("integers", b"\xa2\x01\x00\x01\x00"),
        ("negative integers", b"\xa2\x20\x00\x20\x00"),
        ("texts", b"\xa2\x61a\x00\x61a\x01"),
        ("empty texts", b"\xa2\x60\x00\x60\x00"),
        ("bytes", b"\xa2\x41a\x00\x41a\x00"),
        ("arrays", b"\xa2\x81\x00\x00\x81\x00\x01"),
        ("maps", b"\xa2\xa1\x00\x00\x00\xa1\x00\x00\x01"),
        ("nulls", b"\xa2\xf6\x00\xf6\x00"),
        ("texts, the last two of three", b"\xa3\x61a\x00\x61b\x00\x61b\x00"),
    ];
    for (name, input) in duplicates {
        add(table, format!("equal keys: {name}"), input, "DuplicateKey");
    }
    let unsorted: [(&str, &[u8]); 9] = [
        ("integers", b"\xa2\x02\x00\x01\x00"),
        ("a text before an integer", b"\xa2\x61a\x00\x01\x00"),
        ("texts", b"\xa2\x61b\x00\x61a\x00"),
        ("a long text before a short one", b"\xa2\x62aa\x00\x61b\x00"),
        ("a negative integer before a positive one", b"\xa2\x20\x00\x00\x00"),
        ("a null before a false", b"\xa2\xf6\x00\xf4\x00"),
        ("in a map within a map", b"\xa1\x00\xa2\x02\x00\x01\x00"),
        ("in a key", b"\xa1\xa2\x02\x00\x01\x00\x00"),
        ("the first again at the end", b"\xa3\x01\x00\x02\x00\x01\x00"),
    ];
    for (name, input) in unsorted {
        add(table, format!("keys out of order: {name}"), input, "UnsortedKeys");
    }
}

fn texts(table: &mut Table) {
    let texts: [(&str, &[u8]); 13] = [
        ("a lone continuation", b"\x80"),
        ("an overlong slash", b"\xc0\xaf"),
        ("an overlong zero", b"\xc0\x80"),
        ("an overlong zero in three bytes", b"\xe0\x80\x80"),
        ("an overlong zero in four bytes", b"\xf0\x80\x80\x80"),
        ("a high surrogate", b"\xed\xa0\x80"),
        ("a low surrogate", b"\xed\xbf\xbf"),
        ("beyond the last character", b"\xf4\x90\x80\x80"),
        ("five bytes", b"\xf8\x88\x80\x80\x80"),
        ("a sequence that is cut", b"ab\xe2\x82"),
        ("the byte ff", b"\xff"),
        ("a byte order mark of UTF-16", b"\xfe\xff\x00a"),
        ("Latin-1", b"caf\xe9"),
    ];
    for (name, text) in texts {
        add(table, format!("a text that is not UTF-8: {name}"), string(3, text), "Utf8");
    }
    add(table, "a key that is not UTF-8", b"\xa1\x61\xff\x00", "Utf8");
    add(table, "a character over the end of its text", b"\x82\x61\xc3\x61\xbc", "Utf8");
}

fn ends(table: &mut Table) {
    add(table, "nothing", b"", "Truncated");
    let trailing: [(&str, &[u8], usize); 7] = [
        ("an integer and an integer", b"\x00\x00", 1),
        ("null and null", b"\xf6\xf6", 1),
        ("an empty array and a byte", b"\x80\x00", 1),
        ("an empty map and a break", b"\xa0\xff", 1),
        ("a text and its zero", b"\x61a\x00", 1),
        ("a document and another", b"\xd2\x80\xd2\x80", 2),
        ("an integer and a line", b"\x00\r\n", 2),
    ];
    for (name, input, count) in trailing {
        add(table, format!("{name} after it"), input, format!("Trailing({count})"));
    }
    add(table, "one byte too many", vec![0; MAX_LENGTH + 1], "TooLong");
    add(table, "a text one byte too long", string(3, &vec![b'a'; MAX_LENGTH]), "TooLong");
    for cut in 1..6 {
        let whole = b"\x82\x18\x64\x19\x01\x00";
        add(
            table,
            format!("an array cut after {cut}"),
            &whole[..cut],
            if cut < 3 { "Length(2)" } else { "Truncated" },
        );
    }
}
