//! Attributes of the form `#[name(key = value, flag)]`: known keys only, each at most once.

use syn::meta::ParseNestedMeta;
use syn::parse::Parse;
use syn::{Attribute, Meta, Result, Token};

/// Reads every `#[name(…)]` among `attributes` and hands each key to `take`, which reads its value.
pub(crate) fn read(
    name: &str,
    known: &[&'static str],
    attributes: &[Attribute],
    mut take: impl FnMut(&'static str, &ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    let mut seen = Vec::new();
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident(name)) {
        if matches!(attribute.meta, Meta::Path(_)) {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            let Some(key) = known.iter().copied().find(|key| meta.path.is_ident(key)) else {
                return Err(meta.error(format!("unknown key: `#[{name}(…)]` knows {}", list(known))));
            };
            if seen.contains(&key) {
                return Err(meta.error(format!("`{key}` is given twice")));
            }
            seen.push(key);
            take(key, &meta)
        })?;
    }
    Ok(())
}

/// The value behind a key and its `=`.
pub(crate) fn value<T: Parse>(key: &str, meta: &ParseNestedMeta<'_>) -> Result<T> {
    if !meta.input.peek(Token![=]) {
        return Err(meta.error(format!("`{key}` needs a value: `{key} = …`")));
    }
    meta.value()?.parse()
}

/// `` `a`, `b` and `c` ``.
fn list(keys: &[&str]) -> String {
    let quoted: Vec<_> = keys.iter().map(|key| format!("`{key}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => "no keys".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_listed_as_in_a_sentence() {
        assert_eq!(list(&["a"]), "`a`");
        assert_eq!(list(&["a", "b"]), "`a` and `b`");
        assert_eq!(list(&["a", "b", "c"]), "`a`, `b` and `c`");
    }
}
