#!/bin/sh
# Builds the programs written in C, WASI preview 1 commands. Needs only a C compiler with a WASI libc, of which
# the Python wheel is the quickest to get:
#
#     pip install ziglang==0.17.0 && ./build.sh
#
# Another one is named in CC: CC="/opt/wasi-sdk/bin/clang --target=wasm32-wasip1" ./build.sh
# The .wat programs beside them need no building; the node takes the text format as it is.
set -eu
cd "$(dirname "$0")"
CC=${CC:-"python3 -m ziglang cc -target wasm32-wasi"}
for program in wordcount render mailbox; do
  $CC -std=c11 -Wall -Wextra -Werror -O2 -s -o "$program.wasm" "$program.c" -lm
  rm -f "$program.o"
  chmod 644 "$program.wasm"
  ls -l "$program.wasm"
done
