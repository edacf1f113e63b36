//! The READMEs of the packages are true: the diagram of each package's layers shows all of its modules, and no module uses
//! one that stands above it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use dms_tests::sources::{Token, flatten, is_test_file, root, sources};
use proc_macro2::TokenStream;

/// The packages that have layers.
const PACKAGES: [&str; 5] = ["actors", "messages", "p2p", "storage", "node"];
/// Every folder that people open first.
const FOLDERS: [&str; 8] =
    ["actors", "actors/macros", "messages", "p2p", "storage", "node", "examples", "tests"];
/// What stands above a diagram.
const HEADING: &str = "## The layers";

/// The diagram of a README: the modules of each layer, from the top. Lines without a word divide layers; what else is no
/// word is ornament, and what stands behind a dash is for people.
fn layers(readme: &str) -> Vec<BTreeSet<String>> {
    let after = readme.split_once(HEADING).map_or("", |(_, after)| after);
    let block = after.split("```").nth(1).unwrap_or("");
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let words = |line: &str| -> BTreeSet<String> {
        let drawn = line.split('—').next().unwrap_or_default();
        drawn.split(|c: char| !is_part(c)).filter(|word| !word.is_empty()).map(str::to_owned).collect()
    };
    // The first line says what kind of block it is.
    let lines: Vec<_> = block.lines().skip(1).map(words).collect();
    let layers = lines.split(|words| words.is_empty());
    layers
        .map(|lines| lines.iter().flatten().cloned().collect())
        .filter(|it: &BTreeSet<_>| !it.is_empty())
        .collect()
}

/// The tokens of a source, without its tests.
fn tokens(path: &str, source: &str) -> Vec<Token> {
    let stream: TokenStream = source.parse().unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut tokens = Vec::new();
    flatten(stream, false, &mut tokens);
    tokens
}

/// The names that stand first in each path of a group, or of a single path, that begins at `tokens`.
fn first_names(tokens: &[Token]) -> Vec<&str> {
    let Some(first) = tokens.first() else { return Vec::new() };
    if first.text != "{" {
        return vec![&first.text];
    }
    let (mut names, mut depth, mut is_first) = (Vec::new(), 0_usize, true);
    for token in &tokens[1..] {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" if depth == 0 => break,
            "}" => depth -= 1,
            "," if depth == 0 => {
                is_first = true;
                continue;
            }
            name if depth == 0 && is_first => names.push(name),
            _ => {}
        }
        is_first = false;
    }
    names
}

/// What stands behind each `word::`.
fn behind<'t>(tokens: &'t [Token], word: &str) -> Vec<&'t str> {
    let is_path =
        |at: &usize| tokens[*at].text == word && tokens[*at + 1].text == ":" && tokens[*at + 2].text == ":";
    let places = (0..tokens.len().saturating_sub(3)).filter(is_path);
    places.flat_map(|at| first_names(&tokens[at + 3..])).collect()
}

/// A package as its sources have it: each module, and the other modules of the package that it uses.
fn uses(package: &str, sources: &BTreeMap<String, String>) -> BTreeMap<String, BTreeSet<String>> {
    let folder = format!("{package}/src/");
    let files = sources.iter().filter_map(|(path, text)| Some((path.strip_prefix(&folder)?, path, text)));
    let is_shipped =
        |within: &str, path: &str| !is_test_file(path) && within != "main.rs" && !within.starts_with("bin/");
    let files = files.filter(|(within, path, _)| is_shipped(within, path));
    let read: Vec<_> = files.map(|(within, path, text)| (within, tokens(path, text))).collect();
    let module = |within: &str| within.split(['/', '.']).next().unwrap_or_default().to_owned();
    let (root, rest): (Vec<_>, Vec<_>) = read.iter().partition(|(within, _)| *within == "lib.rs");
    let modules: BTreeSet<String> = rest.iter().map(|(within, _)| module(within)).collect();
    // What the package's root gives out by a module's name.
    let mut given_out: BTreeMap<&str, &str> = BTreeMap::new();
    for (_, tokens) in &root {
        for name in &modules {
            given_out.extend(behind(tokens, name).into_iter().map(|item| (item, name.as_str())));
        }
    }
    let mut uses: BTreeMap<String, BTreeSet<String>> =
        modules.iter().map(|name| (name.clone(), BTreeSet::new())).collect();
    for (within, tokens) in &rest {
        let from = module(within);
        let mut named = behind(tokens, "crate");
        if !within.contains('/') {
            named.extend(behind(tokens, "super"));
        }
        let used = named.into_iter().map(|name| given_out.get(name).copied().unwrap_or(name));
        let used = used.filter(|name| modules.contains(*name) && *name != from).map(str::to_owned);
        uses.entry(from.clone()).or_default().extend(used);
    }
    uses
}

