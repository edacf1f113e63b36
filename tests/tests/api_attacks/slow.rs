//! Attacks that take their time: connections that say nothing, too little, or never enough, and more of them than there is
//! room for.

use std::time::{Duration, Instant};

use futures::future::{BoxFuture, join_all};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::{DEADLINE, LIMITS, ORDER, Target, answer, status_of};

/// Between two bytes of what comes in drops.
const DROP: Duration = Duration::from_millis(100);
/// Connections at once, where a few are served at a time.
const CROWD: usize = 3 * LIMITS.tcp_connections;

/// What comes after the first bytes.
enum Rest {
    /// Nothing.
    Nothing,
    /// The same byte, again and again.
    Drops(u8),
    /// The end of what is sent.
    End,
}

/// All of them, side by side, and then a crowd: how many.
pub(super) async fn attack(target: &Target) -> usize {
    let order = target.order();
    let head = order.strip_suffix(ORDER).unwrap();
    let part = |text: &str, length: usize| text.as_bytes()[..length].to_vec();
    let much = head.replace(&format!("Length: {}", ORDER.len()), "Length: 1000000").into_bytes();
    let blob = "Content-Type: application/octet-stream\r\nContent-Length: 16777216\r\n";
    let blob = target.head("PUT /v1/blobs", blob);
    let bare = format!("POST /v1/invites HTTP/1.1\r\nHost: {}\r\nContent-Length: 37\r\n\r\n", target.address);
    let attacks: [(&str, Vec<u8>, Rest, Option<u16>); 10] = [
        ("silence", Vec::new(), Rest::Nothing, None),
        ("half a head", part(head, 40), Rest::Nothing, None),
        ("a head in drops", part(head, 40), Rest::Drops(b'a'), None),
        ("empty lines in drops", Vec::new(), Rest::Drops(b'\n'), None),
        ("a head that ends early", part(head, 40), Rest::End, Some(400)),
        ("half a body", part(&order, order.len() - 10), Rest::Nothing, Some(408)),
        ("a body in drops", much, Rest::Drops(b' '), Some(408)),
        ("a body that ends early", part(&order, order.len() - 10), Rest::End, Some(400)),
        ("a blob in drops", blob, Rest::Drops(0), Some(408)),
        ("a body in drops without a token", bare.into_bytes(), Rest::Drops(b' '), Some(401)),
    ];
    let fired = attacks.iter().map(|(name, first, rest, expected)| -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let answer = send(target, first, rest).await;
            let status = status_of(name, &answer);
            // Who has ended what it sends may be gone: nobody owes it an answer.
            let is_expected = status == *expected || matches!((rest, status), (Rest::End, None));
            assert!(is_expected, "{name}: {answer:?}");
        })
    });
    join_all(fired).await;
    crowd(target).await;
    attacks.len() + 1
}

/// Sends the first bytes and what is to follow, until there is an answer or an end.
async fn send(target: &Target, first: &[u8], rest: &Rest) -> String {
    let mut stream = TcpStream::connect(target.address).await.unwrap();
    stream.write_all(first).await.unwrap();
    match rest {
        Rest::Nothing => answer(&mut stream).await,
        Rest::End => {
            stream.shutdown().await.unwrap();
            answer(&mut stream).await
        }
        Rest::Drops(byte) => {
            let start = Instant::now();
            let mut drops = tokio::time::interval(DROP);
            loop {
                drops.tick().await;
                assert!(start.elapsed() < DEADLINE, "it may go on for ever");
                let is_answered = stream.ready(tokio::io::Interest::READABLE);
                let is_answered = tokio::time::timeout(Duration::from_millis(1), is_answered).await.is_ok();
                if is_answered || stream.write_all(&[*byte]).await.is_err() {
                    return answer(&mut stream).await;
                }
            }
        }
    }
}

/// More connections than are served at a time, half of them with the beginning of a head: those who wait are served when
/// the first have had their time, and the socket is not concerned.
async fn crowd(target: &Target) {
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut stream = TcpStream::connect(target.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /v1/status HTTP/1.1\r\n").await.unwrap();
        }
        crowd.push(stream);
    }
    target.socket.status().await.expect("the socket has places of its own");
    let honest = target.tcp.status().await.expect("an honest request has its turn");
    assert_eq!(honest.api_listen, Some(target.address));
    for mut stream in crowd {
        assert_eq!(status_of("one of a crowd", &answer(&mut stream).await), None);
    }
}
