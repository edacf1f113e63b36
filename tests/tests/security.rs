//! `SECURITY.md`, held to its word: every threat names tests, and every test that it names exists.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    // Asked when run: a target directory may be shared by several checkouts.
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).parent().unwrap().to_owned()
}

/// The threats of the page: the text of each `* **…**` item below the heading of threats.
fn threats(page: &str) -> Vec<String> {
    let threats = page.split_once("\n## Threats").map_or("", |(_, rest)| rest);
    threats
        .split("\n* ")
        .skip(1)
        .map(|item| item.split("\n###").next().unwrap_or_default().to_owned())
        .collect()
}

/// The tests that a text names: whatever is quoted as `file.rs::function`.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    text.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once("::")).collect()
}

/// True if the source has a test of that name.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().map(str::trim).collect();
    let declares = |line: &str| {
        let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
        function.is_some_and(|rest| rest.strip_prefix(name).is_some_and(|rest| rest.starts_with('(')))
    };
    let attributes = |at: usize| lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
    (0..lines.len()).any(|at| declares(lines[at]) && attributes(at).any(|line| line.contains("test")))
}

/// What is wrong with a page.
fn complaints(page: &str, root: &Path) -> Vec<String> {
    let mut complaints = Vec::new();
    for threat in threats(page) {
        let tests = named_tests(&threat);
        if tests.is_empty() {
            complaints.push(format!("no test is named: {threat}"));
        }
        for (file, name) in tests {
            let source = fs::read_to_string(root.join(file)).unwrap_or_default();
            if !has_test(&source, name) {
                complaints.push(format!("{file} has no test {name}"));
            }
        }
    }
    complaints
}

#[test]
fn every_threat_names_a_test_that_exists() {
    let page = fs::read_to_string(root().join("SECURITY.md")).unwrap();
    assert!(threats(&page).len() >= 20, "the page lost its threats");
    assert_eq!(complaints(&page, &root()), [] as [String; 0]);
}

#[test]
fn a_threat_without_a_test_and_a_test_that_is_not_there_are_found() {
    let page = "# x\n## Threats, and so on\n* **One.** Nothing.\n* **Two.** `tests/tests/security.rs::no_such_test`\n\
                ### Next\n* **Three.** `tests/tests/security.rs::every_threat_names_a_test_that_exists`\n";
    let complaints = complaints(page, &root());
    assert_eq!(complaints.len(), 2, "{complaints:?}");
    assert!(complaints[0].contains("One") && complaints[1].contains("no_such_test"), "{complaints:?}");
}
