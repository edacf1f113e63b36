//! Attacks that are all there at once: each is a request that would be answered, with one thing wrong.

use dms_node::api::token::Token;
use dms_tests::Home;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::{Attack, ORDER, Target, status_of};

/// Largest JSON body, and largest blob.
const LIMITS: (usize, usize) = (1024 * 1024, 16 * 1024 * 1024);

/// Every one of them.
pub(super) fn attacks(target: &Target) -> Vec<Attack> {
    let mut attacks = Vec::new();
    hosts(target, &mut attacks);
    pages(target, &mut attacks);
    tokens(target, &mut attacks);
    paths(target, &mut attacks);
    methods(target, &mut attacks);
    types(target, &mut attacks);
    lengths(target, &mut attacks);
    bytes(target, &mut attacks);
    attacks
}

/// An order in which something is something else; it is there.
#[track_caller]
fn order(target: &Target, from: &str, to: &str) -> Vec<u8> {
    let order = target.order();
    assert!(order.contains(from), "{from:?} is not in {order:?}");
    order.replacen(from, to, 1).into_bytes()
}

fn hosts(target: &Target, attacks: &mut Vec<Attack>) {
    let host = format!("Host: {}\r\n", target.address);
    let port = target.address.port();
    let mut add = |name, to: String| {
        attacks.push(Attack { name, bytes: order(target, &host, &to), expected: &[403] });
    };
    add("a rebound name", format!("Host: evil.example:{port}\r\n"));
    add("a rebound name without a port", "Host: evil.example\r\n".to_owned());
    add("a name that begins like this machine", format!("Host: 127.0.0.1.evil.example:{port}\r\n"));
    add("a name behind the port", format!("Host: 127.0.0.1:{port}.evil.example\r\n"));
    add("a name that ends in a dot", format!("Host: localhost.:{port}\r\n"));
    add("the address of all interfaces", format!("Host: 0.0.0.0:{port}\r\n"));
    add("an address of the local network", format!("Host: 192.168.1.2:{port}\r\n"));
    add("this machine as a number", format!("Host: 2130706433:{port}\r\n"));
    add("a user before the host", format!("Host: evil@127.0.0.1:{port}\r\n"));
    add("no host", String::new());
    add("an empty host", "Host:\r\n".to_owned());
    add("two hosts", format!("{host}Host: evil.example\r\n"));
    add("two hosts, ours last", format!("Host: evil.example\r\n{host}"));
    add("another host for proxies", "Host: evil.example\r\nX-Forwarded-Host: 127.0.0.1\r\n".to_owned());
    let mut add = |name, to: String| {
        attacks.push(Attack { name, bytes: order(target, "POST /v1/invites", &to), expected: &[400] });
    };
    add("a target on another host", "POST http://evil.example/v1/invites".to_owned());
    add("a target on this host", format!("POST http://127.0.0.1:{port}/v1/invites"));
    add("a tunnel to another port", "CONNECT 127.0.0.1:22".to_owned());
}

fn pages(target: &Target, attacks: &mut Vec<Attack>) {
    let mut add = |name, more: &str| {
        let bytes = order(target, "Content-Type", &format!("{more}\r\nContent-Type"));
        attacks.push(Attack { name, bytes, expected: &[403] });
    };
    add("a page of another origin", "Origin: http://evil.example");
    add("a page without an origin", "Origin: null");
    add("a page of this port", &format!("Origin: http://{}", target.address));
    add("an extension of a browser", "Origin: chrome-extension://abcdefghijklmnop");
    add("an empty origin", "Origin:");
    add("a browser, across sites", "Sec-Fetch-Site: cross-site");
    add("a browser, of the same site", "Sec-Fetch-Site: same-site");
    add("a browser that is told to", "Sec-Fetch-Site: none");
    let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\
                     Access-Control-Request-Headers: authorization,content-type\r\n\
                     Access-Control-Request-Private-Network: true\r\n";
    let preflight_of = |line: &str| target.head(line, preflight);
    attacks.push(Attack {
        name: "a preflight",
        bytes: preflight_of("OPTIONS /v1/invites"),
        expected: &[403],
    });
    let bytes = String::from_utf8(preflight_of("OPTIONS /v1/invites")).unwrap();
    let bytes = bytes.replace("Authorization", "X-Nothing").into_bytes();
    attacks.push(Attack { name: "a preflight without the token", bytes, expected: &[403] });
}

