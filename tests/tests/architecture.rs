//! The plan of the house, tested as code: which package may know which, and who may say what in the sources.
//!
//! Called by `cargo test` like any other test. It reads the manifests (`cargo metadata`), the resolved
//! dependencies (`cargo tree`) and every source file as tokens, and refuses any arrow that is not in
//! [`ARROWS`] and any word that a rule of [`RULES`] forbids. Each rule is also shown to fail, on a sample
//! that breaks it. A change here is a change of the architecture: say why in `ARCHITECTURE.md`.

use std::collections::BTreeSet;
use std::process::Command;

use dms_tests::sources::{Token, flatten, is_test_file, metadata, root, sources};
use proc_macro2::TokenStream;

/// What each package of ours may depend on among our packages, in any kind of dependency.
const ARROWS: &[(&str, &[&str])] = &[
    ("dms-actors", &["dms-actors-macros"]),
    ("dms-actors-macros", &[]),
    ("dms-messages", &["dms-actors"]),
    ("dms-p2p", &["dms-actors"]),
    ("dms-storage", &["dms-messages"]),
    ("dms-node", &["dms-actors", "dms-messages", "dms-p2p", "dms-storage"]),
    ("dms-examples", &["dms-actors", "dms-messages", "dms-node", "dms-p2p", "dms-storage"]),
    ("dms-tests", &["dms-actors", "dms-messages", "dms-node", "dms-p2p", "dms-storage"]),
];

/// What must not be found in the resolved tree of a package built alone: arguments of `cargo tree`, names.
/// A name also covers its family (`tokio` is `tokio-util`, too).
const UNREACHABLE: &[(&[&str], &[&str])] = &[
    (&["-p", "dms-actors", "--no-default-features"], &["tokio", "actix", "libp2p", "rocksdb", "librocksdb"]),
    (&["-p", "dms-actors"], &["libp2p", "rocksdb", "librocksdb", "dms-messages", "did-key"]),
    (
        &["-p", "dms-messages"],
        &["dms-actors-macros", "tokio", "actix", "libp2p", "rocksdb", "librocksdb", "did-key"],
    ),
    (&["-p", "dms-storage"], &["actix", "libp2p", "did-key"]),
    (&["-p", "dms-p2p"], &["rocksdb", "librocksdb", "dms-messages", "did-key"]),
];

/// A dependency of one of our packages on another.
#[derive(Debug, Clone)]
struct Arrow {
    from: String,
    to: String,
    /// Whether it takes the default features or names `runtime`.
    with_runtime: bool,
}

/// Says what is wrong with an arrow, if anything is.
fn refuse_arrow(arrow: &Arrow) -> Option<String> {
    let Arrow { from, to, with_runtime } = arrow;
    let Some((_, allowed)) = ARROWS.iter().find(|(package, _)| package == from) else {
        return Some(format!("{from} is not in the plan: give it a line in ARROWS"));
    };
    if !allowed.contains(&to.as_str()) {
        return Some(format!("{from} must not depend on {to}"));
    }
    if from == "dms-messages" && to == "dms-actors" && *with_runtime {
        return Some(format!("{from} must take {to} without its runtime (default-features = false)"));
    }
    None
}

/// Names in `tree` that are forbidden or belong to a forbidden family.
fn forbidden_in<'a>(tree: &'a BTreeSet<String>, forbidden: &[&str]) -> Vec<&'a str> {
    let is_forbidden = |name: &str| {
        forbidden
            .iter()
            .any(|word| name.strip_prefix(word).is_some_and(|rest| rest.is_empty() || rest.starts_with('-')))
    };
    tree.iter().map(String::as_str).filter(|name| is_forbidden(name)).collect()
}

/// What a rule looks for.
#[derive(Debug, Clone, Copy)]
enum Forbidden {
    /// An identifier, wherever it stands.
    Word(&'static str),
    /// `first::second`, also as `first::{…, second, …}`.
    Path(&'static str, &'static str),
}

/// Something that must not be said in some of the sources.
#[derive(Debug)]
struct Rule {
    /// What is looked for.
    forbidden: &'static [Forbidden],
    /// Where: files whose path from the workspace's root begins with one of these.
    places: &'static [&'static str],
    /// Files in those places that may say it.
    except: &'static [&'static str],
    /// Whether test code may not say it either.
    in_tests_too: bool,
    /// Why.
    reason: &'static str,
}

