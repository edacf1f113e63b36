#!/usr/bin/env bash
# Brings a machine to the point where everything builds: checks the compilers, installs libclang if it is
# missing. Changes nothing and asks nothing where all is there, so every target of the Makefile runs it first.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# True if version $1 is at least version $2 (dots between numbers; what follows a dash is ignored).
at_least() {
  awk -v have="${1%%-*}" -v want="$2" 'BEGIN {
    split(have, h, "."); n = split(want, w, ".")
    for (i = 1; i <= n; i++) { if (h[i] + 0 > w[i] + 0) exit 0; if (h[i] + 0 < w[i] + 0) exit 1 }
    exit 0
  }'
}

check_rust() {
  local want have
  want="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)"
  [ -n "$want" ] || fail "Cargo.toml names no rust-version"
  command -v cargo >/dev/null 2>&1 ||
    fail "cargo was not found: DMS needs Rust $want or newer, from rustup or your distribution"
  have="$(rustc --version | awk '{ print $2 }')"
  at_least "$have" "$want" || fail "Rust $have is too old: DMS needs $want or newer (rustup update stable)"
}

check_cxx() {
  # Compiled, not only asked for its version: an old compiler may know the flag and lack the library.
  printf '#include <concepts>\n#include <span>\nstd::integral auto one() { return 1; }\nint main() { return one() - 1; }\n' |
    "$cxx" -std=c++20 -fsyntax-only -x c++ - >/dev/null 2>&1 ||
    fail "no working C++20 compiler as '$cxx': RocksDB needs one (Debian: apt-get install g++, 10 or newer;
       macOS: xcode-select --install; another compiler: set CXX)"
}

apt() { env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@" </dev/null; }
apt_as_root() {
  if [ "$(id -u)" = 0 ]; then
    apt update && apt install -y libclang-dev
  else
    # -n: never ask for a password; somebody who has to give one rather takes the wheel.
    sudo -n env DEBIAN_FRONTEND=noninteractive sh -c \
      'apt-get -qq -o DPkg::Lock::Timeout=300 update && apt-get -qq -o DPkg::Lock::Timeout=300 install -y libclang-dev' </dev/null
  fi
}

install_libclang() {
  say "setup: libclang, which the RocksDB bindings need, is missing: installing it"
  local log
  log="$(mktemp)"
  if command -v apt-get >/dev/null 2>&1 && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }; then
    if apt_as_root >"$log" 2>&1 && find_system_libclang >/dev/null; then
      rm -f "$log"
      say "setup: installed Debian's libclang-dev"
      return 0
    fi
    tail -n 5 "$log" >&2
    say "setup: apt-get could not install libclang-dev; taking the Python wheel"
  fi
  # --target needs neither root nor a virtual environment, and leaves the system's Python alone.
  if python3 -m pip install --quiet --no-deps --upgrade --target "$libclang_wheel" "libclang==$libclang_version" \
    >"$log" 2>&1 </dev/null && use_libclang; then
    rm -f "$log"
    say "setup: installed libclang $libclang_version to $libclang_wheel"
    return 0
  fi
  tail -n 5 "$log" >&2
  rm -f "$log"
  fail "libclang could not be installed. Install it and try again:
       Debian, Ubuntu: apt-get install libclang-dev      Fedora: dnf install clang-devel
       macOS: xcode-select --install                     elsewhere: give Python its pip and run this again,
       or set LIBCLANG_PATH to the directory that holds it"
}

# cargo takes a file for unchanged if it is older than what was built from it, and does not know one
# checkout from another: with a shared target directory an older checkout would run the newer one's code.
# So our own packages (never the dependencies) are built afresh when another checkout was here before.
claim_target_directory() {
  local owner="$CARGO_TARGET_DIR/.checkout"
  mkdir -p "$CARGO_TARGET_DIR"
  if [ "$(cat "$owner" 2>/dev/null || true)" != "$root" ]; then
    if [ -d "$CARGO_TARGET_DIR/debug" ]; then
      say "setup: $CARGO_TARGET_DIR was last used by another checkout: our own packages will be rebuilt"
      cargo clean --workspace --quiet --locked
    fi
    printf '%s\n' "$root" >"$owner"
  fi
}

check_rust
check_cxx
use_libclang || install_libclang
claim_target_directory
