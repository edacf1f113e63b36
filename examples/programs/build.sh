#!/bin/sh
# Builds wordcount.wasm, a WASI preview 1 command. Needs only a C compiler with a WASI libc, of which the
# Python wheel is the quickest to get:
#
#     pip install ziglang==0.17.0 && ./build.sh
#
# Another one is named in CC: CC="/opt/wasi-sdk/bin/clang --target=wasm32-wasip1" ./build.sh
# The .wat programs beside it need no building; the node takes the text format as it is.
set -eu
cd "$(dirname "$0")"
CC=${CC:-"python3 -m ziglang cc -target wasm32-wasi"}
$CC -std=c11 -Wall -Wextra -Werror -O2 -s -o wordcount.wasm wordcount.c
rm -f wordcount.o
chmod 644 wordcount.wasm
ls -l wordcount.wasm