const ANYWHERE: &[&str] = &[""];

/// The rules about sources.
const RULES: &[Rule] = &[
    Rule {
        forbidden: &[Forbidden::Word("unsafe")],
        places: ANYWHERE,
        except: &[],
        in_tests_too: true,
        reason: "our packages are safe Rust",
    },
    Rule {
        forbidden: &[
            Forbidden::Word("unbounded_channel"),
            Forbidden::Word("UnboundedSender"),
            Forbidden::Word("UnboundedReceiver"),
            Forbidden::Path("mpsc", "unbounded"),
        ],
        places: ANYWHERE,
        except: &[],
        in_tests_too: true,
        reason: "every queue has a bound",
    },
    Rule {
        forbidden: &[Forbidden::Word("do_send")],
        places: ANYWHERE,
        except: &[],
        in_tests_too: true,
        reason: "it ignores the mailbox's capacity and drops in silence",
    },
    Rule {
        forbidden: &[Forbidden::Word("dms_p2p")],
        places: &["node/src/"],
        except: &["node/src/startup.rs", "node/src/network.rs"],
        in_tests_too: true,
        reason: "only startup builds the parts and only network joins p2p to actors",
    },
    Rule {
        forbidden: &[Forbidden::Word("RocksEngine")],
        places: &["node/src/"],
        except: &["node/src/startup.rs", "node/src/startup/offline.rs"],
        in_tests_too: true,
        reason: "only startup chooses the engine",
    },
    Rule {
        forbidden: &[
            Forbidden::Word("async"),
            Forbidden::Word("await"),
            Forbidden::Word("tokio"),
            Forbidden::Path("std", "fs"),
            Forbidden::Path("std", "net"),
            Forbidden::Path("std", "process"),
        ],
        places: PURE,
        except: &[],
        in_tests_too: false,
        reason: "decisions are pure: no waiting, no input or output",
    },
    Rule {
        forbidden: &[
            Forbidden::Word("Engine"),
            Forbidden::Word("ScanRange"),
            Forbidden::Word("EventLog"),
            Forbidden::Path("std", "fs"),
            Forbidden::Word("Instant"),
            Forbidden::Word("SystemTime"),
        ],
        places: &["storage/src/books/"],
        except: &[],
        in_tests_too: false,
        reason: "the fold never reads the disk or a clock: live and at rebuild it must do the same",
    },
    Rule {
        forbidden: &[
            Forbidden::Word("SystemTime"),
            Forbidden::Word("spawn_blocking"),
            Forbidden::Word("block_in_place"),
            Forbidden::Path("thread", "spawn"),
            Forbidden::Path("Uuid", "new_v4"),
            Forbidden::Word("HashMap"),
            Forbidden::Word("HashSet"),
        ],
        places: SIMULATED,
        // Work that blocks is handed over here; files have times of the system's kind.
        except: &["actors/src/runtime/blocking.rs", "actors/src/runtime/workers.rs", "node/src/blobs.rs"],
        in_tests_too: false,
        reason: "a simulated node takes time, chance, order and threads from its seams alone: one seed is one run",
    },
];

/// What runs in simulated worlds.
const SIMULATED: &[&str] = &[
    "actors/src/runtime/",
    "messages/src/",
    "node/src/allocation/",
    "node/src/announce.rs",
    "node/src/blobs.rs",
    "node/src/capability/",
    "node/src/directory.rs",
    "node/src/graph/",
    "node/src/handlers/",
    "node/src/job/",
    "node/src/listings/",
    "node/src/network.rs",
    "node/src/node",
    "node/src/notes.rs",
    "node/src/orchestrator/",
    "node/src/signer.rs",
    "storage/src/books",
    "storage/src/store",
];

/// Where only pure decisions live.
const PURE: &[&str] = &["node/src/orchestrator/", "node/src/capability/", "node/src/graph/"];

/// The lines on which `tokens` say what is forbidden.
fn lines_saying(tokens: &[Token], forbidden: Forbidden) -> Vec<usize> {
    match forbidden {
        Forbidden::Word(word) => {
            tokens.iter().filter(|token| token.text == word).map(|token| token.line).collect()
        }
        Forbidden::Path(first, second) => {
            let mut lines = Vec::new();
            for (at, window) in tokens.windows(4).enumerate() {
                if window[0].text != first || window[1].text != ":" || window[2].text != ":" {
                    continue;
                }
                if window[3].text == second {
                    lines.push(window[3].line);
                } else if window[3].text == "{" {
                    lines.extend(lines_in_use_group(&tokens[at + 4..], second));
                }
            }
            lines
        }
    }
}

