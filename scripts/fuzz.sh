#!/usr/bin/env bash
# Fuzzes a target of tests/fuzz with coverage feedback, on a stable toolchain and without cargo-fuzz:
#     scripts/fuzz.sh TARGET [SECONDS]
# What it finds on its way stays in tests/fuzz/work, an input that fails in tests/fuzz/artifacts.
set -euo pipefail
cd "$(dirname "$0")/../tests/fuzz"
target=${1:-}
seconds=${2:-120}
if [ ! -f "fuzz_targets/$target.rs" ]; then
    echo "usage: scripts/fuzz.sh TARGET [SECONDS], TARGET one of: $(ls corpus | tr '\n' ' ')" >&2
    exit 2
fi
# What cargo-fuzz passes for coverage; none of it needs a nightly toolchain.
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --target "$triple" --bin "$target"
mkdir -p "work/$target" artifacts
exec "${CARGO_TARGET_DIR:-target}/$triple/release/$target" "work/$target" "corpus/$target" \
    -max_total_time="$seconds" -max_len=4096 -artifact_prefix=artifacts/
