//! What the guard says of a request: tables of heads, each one thing away from a request that is let in.

use axum::http::Request;

use super::*;

/// A header and its value, or none to take it away.
type Change<'a> = (&'a str, Option<&'a str>);

/// A guard of a port, and what its owner shows it.
fn guard() -> (Guard, String) {
    let data = tempfile::tempdir().unwrap();
    let token = Token::load_or_create(data.path()).unwrap();
    let bearer = token.bearer().to_string();
    (Guard::Tcp(token), bearer)
}

/// What a guard says of a request that is let in, once it is changed so.
fn outcome(guard: &Guard, bearer: &str, method: &str, changes: &[Change<'_>]) -> Result<(), String> {
    let mut headers = vec![("host", "127.0.0.1:7777"), ("authorization", bearer)];
    match method {
        "POST" => headers.extend([("content-type", "application/json"), ("content-length", "2")]),
        "PUT" => headers.extend([("content-type", "application/octet-stream"), ("content-length", "2")]),
        _ => {}
    }
    let mut request = Request::builder().method(method).uri("/v1/status");
    let kept = headers.into_iter().filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    for (name, value) in kept {
        request = request.header(name, value);
    }
    for (name, value) in changes {
        if let Some(value) = value {
            request = request.header(*name, *value);
        }
    }
    let (parts, ()) = request.body(()).unwrap().into_parts();
    guard.check(&parts).map_err(|failure| failure.error.code)
}

#[test]
fn what_a_program_of_the_owner_sends_is_let_in() {
    let (guard, bearer) = guard();
    let cases: &[(&str, &[Change<'_>])] = &[
        ("GET", &[]),
        ("POST", &[]),
        ("PUT", &[]),
        ("DELETE", &[]),
        ("GET", &[("content-length", Some("0"))]),
        ("GET", &[("host", Some("localhost:7777"))]),
        ("GET", &[("host", Some("LocalHost"))]),
        ("GET", &[("host", Some("[::1]:7777"))]),
        ("GET", &[("host", Some("[::1]"))]),
        // The near end of a tunnel.
        ("GET", &[("host", Some("127.0.0.1:9000"))]),
        ("POST", &[("content-type", Some("Application/JSON; charset=UTF-8"))]),
        ("POST", &[("content-type", None), ("content-length", Some("0"))]),
        ("POST", &[("content-type", None), ("content-length", None)]),
    ];
    for (method, changes) in cases {
        assert_eq!(outcome(&guard, &bearer, method, changes), Ok(()), "{method} {changes:?}");
    }
}

#[test]
fn what_no_program_of_the_owner_would_send_is_refused_by_name() {
    let (guard, bearer) = guard();
    let spaced = format!("{bearer} ");
    let lower = bearer.replace("Bearer", "bearer");
    let upper = format!("Bearer {}", bearer["Bearer ".len()..].to_uppercase());
    let bare = &bearer["Bearer ".len()..];
    let cases: &[(&str, &[Change<'_>], &str)] = &[
        // A name that was made to point here, and what only looks like this machine.
        ("GET", &[("host", Some("evil.example:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("evil.example"))], "host_not_allowed"),
        ("GET", &[("host", Some("127.0.0.1:7777.evil.example"))], "host_not_allowed"),
        ("GET", &[("host", Some("127.0.0.1.evil.example:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("localhost.evil.example:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("localhost.:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("0.0.0.0:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("192.0.2.7:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("127.1:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("2130706433:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("::1"))], "host_not_allowed"),
        ("GET", &[("host", Some("[::ffff:127.0.0.1]:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("[127.0.0.1]:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("127.0.0.1:+80"))], "host_not_allowed"),
        ("GET", &[("host", Some("127.0.0.1:99999"))], "host_not_allowed"),
        ("GET", &[("host", Some("user@127.0.0.1:7777"))], "host_not_allowed"),
        ("GET", &[("host", Some("127.0.0.1, evil.example"))], "host_not_allowed"),
        ("GET", &[("host", Some(""))], "host_not_allowed"),
        ("GET", &[("host", None)], "host_not_allowed"),
        // Pages.
        ("GET", &[("origin", Some("http://evil.example"))], "origin_not_allowed"),
        ("GET", &[("origin", Some("null"))], "origin_not_allowed"),
        ("GET", &[("origin", Some(""))], "origin_not_allowed"),
        ("GET", &[("origin", Some("http://127.0.0.1:7777"))], "origin_not_allowed"),
        ("POST", &[("origin", Some("file://"))], "origin_not_allowed"),
        ("GET", &[("sec-fetch-site", Some("cross-site"))], "origin_not_allowed"),
        ("GET", &[("sec-fetch-site", Some("same-origin"))], "origin_not_allowed"),
        ("GET", &[("sec-fetch-site", Some("none"))], "origin_not_allowed"),
        ("OPTIONS", &[("origin", Some("http://evil.example"))], "origin_not_allowed"),
        // No token, or none that is ours.
        ("GET", &[("authorization", None)], "no_token"),
        ("GET", &[("authorization", Some(""))], "no_token"),
        ("GET", &[("authorization", Some("Bearer "))], "no_token"),
        ("GET", &[("authorization", Some("Bearer 0011"))], "no_token"),
        ("GET", &[("authorization", Some(bare))], "no_token"),
        ("GET", &[("authorization", Some(&spaced))], "no_token"),
        ("GET", &[("authorization", Some(&lower))], "no_token"),
        ("GET", &[("authorization", Some(&upper))], "no_token"),
        ("GET", &[("authorization", Some("Basic dXNlcjpwYXNz"))], "no_token"),
        ("POST", &[("authorization", None)], "no_token"),
        ("OPTIONS", &[("authorization", None)], "no_token"),
        ("GET", &[("authorization", None), ("cookie", Some(bare))], "no_token"),
        ("GET", &[("authorization", None), ("proxy-authorization", Some(&bearer))], "no_token"),
        // What a form can send, and what its end is not known of.
        ("POST", &[("content-type", Some("text/plain"))], "content_type"),
        ("POST", &[("content-type", Some("application/x-www-form-urlencoded"))], "content_type"),
        ("POST", &[("content-type", Some("multipart/form-data; boundary=x"))], "content_type"),
        ("POST", &[("content-type", Some("application/json; charset=utf-7"))], "content_type"),
        ("POST", &[("content-type", Some("application/json, text/plain"))], "content_type"),
        ("POST", &[("content-type", Some("application/jsonp"))], "content_type"),
        ("POST", &[("content-type", None)], "content_type"),
        ("POST", &[("content-type", Some(""))], "content_type"),
        ("POST", &[("content-type", Some("text/plain")), ("content-length", Some("0"))], "content_type"),
        ("PUT", &[("content-type", Some("text/plain"))], "content_type"),
        ("PUT", &[("content-type", Some("application/json"))], "content_type"),
        ("PUT", &[("content-type", None)], "content_type"),
        ("POST", &[("content-length", Some("1048577"))], "too_large"),
        ("PUT", &[("content-length", Some("16777217"))], "too_large"),
        ("GET", &[("content-length", Some("2"))], "malformed"),
        ("DELETE", &[("content-length", Some("2"))], "malformed"),
        ("POST", &[("transfer-encoding", Some("chunked"))], "length_required"),
        ("PUT", &[("content-length", None), ("transfer-encoding", Some("chunked"))], "length_required"),
    ];
    for (method, changes, code) in cases {
        let expected = Err((*code).to_owned());
        assert_eq!(outcome(&guard, &bearer, method, changes), expected, "{method} {changes:?}");
    }
}

#[test]
fn a_header_that_is_there_twice_counts_as_none() {
    let (guard, bearer) = guard();
    for (name, first, second, code) in [
        ("host", "127.0.0.1:7777", "evil.example", "host_not_allowed"),
        ("host", "127.0.0.1:7777", "127.0.0.1:7777", "host_not_allowed"),
        ("authorization", bearer.as_str(), "Bearer 00", "no_token"),
        ("content-type", "application/json", "text/plain", "content_type"),
    ] {
        for both in [[(name, Some(first)), (name, Some(second))], [(name, Some(second)), (name, Some(first))]]
        {
            assert_eq!(outcome(&guard, &bearer, "POST", &both), Err(code.to_owned()), "{both:?}");
        }
    }
}

#[test]
fn a_request_line_that_names_a_host_is_refused() {
    let (guard, bearer) = guard();
    for target in ["http://evil.example:7777/v1/status", "http://127.0.0.1:7777/v1/status"] {
        let request = Request::builder().uri(target).header("host", "127.0.0.1:7777");
        let (parts, ()) = request.header("authorization", &bearer).body(()).unwrap().into_parts();
        assert_eq!(guard.check(&parts).unwrap_err().error.code, "malformed", "{target}");
    }
}

#[test]
fn at_the_socket_no_token_is_asked_for_and_pages_and_forms_are_refused_all_the_same() {
    let cases: &[(&str, &[Change<'_>], Result<(), &str>)] = &[
        ("GET", &[("authorization", None), ("host", Some("dms"))], Ok(())),
        ("GET", &[("authorization", None), ("host", None)], Ok(())),
        ("POST", &[("authorization", None), ("transfer-encoding", Some("chunked"))], Ok(())),
        ("GET", &[("origin", Some("http://evil.example"))], Err("origin_not_allowed")),
        ("GET", &[("sec-fetch-site", Some("cross-site"))], Err("origin_not_allowed")),
        ("POST", &[("content-type", Some("text/plain"))], Err("content_type")),
        ("POST", &[("content-length", Some("1048577"))], Err("too_large")),
    ];
    for (method, changes, expected) in cases {
        let expected = expected.map_err(str::to_owned);
        assert_eq!(outcome(&Guard::Socket, "", method, changes), expected, "{method} {changes:?}");
    }
}
