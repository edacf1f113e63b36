//! The page of guarantees, held to its word: every line that promises something names tests, and every
//! test that it names exists.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

/// This crate's folder.
fn root() -> PathBuf {
    // Asked when run: a target directory may be shared by several checkouts.
    std::env::var("CARGO_MANIFEST_DIR").unwrap().into()
}

/// The promises of a page: the text of each `* ` item.
fn promises(page: &str) -> Vec<String> {
    let mut promises: Vec<String> = Vec::new();
    let mut in_promise = false;
    for line in page.lines() {
        if let Some(first) = line.strip_prefix("* ") {
            promises.push(first.to_owned());
            in_promise = true;
        } else if let (true, Some(more)) = (in_promise, line.strip_prefix("  ")) {
            let promise = promises.last_mut().unwrap();
            promise.push(' ');
            promise.push_str(more);
        } else {
            in_promise = false;
        }
    }
    promises
}

/// The tests named in a text, as file and function: whatever is quoted as `file.rs::function`.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once(".rs::")).collect()
}

/// Whether the source has a function of that name directly under a test attribute.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<_> = source.lines().map(str::trim).collect();
    lines.windows(2).any(|pair| {
        let function = pair[1].strip_prefix("async ").unwrap_or(pair[1]).strip_prefix("fn ");
        let is_named =
            function.is_some_and(|rest| rest.strip_prefix(name).is_some_and(|r| r.starts_with('(')));
        is_named && (pair[0].starts_with("#[test]") || pair[0].starts_with("#[tokio::test"))
    })
}

/// Everything wrong with a page.
fn complaints(page: &str, root: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for promise in promises(page) {
        let tests = named_tests(&promise);
        // What is not promised needs no proof.
        let is_refusal = promise.contains(" no order is promised") || promise.contains("Nothing is stored");
        if tests.is_empty() && !is_refusal {
            complaints.push(format!("no test is named: {promise}"));
        }
        for (file, name) in tests {
            let path = root.join(format!("{file}.rs"));
            let source = fs::read_to_string(&path).unwrap_or_default();
            if !has_test(&source, name) {
                complaints.push(format!("{file}.rs has no test {name}"));
            }
        }
    }
    complaints
}

#[test]
fn every_guarantee_names_a_test_that_exists() {
    let page = fs::read_to_string(root().join("GUARANTEES.md")).unwrap();
    assert!(promises(&page).len() > 20, "the page was not read");
    let complaints = complaints(&page, &root());
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn promises_without_proof_are_found() {
    let page = "* kept (`tests/guarantees.rs::promises_without_proof_are_found`)\n\
                * of a test that is gone (`tests/guarantees.rs::promises`)\n\
                * of a file\n  that is gone (`tests/nothing.rs::at_all`)\n\
                * of nothing\n\n  and no part of it (`tests/nothing.rs::more`)\n";
    assert_eq!(
        complaints(page, &root()),
        [
            "tests/guarantees.rs has no test promises",
            "tests/nothing.rs has no test at_all",
            "no test is named: of nothing"
        ]
    );
}