/// The lines of `select! {` that `biased` does not follow.
fn unbiased_selects(tokens: &[Token]) -> Vec<usize> {
    let is_select = |window: &[Token]| {
        window[0].text == "select"
            && window[1].text == "!"
            && window[2].text == "{"
            && window[3].text != "biased"
    };
    tokens.windows(4).filter(|window| is_select(window)).map(|window| window[0].line).collect()
}

/// The lines of `word` where a name stands directly in the group whose inside begins at `tokens`.
fn lines_in_use_group(tokens: &[Token], word: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let mut depth = 0_usize;
    let mut at_start = true;
    for token in tokens {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            text if depth == 0 && at_start && text == word => lines.push(token.line),
            _ => {}
        }
        at_start = depth == 0 && token.text == ",";
    }
    lines
}

/// Everything wrong with one source file; `path` counts from the workspace's root, with `/`.
fn refuse_source(path: &str, source: &str) -> Vec<String> {
    let mut refusals = Vec::new();
    if !source.starts_with("//!") {
        refusals.push(format!(
            "{path}:1: a file opens with `//!`: what it is for, who calls it, what it refuses"
        ));
    }
    let stream: TokenStream = match source.parse() {
        Ok(stream) => stream,
        Err(error) => {
            refusals.push(format!("{path}: cannot be read as Rust: {error}"));
            return refusals;
        }
    };
    let is_test_file = is_test_file(path);
    let mut all = Vec::new();
    flatten(stream.clone(), true, &mut all);
    let mut shipped = Vec::new();
    if !is_test_file {
        flatten(stream, false, &mut shipped);
    }
    for line in unbiased_selects(&shipped) {
        refusals
            .push(format!("{path}:{line}: `select!` without `biased`: which branch wins must not be chance"));
    }
    for rule in RULES {
        if !rule.places.iter().any(|place| path.starts_with(place)) || rule.except.contains(&path) {
            continue;
        }
        let tokens = if rule.in_tests_too { &all } else { &shipped };
        for forbidden in rule.forbidden {
            for line in lines_saying(tokens, *forbidden) {
                let said = match forbidden {
                    Forbidden::Word(word) => (*word).to_owned(),
                    Forbidden::Path(first, second) => format!("{first}::{second}"),
                };
                refusals.push(format!("{path}:{line}: `{said}`: {}", rule.reason));
            }
        }
    }
    refusals
}

/// Runs `cargo tree` without network and gives its lines.
fn cargo_tree(arguments: &[&str]) -> Vec<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--offline", "--charset", "ascii"])
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("cargo can be started");
    assert!(
        output.status.success(),
        "cargo tree {} failed:\n{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("cargo speaks UTF-8");
    text.lines().map(str::to_owned).collect()
}

/// The names in a tree printed with `--prefix none`.
fn names(lines: &[String]) -> BTreeSet<String> {
    lines.iter().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// Fails with all refusals at once.
fn refuse_none(refusals: &[String]) {
    assert!(refusals.is_empty(), "the plan of the house is broken:\n  {}", refusals.join("\n  "));
}

#[test]
fn our_packages_depend_on_each_other_as_planned() {
    let metadata = metadata();
    let packages = metadata.workspace_packages();
    let ours: BTreeSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
    let planned: BTreeSet<&str> = ARROWS.iter().map(|(package, _)| *package).collect();
    assert_eq!(ours, planned, "every package of the workspace, and no other, has a line in ARROWS");

    let mut refusals = Vec::new();
    for package in &packages {
        for dependency in &package.dependencies {
            let is_ours = ours.contains(dependency.name.as_str());
            if !is_ours && dependency.path.is_some() {
                refusals
                    .push(format!("{} depends on {} outside the workspace", package.name, dependency.name));
            }
            if is_ours {
                refusals.extend(refuse_arrow(&Arrow {
                    from: package.name.to_string(),
                    to: dependency.name.clone(),
                    with_runtime: dependency.uses_default_features
                        || dependency.features.iter().any(|feature| feature == "runtime"),
                }));
            }
        }
    }
    refuse_none(&refusals);
}

#[test]
fn the_resolved_trees_hold_nothing_foreign() {
    let mut refusals = Vec::new();
    for (arguments, forbidden) in UNREACHABLE {
        let lines = cargo_tree(&[&["-e", "normal", "--prefix", "none"], *arguments].concat());
        let tree = names(&lines);
        assert!(tree.contains(arguments[1]), "the tree of {} was not read", arguments[1]);
        for name in forbidden_in(&tree, forbidden) {
            refusals.push(format!("{name} is in the tree of {}", arguments[1..].join(" ")));
        }
    }
    refuse_none(&refusals);
}

#[test]
fn only_the_node_takes_did_key() {
    let lines =
        cargo_tree(&["--workspace", "-e", "all", "-i", "did-key", "--depth", "1", "--prefix", "depth"]);
    let takers: BTreeSet<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix('1'))
        .filter_map(|line| line.split_whitespace().next())
        // Features are nodes of this tree as well, named `did-key feature "…"`.
        .filter(|name| *name != "did-key")
        .collect();
    assert_eq!(takers, BTreeSet::from(["dms-node"]));
}

