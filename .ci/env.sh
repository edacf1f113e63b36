# shellcheck shell=bash
# What every command of the workshop shares: where things are built, where tools are kept, how to speak.
# Sourced by the Makefile and the scripts beside it; installs nothing (that is setup.sh).
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
cd "$root"

# Outside the checkout, so that a fresh clone does not compile RocksDB and wasmtime again.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$HOME/.cache/dms/target}"
tools="$HOME/.cache/dms/tools"
export CARGO_NET_RETRY="${CARGO_NET_RETRY:-5}"

# rustup's own environment file, for shells that were never told about it.
if ! command -v cargo >/dev/null 2>&1 && [ -r "$HOME/.cargo/env" ]; then
  # shellcheck disable=SC1091
  . "$HOME/.cargo/env"
fi

cxx="${CXX:-c++}"
libclang_version=18.1.1
libclang_wheel="$tools/libclang-$libclang_version"
cargo_deny_version=0.20.2
cargo_deny_home="$tools/cargo-deny-$cargo_deny_version"

say() { printf '== %s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
# Says what was left out and why; `.ci/run` repeats it at the end. Tests may append lines to the same file.
skip() {
  printf 'skipped: %s\n' "$*"
  if [ -n "${DMS_SKIP_LOG:-}" ]; then printf '%s\n' "$*" >>"$DMS_SKIP_LOG"; fi
}

# Runs a command, then prints what its suites have shown, one line each with the counts; also if some failed.
with_proofs() {
  local status=0 ours=""
  if [ -z "${DMS_PROOF_LOG:-}" ]; then
    ours="$(mktemp)"
    export DMS_PROOF_LOG="$ours"
  fi
  "$@" || status=$?
  if [ -s "$DMS_PROOF_LOG" ]; then
    say "shown:"
    sort "$DMS_PROOF_LOG" | sed 's/^/  /'
  fi
  if [ -n "$ours" ]; then rm -f "$ours"; fi
  return "$status"
}

# The suites that have a full size, one after another: each wants the machine for itself. What else there is has one
# size only, and `test` runs it.
soak_suites=(torn slots model sim graph sync_before_word disk_full floods crash_matrix)
soak() {
  local suite failed=()
  export DMS_SOAK=1
  if [ $# -eq 0 ]; then set -- "${soak_suites[@]}"; fi
  for suite in "$@"; do
    say "soak: $suite"
    if [ -e "tests/tests/$suite.rs" ]; then
      cargo test --workspace --locked --test "$suite" -- --nocapture || failed+=("$suite")
    else
      # Beside the code that it is about.
      cargo test --workspace --locked --lib -- "$suite" --nocapture || failed+=("$suite")
    fi
  done
  [ ${#failed[@]} -eq 0 ] || fail "failed: ${failed[*]}"
}

# Twenty nodes under load for so many hours: the one suite that is about time.
endure() {
  say "soak: endurance, $1 h"
  DMS_SOAK_HOURS="$1" cargo test --workspace --locked --test endurance -- --nocapture
}

# Prints the first of its arguments that exists (an unmatched pattern does not).
first_existing() {
  local path
  for path in "$@"; do
    case "$path" in *-cpp.*) continue ;; esac
    if [ -e "$path" ]; then
      printf '%s\n' "$path"
      return 0
    fi
  done
  return 1
}

# The places where clang-sys, which loads libclang for the RocksDB bindings, looks as well.
find_system_libclang() {
  if [ -n "${LIBCLANG_PATH:-}" ]; then
    first_existing "$LIBCLANG_PATH"/libclang*.so* "$LIBCLANG_PATH"/libclang.dylib "$LIBCLANG_PATH" && return 0
  fi
  first_existing \
    /usr/lib/llvm-*/lib/libclang.so* /usr/lib/llvm-*/lib/libclang-*.so* \
    /usr/lib/*-linux-gnu*/libclang.so* /usr/lib/*-linux-gnu*/libclang-*.so* \
    /usr/lib64/libclang.so* /usr/lib/libclang.so* /usr/local/lib/libclang.so* /usr/local/llvm*/lib/libclang.so* \
    /usr/lib64/llvm*/lib*/libclang.so* /usr/lib/llvm*/lib/libclang.so* \
    /Library/Developer/CommandLineTools/usr/lib/libclang.dylib \
    /Applications/Xcode.app/Contents/Developer/Toolchains/XcodeDefault.xctoolchain/usr/lib/libclang.dylib \
    /opt/homebrew/opt/llvm/lib/libclang.dylib /usr/local/opt/llvm/lib/libclang.dylib
}

find_wheel_libclang() {
  first_existing "$libclang_wheel"/clang/native/libclang.so "$libclang_wheel"/clang/native/libclang.dylib
}

# Points the build at the libclang from the wheel where the system has none. The wheel carries no C
# headers of its own (stddef.h and friends), so those of the compiler are lent to it.
use_libclang() {
  if find_system_libclang >/dev/null; then return 0; fi
  local library
  library="$(find_wheel_libclang)" || return 1
  LIBCLANG_PATH="$(dirname "$library")"
  export LIBCLANG_PATH
  if [ -z "${BINDGEN_EXTRA_CLANG_ARGS:-}" ]; then
    BINDGEN_EXTRA_CLANG_ARGS="-isystem $(cc -print-file-name=include)"
    export BINDGEN_EXTRA_CLANG_ARGS
  fi
}

# Prints the path of the pinned cargo-deny, the user's own if it is that version.
find_cargo_deny() {
  local candidate
  for candidate in "$cargo_deny_home/bin/cargo-deny" "$(command -v cargo-deny || true)"; do
    if [ -x "$candidate" ] && [ "$("$candidate" --version 2>/dev/null)" = "cargo-deny $cargo_deny_version" ]; then
      printf '%s\n' "$candidate"
      return 0
    fi
  done
  return 1
}

use_libclang || true
