//! The sources of our packages, for tests that hold them to rules: which files there are, and what they say, as tokens.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::MetadataCommand;
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The workspace's root.
pub fn root() -> PathBuf {
    // Asked when run, not when compiled: a target directory may be shared by several checkouts.
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    Path::new(&manifest).parent().expect("this package is a folder of the workspace").to_owned()
}

/// The manifests of our packages. Without the dependencies': those of other platforms may not be here.
pub fn metadata() -> cargo_metadata::Metadata {
    MetadataCommand::new()
        .current_dir(root())
        .no_deps()
        .other_options(["--locked".to_owned(), "--offline".to_owned()])
        .exec()
        .expect("cargo metadata reads our own manifests")
}

/// Every Rust file of our packages: path from the root (with `/`) and text.
pub fn sources() -> BTreeMap<String, String> {
    let root = root();
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = metadata()
        .workspace_packages()
        .iter()
        .map(|package| {
            package.manifest_path.parent().expect("a manifest has a folder").as_std_path().to_owned()
        })
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of ours can be read") {
            let path = entry.expect("an entry of ours can be read").path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative = path.strip_prefix(&root).expect("it lies under the root");
                let parts: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
                let text = fs::read_to_string(&path).expect("a source of ours is UTF-8");
                found.insert(parts.join("/"), text);
            }
        }
    }
    found
}

/// True if a file (path from the root, with `/`) has nothing but tests: `mod tests;` keeps them in a file of that name.
pub fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.split('/').skip(2).any(|folder| folder == "tests")
}

/// A token that a rule can look at: identifiers, punctuation and brackets, never comments or literals.
#[derive(Debug)]
pub struct Token {
    /// The word, or the sign.
    pub text: String,
    /// Its line, counted from 1.
    pub line: usize,
}

/// The tokens of `stream` in order, without what stands under `#[cfg(test)]` unless `tests_too`.
pub fn flatten(stream: TokenStream, tests_too: bool, into: &mut Vec<Token>) {
    let mut trees = stream.into_iter().peekable();
    let mut skipping = false;
    while let Some(tree) = trees.next() {
        if !tests_too
            && matches!(&tree, TokenTree::Punct(punct) if punct.as_char() == '#')
            && trees.peek().is_some_and(is_cfg_test)
        {
            skipping = true;
        }
        if skipping {
            // An item ends with its body or with a semicolon.
            skipping = match &tree {
                TokenTree::Group(group) => group.delimiter() != Delimiter::Brace,
                TokenTree::Punct(punct) => punct.as_char() != ';',
                TokenTree::Ident(_) | TokenTree::Literal(_) => true,
            };
            continue;
        }
        match tree {
            TokenTree::Ident(ident) => {
                let line = ident.span().start().line;
                into.push(Token { text: ident.to_string(), line });
            }
            TokenTree::Punct(punct) => {
                into.push(Token { text: punct.as_char().to_string(), line: punct.span().start().line });
            }
            TokenTree::Literal(_) => {}
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::None => ("", ""),
                };
                into.push(Token { text: open.to_owned(), line: group.span_open().start().line });
                flatten(group.stream(), tests_too, into);
                into.push(Token { text: close.to_owned(), line: group.span_close().start().line });
            }
        }
    }
}

/// Whether this is the `[cfg(test)]` of an attribute.
fn is_cfg_test(tree: &TokenTree) -> bool {
    matches!(tree, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket
        && group.stream().to_string().replace(' ', "") == "cfg(test)")
}
