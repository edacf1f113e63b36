//! The README's first program is as short as it says. (That it compiles is for the doctests.)

use std::fs;
use std::path::PathBuf;

#[test]
fn the_local_program_has_at_most_15_lines() {
    // Asked when run: a target directory may be shared by several checkouts.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").unwrap());
    let page = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, after) = page.split_once("\n```rust\n").unwrap();
    let (program, _) = after.split_once("\n```").unwrap();
    assert!(program.contains("async fn main"), "{program}");
    assert!(program.lines().filter(|line| !line.trim().is_empty()).count() <= 15, "{program}");
}