#[test]
fn the_sources_keep_the_rules() {
    let refusals: Vec<String> =
        sources().iter().flat_map(|(path, source)| refuse_source(path, source)).collect();
    refuse_none(&refusals);
}

#[test]
fn the_rules_still_have_something_to_watch() {
    let sources = sources();
    for path in RULES.iter().flat_map(|rule| rule.except) {
        assert!(sources.contains_key(*path), "{path} is excepted from a rule but does not exist");
    }
    for place in PURE {
        assert!(sources.keys().any(|path| path.starts_with(place)), "{place} holds no source");
    }
    let storage_says_engine = sources
        .iter()
        .filter(|(path, _)| path.starts_with("storage/src/"))
        .any(|(_, source)| source.contains("struct RocksEngine"));
    assert!(storage_says_engine, "the engine was renamed: mend its rule");
}

#[test]
fn forbidden_arrows_are_refused() {
    let arrow = |from: &str, to: &str, with_runtime| {
        refuse_arrow(&Arrow { from: from.to_owned(), to: to.to_owned(), with_runtime })
    };
    for (from, to) in [
        ("dms-actors", "dms-messages"),
        ("dms-actors-macros", "dms-actors"),
        ("dms-messages", "dms-actors-macros"),
        ("dms-messages", "dms-p2p"),
        ("dms-messages", "dms-storage"),
        ("dms-p2p", "dms-messages"),
        ("dms-storage", "dms-actors"),
        ("dms-storage", "dms-p2p"),
        ("dms-p2p", "dms-node"),
        ("dms-node", "dms-tests"),
        ("dms-new", "dms-actors"),
    ] {
        assert!(arrow(from, to, false).is_some(), "{from} -> {to} was let through");
    }
    assert!(arrow("dms-messages", "dms-actors", true).is_some(), "messages took the runtime");
    assert_eq!(arrow("dms-messages", "dms-actors", false), None);
    assert_eq!(arrow("dms-p2p", "dms-actors", true), None);
    assert_eq!(arrow("dms-node", "dms-storage", true), None);
}

#[test]
fn foreign_crates_are_found_in_a_tree() {
    let lines = [
        "dms-messages v0.1.0 (/x)",
        "tokio-util v0.7.0",
        "tokio v1.0.0 (*)",
        "tokiox v1.0.0",
        "serde v1.0.0",
    ];
    let tree = names(&lines.map(str::to_owned));
    assert_eq!(forbidden_in(&tree, &["tokio"]), ["tokio", "tokio-util"]);
    assert!(forbidden_in(&tree, &["actix", "libp2p"]).is_empty());
}