fn tokens(target: &Target, attacks: &mut Vec<Attack>) {
    let token = &target.token;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let other = Home::new();
    Token::load_or_create(other.path()).unwrap();
    let other = std::fs::read_to_string(other.path().join("api.token")).unwrap();
    let other = other.trim_end();
    let mut add = |name, to: String| {
        attacks.push(Attack { name, bytes: order(target, &bearer, &to), expected: &[401] });
    };
    add("no token", String::new());
    add("an empty token", "Authorization: Bearer \r\n".to_owned());
    add("another node's token", format!("Authorization: Bearer {other}\r\n"));
    add("the beginning of the token", format!("Authorization: Bearer {}\r\n", &token[..63]));
    add("the token and more", format!("Authorization: Bearer {token}0\r\n"));
    add("the token in capitals", format!("Authorization: Bearer {}\r\n", token.to_uppercase()));
    add("the token twice", format!("{bearer}{bearer}"));
    add("a wrong token behind the right one", format!("{bearer}Authorization: Bearer {other}\r\n"));
    add("the token in a list", format!("Authorization: Bearer {other}, Bearer {token}\r\n"));
    add("the token without a scheme", format!("Authorization: {token}\r\n"));
    add("the token under another case of the scheme", format!("Authorization: bearer {token}\r\n"));
    add("the token under another scheme", format!("Authorization: Basic {token}\r\n"));
    add("a user and a password", "Authorization: Basic cm9vdDpyb290\r\n".to_owned());
    add("the token in a cookie", format!("Cookie: token={token}\r\n"));
    add("the token for a proxy", format!("Proxy-Authorization: Bearer {token}\r\n"));
    let in_query = String::from_utf8(order(target, &bearer, "")).unwrap();
    let in_query =
        in_query.replace("/v1/invites", &format!("/v1/invites?token={token}&access_token={token}"));
    attacks.push(Attack { name: "the token in the target", bytes: in_query.into_bytes(), expected: &[401] });
    for path in ["/", "/v1/nothing", "/v1/../api.token", "/v1/blobs/%2e%2e%2fapi.token"] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", target.address).into_bytes();
        attacks.push(Attack { name: "a look around without a token", bytes, expected: &[401] });
    }
}

fn paths(target: &Target, attacks: &mut Vec<Attack>) {
    for (path, expected) in [
        ("/v1/../../../../etc/passwd", &[404][..]),
        ("/v1/blobs/../../api.token", &[404]),
        ("/v1/blobs/..", &[400]),
        ("/v1/blobs/..%2f..%2fapi.token", &[400]),
        ("/v1/blobs/%2e%2e%2f%2e%2e%2fkey", &[400]),
        ("/v1/blobs/..%5c..%5ckey", &[400]),
        ("/v1/blobs/%252e%252e%252fkey", &[400]),
        ("/v1/blobs/%00", &[400]),
        ("/v1/blobs/%ff%fe", &[400]),
        ("/v1/jobs/..%2f..%2fkey", &[404]),
        ("/v1/jobs/..%2f..%2fkey/output?stream=stdout", &[400]),
        ("/v1/contracts/..%2fkey", &[404]),
        ("/v1/db/rows/..%2f..%2fkey", &[404]),
        ("/v1/db/rows/jobs?prefix=..%2f..", &[400]),
        ("/v1/log?job=..%2f..%2fkey", &[400]),
        ("/v1/log?from=-1", &[400]),
        ("/v1/log?wait=99999999999999999999", &[400]),
        ("/v1/jobs?limit=1&limit=2", &[400]),
        ("/v1//invites", &[404]),
        ("//v1/invites", &[404]),
        ("/v1/invites/", &[404, 405]),
        ("/V1/INVITES", &[404]),
        ("/v1/invites%2f", &[404]),
        ("/v1/./invites", &[404]),
        ("/v1;/invites", &[404]),
    ] {
        let bytes = target.head(&format!("GET {path}"), "");
        attacks.push(Attack { name: path, bytes, expected });
    }
    let body = r#"{"directory":"../outside"}"#;
    let bytes = order(target, "/v1/invites", "/v1/db/backup");
    let bytes = String::from_utf8(bytes).unwrap().replace(ORDER, body);
    let bytes = bytes.replace(&format!("Length: {}", ORDER.len()), &format!("Length: {}", body.len()));
    attacks.push(Attack { name: "a backup to somewhere above", bytes: bytes.into_bytes(), expected: &[400] });
}

