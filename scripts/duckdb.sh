#!/usr/bin/env bash
# Prints the folder of a prebuilt libduckdb.so, or nothing where DuckDB is to be compiled from source; on standard
# error it says which, in one line. With --quiet it only answers for what is there already.
#
# The library is a package of the npm registry, fetched by npm itself, kept in the user's cache folder, and used only
# if its hash is the expected one. Exit code 1 only where neither way is open.
set -euo pipefail

package="@duckdb/node-bindings-linux-x64@1.5.6-r.1"
tarball_sha256="1b9f82478539bb9a1d1df44bd103121a12ae52142c07158dc52b97d2ec1d69ff"
library_sha256="3f4962cdd266eab2b479a5b5a4a6d063d279b2954ae814ed00385d553b747633"
folder="${XDG_CACHE_HOME:-$HOME/.cache}/twintier/duckdb-1.5.6-r.1"

quiet=no
[ "${1:-}" = --quiet ] && quiet=yes

say() { [ "$quiet" = yes ] || echo "duckdb: $1" >&2; }

from_source() {
    say "$1; compiling it from source instead (20 minutes on two cores)"
    if ! command -v c++ > /dev/null; then
        if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
            say "installing the C++ compiler that it needs (apt-get install g++)"
            { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y g++; } > /dev/null && exit 0
        fi
        say "it needs a C++ compiler: run apt-get install g++, or install npm, and repeat"
        exit 1
    fi
    exit 0
}

has_hash() { [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$2" ]; }

# Whoever sets DUCKDB_LIB_DIR has a library of their own.
if [ -n "${DUCKDB_LIB_DIR:-}" ]; then
    say "taking the library in DUCKDB_LIB_DIR=$DUCKDB_LIB_DIR"
    echo "$DUCKDB_LIB_DIR"
    exit 0
fi

if [ -f "$folder/libduckdb.so" ]; then
    # The hash of 70 MB takes a moment: it is checked when the library is fetched and by `make deps`.
    if [ "$quiet" = yes ] || has_hash "$folder/libduckdb.so" "$library_sha256"; then
        say "prebuilt library in $folder"
        echo "$folder"
        exit 0
    fi
    rm -f "$folder/libduckdb.so"
    say "the library in $folder had another hash and was removed"
fi
[ "$quiet" = yes ] && exit 0

[ "$(uname -s)-$(uname -m)" = Linux-x86_64 ] || from_source "no prebuilt library for $(uname -s) on $(uname -m)"
getconf GNU_LIBC_VERSION > /dev/null 2>&1 || from_source "the prebuilt library needs glibc"
command -v npm > /dev/null || from_source "npm, which fetches the prebuilt library, is not installed"

say "fetching $package with npm"
mkdir -p "$folder"
work=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
(cd "$work" && timeout 300 npm pack --silent "$package" > npm.log 2>&1) || from_source "npm could not fetch $package"
tarball=$(find "$work" -name '*.tgz' -print -quit)
{ [ -n "$tarball" ] && has_hash "$tarball" "$tarball_sha256"; } || from_source "the fetched package has another hash"
tar -xzf "$tarball" -C "$work"
library=$(find "$work" -name libduckdb.so -print -quit)
{ [ -n "$library" ] && has_hash "$library" "$library_sha256"; } || from_source "the fetched library has another hash"
mv "$library" "$folder/libduckdb.so"
say "prebuilt library in $folder"
echo "$folder"
