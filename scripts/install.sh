#!/usr/bin/env bash
# Installs what `make build` has built, or removes it again: `scripts/install.sh install|uninstall`.
#
#   PREFIX    where it is to run from (/usr/local)
#   DESTDIR   put before every path, for packages (empty)
#   BUILT     folder of the programs (target/release)
#   PROGRAMS  which of them (twintier loadgen bench)
set -euo pipefail
cd "$(dirname "$0")/.."
prefix="${PREFIX:-/usr/local}"
root="${DESTDIR:-}$prefix"
built="${BUILT:-${CARGO_TARGET_DIR:-target}/release}"
read -r -a programs <<< "${PROGRAMS:-twintier loadgen bench}"
order="${1:-install}"

bash_folder="$root/share/bash-completion/completions"
zsh_folder="$root/share/zsh/site-functions"
fish_folder="$root/share/fish/vendor_completions.d"
manual="$root/share/man/man1"
unit="$root/lib/systemd/system/twintier.service"
# Beside the programs, where their run path finds it.
library="$root/lib/twintier/libduckdb.so"
documents="$root/share/doc/twintier"

remove() {
    for program in "${programs[@]}"; do
        rm -f "$root/bin/$program" "$bash_folder/$program" "$zsh_folder/_$program" "$fish_folder/$program.fish"
        rm -f "$manual/$program.1" "$manual/$program"-*.1
    done
    rm -f "$unit" "$library"
    rm -rf "$documents"
    rmdir --ignore-fail-on-non-empty "$(dirname "$library")" 2> /dev/null || true
}

install_all() {
    for program in "${programs[@]}"; do
        [ -x "$built/$program" ] || { echo "$built/$program is not built: run \`make build\` first" >&2; exit 1; }
    done
    # Pages of commands that there are no more would stay otherwise.
    remove
    for program in "${programs[@]}"; do
        install -D -m 755 "$built/$program" "$root/bin/$program"
        mkdir -p "$bash_folder" "$zsh_folder" "$fish_folder"
        "$built/$program" completions bash > "$bash_folder/$program"
        "$built/$program" completions zsh > "$zsh_folder/_$program"
        "$built/$program" completions fish > "$fish_folder/$program.fish"
        "$built/$program" man "$manual"
    done
    # DuckDB is a library of its own where it was not compiled from source.
    shared=$(ldd "$built/${programs[0]}" | sed -n 's/.*libduckdb\.so => \(\/.*\) (0x.*/\1/p')
    [ -z "$shared" ] || install -D -m 755 "$shared" "$library"
    install -d "$(dirname "$unit")"
    sed "s|/usr/local/bin/|$prefix/bin/|g" scripts/twintier.service > "$unit"
    chmod 644 "$unit"
    install -D -m 644 -t "$documents" README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT profiles/OBSERVING.md
    echo "installed ${programs[*]} below $root"
}

case "$order" in
    install) install_all ;;
    uninstall) remove ;;
    *) echo "usage: scripts/install.sh install|uninstall" >&2; exit 2 ;;
esac