fn methods(target: &Target, attacks: &mut Vec<Attack>) {
    for (line, expected) in [
        ("OPTIONS /v1/invites", &[405][..]),
        ("OPTIONS *", &[400, 404, 405]),
        ("TRACE /v1/status", &[405]),
        ("DELETE /v1/status", &[405]),
        ("PATCH /v1/jobs", &[405]),
        ("PROPFIND /v1/blobs", &[405]),
        ("GET /v1/onboard", &[405]),
        ("get /v1/status", &[405]),
    ] {
        attacks.push(Attack { name: line, bytes: target.head(line, ""), expected });
    }
    let bytes = target.head("GET /v1/invites", &format!("Content-Length: {}\r\n", ORDER.len()));
    let bytes = [&bytes, ORDER.as_bytes()].concat();
    attacks.push(Attack { name: "a question with a body", bytes, expected: &[400] });
}

fn types(target: &Target, attacks: &mut Vec<Attack>) {
    let json = "Content-Type: application/json\r\n";
    let mut add = |name, to: &str| {
        attacks.push(Attack { name, bytes: order(target, json, to), expected: &[415] });
    };
    add("plain text", "Content-Type: text/plain\r\n");
    add("plain text that speaks of JSON", "Content-Type: text/plain; application/json\r\n");
    add("a form", "Content-Type: application/x-www-form-urlencoded\r\n");
    add("a form of parts", "Content-Type: multipart/form-data; boundary=x\r\n");
    add("JSON in another encoding", "Content-Type: application/json; charset=utf-7\r\n");
    add("no type", "");
    add("an empty type", "Content-Type:\r\n");
    add("two types", &format!("{json}Content-Type: text/plain\r\n"));
    add("two types, ours last", &format!("Content-Type: text/plain\r\n{json}"));
    let put = order(target, "POST /v1/invites", "PUT /v1/blobs");
    attacks.push(Attack { name: "a blob that says it is JSON", bytes: put, expected: &[415] });
    let mut add = |name, body: &[u8]| {
        let more = format!("{json}Content-Length: {}\r\n", body.len());
        let bytes = [&target.head("POST /v1/invites", &more), body].concat();
        attacks.push(Attack { name, bytes, expected: &[400] });
    };
    add("JSON that is none", b"{\"role\":");
    add("JSON that is not UTF-8", b"{\"role\":\"\xff\xfe\"}");
    add("JSON with a key that is unknown", br#"{"role":"member","uses":1,"ttl":3600000,"token":"x"}"#);
    add("JSON that is very deep", "[".repeat(LIMITS.0).as_bytes());
    add("JSON and more behind it", format!("{ORDER}{ORDER}").as_bytes());
}

fn lengths(target: &Target, attacks: &mut Vec<Attack>) {
    let length = format!("Content-Length: {}\r\n", ORDER.len());
    let mut add = |name, to: &str, expected| {
        attacks.push(Attack { name, bytes: order(target, &length, to), expected });
    };
    add("too large, as it says", &format!("Content-Length: {}\r\n", LIMITS.0 + 1), &[413]);
    add("far too large, as it says", "Content-Length: 1099511627776\r\n", &[413]);
    add("two lengths that differ", &format!("{length}Content-Length: 3\r\n"), &[400]);
    add("a negative length", "Content-Length: -1\r\n", &[400]);
    add("a length with a sign", "Content-Length: +37\r\n", &[400]);
    add("a length that is no number", "Content-Length: 0x25\r\n", &[400]);
    add("a length beyond all numbers", "Content-Length: 99999999999999999999999\r\n", &[400]);
    add("a list of lengths", "Content-Length: 37, 37\r\n", &[400]);
    add("a length and chunks", &format!("{length}Transfer-Encoding: chunked\r\n"), &[411]);
    add("chunks and a length", &format!("Transfer-Encoding: chunked\r\n{length}"), &[411]);
    add("chunks that are something else", "Transfer-Encoding: chunked, gzip\r\n", &[400]);
    add("chunks behind a space", "Transfer-Encoding : chunked\r\n", &[400]);
    add("chunks on a line that goes on", "X-A: b\r\n Transfer-Encoding: chunked\r\n", &[400]);
    add("no length, and yet a body", "", &[400]);
    let put = |declared: usize| {
        let more = format!("Content-Type: application/octet-stream\r\nContent-Length: {declared}\r\n");
        target.head("PUT /v1/blobs", &more)
    };
    attacks.push(Attack { name: "a blob too large", bytes: put(LIMITS.1 + 1), expected: &[413] });
    let more = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 64 * 1024, " ".repeat(64 * 1024));
    let chunks = [target.head("POST /v1/invites", more), chunk.repeat(32).into_bytes()].concat();
    attacks.push(Attack { name: "chunks without an end", bytes: chunks, expected: &[411] });
    // What is left behind a body is no second request.
    let smuggled = target.order();
    let bytes = order(target, &length, "Content-Length: 1\r\n");
    let bytes = [&bytes, smuggled.as_bytes()].concat();
    attacks.push(Attack { name: "a request behind a body that is shorter than it", bytes, expected: &[400] });
    let refused = order(target, "Content-Type: application/json", "Content-Type: text/plain");
    let bytes = [&refused, smuggled.as_bytes()].concat();
    attacks.push(Attack { name: "a request behind one that is refused", bytes, expected: &[415] });
    let question = target.head("GET /v1/nothing", "Connection: keep-alive\r\n");
    let bytes = [&question, smuggled.as_bytes()].concat();
    attacks.push(Attack { name: "a request behind one that wants to go on", bytes, expected: &[404] });
    let large = target.head("POST /v1/invites", "Content-Type: text/plain\r\nContent-Length: 16777216\r\n");
    let large = [large, vec![b' '; LIMITS.1]].concat();
    attacks.push(Attack { name: "much of the wrong type", bytes: large, expected: &[415] });
}

