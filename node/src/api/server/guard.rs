//! Who may ask: decided from a request's head alone, before anything of its body is read.
//!
//! A Unix socket has a mode and an owner; a port has neither: every program of every user, and every page that a
//! browser shows, can reach it. So what comes over TCP must carry the token (`Authorization: Bearer`), must name this
//! machine in `Host` (a page whose name was made to point here names itself), and must say how long its body is before
//! the body comes. Over both, no web page may ask (`Origin`, `Sec-Fetch-Site`), and no body may be what a form can send.
//! No answer carries a word of CORS, so no page may read one.

use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};

use super::{Failure, too_large};
use crate::api::address::is_this_machine;
use crate::api::token::{TOKEN_FILE, Token};
use crate::api::{MAX_BLOB_BYTES, MAX_JSON_BYTES};

/// Says of which site a page is that asks; set by browsers, and by nothing else.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What is asked of every request, by the way that it comes.
#[derive(Debug)]
pub(super) enum Guard {
    /// The Unix socket, whose mode has let in its owner alone.
    Socket,
    /// A port.
    Tcp(Token),
}

impl Guard {
    /// Lets a request in, or says why not.
    pub(super) fn check(&self, request: &Parts) -> Result<(), Failure> {
        if let Self::Tcp(_) = self {
            check_host(request)?;
        }
        check_page(&request.headers)?;
        if let Self::Tcp(token) = self {
            check_token(token, &request.headers)?;
            check_framing(&request.headers)?;
        }
        check_body(request)
    }
}

/// Names of other machines are refused: a browser believes that it asks one of them, and lets its pages read the answer.
/// The port says nothing, and is another at the near end of a tunnel.
fn check_host(request: &Parts) -> Result<(), Failure> {
    if request.uri.authority().is_some() {
        return Err(Failure::malformed("the request's target must be a path: this is no proxy"));
    }
    match only(&request.headers, header::HOST) {
        Some(host) if is_this_machine(without_port(host)) => Ok(()),
        _ => {
            Err(forbidden("host_not_allowed", "the request must name this machine in Host (127.0.0.1:PORT)"))
        }
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok() =>
        {
            name
        }
        _ => host,
    }
}

fn check_page(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(header::ORIGIN) || headers.contains_key(FETCH_SITE) {
        return Err(forbidden("origin_not_allowed", "no web page may use this"));
    }
    Ok(())
}

fn check_token(token: &Token, headers: &HeaderMap) -> Result<(), Failure> {
    let shown = only(headers, header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    if shown.is_some_and(|shown| token.is(shown.as_bytes())) {
        return Ok(());
    }
    let message = format!("the token of this node is needed (Authorization: Bearer, from {TOKEN_FILE})");
    Err(Failure::new(StatusCode::UNAUTHORIZED, "no_token", message))
}

/// Where a body ends is said once, before it: two ways to say it can contradict each other.
fn check_framing(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        let message = "a body must come with its Content-Length, not in chunks";
        return Err(Failure::new(StatusCode::LENGTH_REQUIRED, "length_required", message));
    }
    Ok(())
}

/// Bodies have the one type and at most the size that their method takes.
fn check_body(request: &Parts) -> Result<(), Failure> {
    let headers = &request.headers;
    let declared = only(headers, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    let has_body =
        headers.contains_key(header::TRANSFER_ENCODING) || declared.is_some_and(|length| length > 0);
    let (wanted, limit) = match request.method {
        Method::POST => ("application/json", MAX_JSON_BYTES),
        Method::PUT => ("application/octet-stream", MAX_BLOB_BYTES),
        _ if has_body => return Err(Failure::malformed(format!("a {} has no body", request.method))),
        _ => return Ok(()),
    };
    let is_wanted = match only(headers, header::CONTENT_TYPE) {
        Some(found) => is_type(found, wanted),
        // What orders something and says nothing more (`cancel`) has no body and no type.
        None => !has_body && !headers.contains_key(header::CONTENT_TYPE),
    };
    if !is_wanted {
        let message = format!("the body must be {wanted}, and say so in Content-Type");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message));
    }
    if declared.is_some_and(|length| length > limit as u64) {
        return Err(too_large(limit));
    }
    Ok(())
}

/// True if a `Content-Type` is this one, in the only encoding that JSON has.
fn is_type(found: &str, wanted: &str) -> bool {
    let (name, parameter) = found.split_once(';').unwrap_or((found, ""));
    let parameter = parameter.trim();
    name.trim().eq_ignore_ascii_case(wanted)
        && (parameter.is_empty() || parameter.eq_ignore_ascii_case("charset=utf-8"))
}

/// The value of a header that is there once, and is text.
fn only(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn forbidden(code: &str, message: &str) -> Failure {
    Failure::new(StatusCode::FORBIDDEN, code, message)
}

#[cfg(test)]
mod tests;