#[test]
fn forbidden_words_are_refused() {
    for (path, body) in [
        ("actors/src/a.rs", "fn f() { unsafe { g() } }"),
        ("actors/src/a.rs", "#[unsafe(no_mangle)] fn f() {}"),
        ("tests/tests/a.rs", "#[cfg(test)] mod tests { fn f() { unsafe { g() } } }"),
        ("p2p/src/a.rs", "fn f() { let (a, b) = tokio::sync::mpsc::unbounded_channel(); }"),
        ("p2p/src/a.rs", "use tokio::sync::mpsc::{Receiver, UnboundedSender};"),
        ("p2p/src/a.rs", "fn f() { let (a, b) = futures::channel::mpsc::unbounded(); }"),
        ("actors/src/a.rs", "fn f() { address.do_send(message); }"),
        ("p2p/src/a.rs", "async fn f() { tokio::select! { () = g() => {} } }"),
        ("node/src/handlers/a.rs", "fn f() { let now = std::time::SystemTime::now(); }"),
        ("node/src/job/a.rs", "fn f() { tokio::task::spawn_blocking(g); }"),
        ("messages/src/a.rs", "use std::collections::{BTreeMap, HashMap};"),
        ("node/src/api/a.rs", "use dms_p2p::Event;"),
        ("node/src/api/a.rs", "#[cfg(test)] mod tests { use dms_p2p::Event; }"),
        ("node/src/network.rs", "use dms_storage::RocksEngine;"),
        ("node/src/orchestrator/a.rs", "async fn f() {}"),
        ("node/src/orchestrator/a.rs", "fn f() { let a = async { 1 }; }"),
        ("node/src/orchestrator/deep/a.rs", "macro_rules! m { () => { f().await } }"),
        ("node/src/capability/a.rs", "use tokio::time::Instant;"),
        ("node/src/capability/a.rs", "fn f() { std::fs::remove_file(path); }"),
        ("node/src/capability/a.rs", "use std::{collections::BTreeMap, fs};"),
        ("node/src/capability/a.rs", "use std::{fmt, fs::File};"),
        ("node/src/capability/a.rs", "use std::{collections::{BTreeMap}, net::IpAddr};"),
        ("node/src/capability/a.rs", "#[cfg(test)] use std::fmt; use std::fs;"),
        ("node/src/capability/a.rs", "#[cfg(test)] mod tests {} fn f() { std::fs::read(path); }"),
        ("node/src/capability/a.rs", "#[cfg(not(test))] fn f() { std::fs::read(path); }"),
    ] {
        let refusals = refuse_source(path, &format!("//! Sample.\n{body}\n"));
        assert!(!refusals.is_empty(), "let through in {path}: {body}");
        assert!(refusals.iter().all(|refusal| refusal.starts_with(&format!("{path}:2:"))), "{refusals:?}");
    }
}

#[test]
fn a_file_without_a_first_word_is_refused() {
    assert_eq!(refuse_source("actors/src/a.rs", "fn f() {}\n").len(), 1);
    assert_eq!(refuse_source("actors/src/a.rs", "").len(), 1);
    assert_eq!(
        refuse_source("actors/src/a.rs", "//! Sample.\nfn f() {\n").len(),
        1,
        "broken Rust is not read"
    );
}

#[test]
fn what_only_looks_forbidden_is_let_through() {
    for (path, body) in [
        ("actors/src/a.rs", "/// Never unsafe, no unbounded_channel, no do_send.\nfn f() {} // unsafe"),
        ("actors/src/a.rs", "const A: &str = \"unsafe { do_send }\"; #[expect(unsafe_code)] fn f() {}"),
        ("tests/tests/a.rs", "use dms_p2p::Event; use dms_storage::RocksEngine; async fn f() {}"),
        ("node/src/network.rs", "use dms_p2p::Event; async fn f() {}"),
        ("node/src/startup.rs", "use dms_p2p::Event; use dms_storage::RocksEngine;"),
        ("node/src/handlers/a.rs", "async fn f() { std::fs::read(path); }"),
        ("p2p/src/a.rs", "async fn f() { tokio::select! { biased; () = g() => {} } }"),
        ("node/src/host.rs", "fn f() { let now = std::time::SystemTime::now(); }"),
        ("node/src/orchestrator/a.rs", "#[cfg(test)] mod tests { use std::fs; async fn f() {} }"),
        ("node/src/orchestrator/a.rs", "#[cfg(test)] #[derive(Debug)] struct A { b: tokio::time::Instant }"),
        ("node/src/orchestrator/tests.rs", "use tokio::time::Instant;"),
        ("node/src/capability/a.rs", "use std::{fmt, collections::{BTreeMap, fs}}; fn f(fs: u8) {}"),
    ] {
        let refusals = refuse_source(path, &format!("//! Sample.\n{body}\n"));
        refuse_none(&refusals);
    }
}