fn bytes(target: &Target, attacks: &mut Vec<Attack>) {
    let mut add = |name, bytes: Vec<u8>, expected| attacks.push(Attack { name, bytes, expected });
    let with = |more: String| target.head("GET /v1/status", &more);
    add("many headers", with("X-A: b\r\n".repeat(200)), &[431]);
    add("a large header", with(format!("X-A: {}\r\n", "b".repeat(100_000))), &[431]);
    add("a head without an end", with("X-A: b\r\n".repeat(20_000)), &[431]);
    add("a long target", target.head(&format!("GET /v1/{}", "a".repeat(66_000)), ""), &[414]);
    add("a zero byte in the target", target.head("GET /v1/status\0", ""), &[400]);
    add("a zero byte in a header", with("X-A: b\0c\r\n".to_owned()), &[400]);
    add("a control character in a header", with("X-A: b\x01c\r\n".to_owned()), &[400]);
    add("a header without a name", with(": b\r\n".to_owned()), &[400]);
    add("a header with a space in its name", with("X A: b\r\n".to_owned()), &[400]);
    add("a target with a space", target.head("GET /v1/status /v1/invites", ""), &[400]);
    add("HTTP/0.9", b"GET /v1/status\r\n\r\n".to_vec(), &[400]);
    let version = |version: &str| order(target, "HTTP/1.1", version);
    add("HTTP/1.2", version("HTTP/1.2"), &[400]);
    add("HTTP/3.0", version("HTTP/3.0"), &[400]);
    add("no version", version("FTP/1.1"), &[400]);
    let old = String::from_utf8(version("HTTP/1.0")).unwrap();
    let old = old.replace(&format!("Host: {}\r\n", target.address), "");
    add("HTTP/1.0 without a host", old.into_bytes(), &[403]);
    add("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), &[]);
    // The beginning of a client's first message of TLS 1.2.
    let hello = [0x16, 3, 1, 0, 0xa5, 1, 0, 0, 0xa1, 3, 3];
    add("TLS", [&hello[..], &[0x5a; 160]].concat(), &[400]);
    add("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), &[400]);
    add("an answer", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec(), &[400]);
    add("all bytes", (0..=255).cycle().take(4096).collect(), &[400]);
    add("only zeros", vec![0; 4096], &[400]);
}

/// What is refused at the Unix socket as well, where no token is asked for: how many.
pub(super) async fn attack_socket(target: &Target) -> usize {
    let length = ORDER.len();
    let order = |more: &str| {
        format!(
            "POST /v1/invites HTTP/1.1\r\nHost: dms\r\nConnection: close\r\nContent-Length: {length}\r\n{more}\r\n\r\n{ORDER}"
        )
    };
    let attacks = [
        ("a page at the socket", order("Content-Type: application/json\r\nOrigin: http://evil.example"), 403),
        ("a browser at the socket", order("Content-Type: application/json\r\nSec-Fetch-Site: none"), 403),
        ("a form at the socket", order("Content-Type: application/x-www-form-urlencoded"), 415),
        ("plain text at the socket", order("Content-Type: text/plain"), 415),
        ("no type at the socket", order("X-A: b"), 415),
    ];
    for (name, bytes, expected) in &attacks {
        let mut stream = UnixStream::connect(target.home.path().join("api.sock")).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.unwrap();
        assert_eq!(status_of(name, &answer), Some(*expected), "{answer}");
    }
    attacks.len()
}