/// What is wrong with a diagram.
fn refusals(layers: &[BTreeSet<String>], uses: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let mut refusals = Vec::new();
    let line = |name: &str| layers.iter().position(|layer| layer.contains(name));
    for name in layers.iter().flatten() {
        if !uses.contains_key(name) {
            refusals.push(format!("{name} is in the diagram, and is no module"));
        }
        if layers.iter().filter(|layer| layer.contains(name)).count() > 1 {
            refusals.push(format!("{name} is in the diagram twice"));
        }
    }
    for (from, used) in uses {
        let Some(stands) = line(from) else {
            refusals.push(format!("{from} is not in the diagram"));
            continue;
        };
        let above = used.iter().filter(|to| line(to).is_some_and(|line| line < stands));
        refusals.extend(above.map(|to| format!("{from} uses {to}, which stands above it")));
    }
    refusals
}

#[test]
fn the_diagram_of_each_package_is_true() {
    let sources = sources();
    let mut wrong = Vec::new();
    for package in PACKAGES {
        let readme = fs::read_to_string(root().join(package).join("README.md"));
        let readme = readme.unwrap_or_else(|error| panic!("{package}/README.md: {error}"));
        let layers = layers(&readme);
        assert!(layers.len() > 1, "{package}/README.md has no diagram under {HEADING:?}");
        let uses = uses(package, &sources);
        assert!(uses.values().any(|used| !used.is_empty()), "nothing was read of {package}");
        wrong.extend(refusals(&layers, &uses).into_iter().map(|what| format!("{package}/README.md: {what}")));
    }
    assert!(wrong.is_empty(), "the diagrams are not true:\n  {}", wrong.join("\n  "));
}

#[test]
fn every_folder_says_what_it_is() {
    for folder in FOLDERS {
        let path = root().join(folder).join("README.md");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(text.starts_with("# "), "{folder}/README.md has a title");
        assert!(text.lines().count() > 5, "{folder}/README.md says something");
    }
}

#[test]
fn a_wrong_diagram_is_refused() {
    let readme = |block: &str| format!("# x\n{HEADING}\n\nwords\n\n```text\n{block}\n```\n");
    let sources = BTreeMap::from(
        [
            ("x/src/lib.rs", "mod a; mod b; mod c; pub use self::b::{Thing, other::Other};"),
            ("x/src/a.rs", "use crate::{b, c::{self, d}}; fn f() { let text = \"crate::z\"; }"),
            ("x/src/b.rs", "use super::c; #[cfg(test)] mod tests { use crate::a; }"),
            ("x/src/c.rs", "fn f() {}"),
            ("x/src/c/d.rs", "fn f() {}"),
            ("y/src/c.rs", "use crate::a;"),
        ]
        .map(|(path, text)| (path.to_owned(), text.to_owned())),
    );
    let named = |names: &[&str]| -> BTreeSet<String> { names.iter().map(|it| (*it).to_owned()).collect() };
    let known = uses("x", &sources);
    assert_eq!((&known["a"], &known["b"], &known["c"]), (&named(&["b", "c"]), &named(&["c"]), &named(&[])));
    assert_eq!(
        refusals(&layers(&readme("  a   — what b is for\n  │\n b \n c")), &known),
        Vec::<String>::new()
    );
    assert_eq!(refusals(&layers(&readme("a b\nc")), &known), Vec::<String>::new(), "one layer in two lines");
    for (block, what) in [
        ("a\n|\nc\n|\nb", "b uses c, which stands above it"),
        ("a\n|\nb", "c is not in the diagram"),
        ("a\n|\nb\n|\nc d", "d is in the diagram, and is no module"),
        ("a\n|\nb c\n|\nc", "c is in the diagram twice"),
    ] {
        let found = refusals(&layers(&readme(block)), &known);
        assert!(found.iter().any(|it| it == what), "{block}: {found:?}");
    }
    // A name that the root gives out stands for its module.
    let mut more = sources.clone();
    more.insert("x/src/c.rs".to_owned(), "use crate::Thing;".to_owned());
    assert_eq!(uses("x", &more)["c"], named(&["b"]));
}
