#!/usr/bin/env bash
# The smoke test of a binary that was built for another machine: `tests/smoke.sh BINARY [RUNNER...]`, for example
#
#   tests/smoke.sh .cross/target/aarch64-unknown-linux-gnu/device/portero qemu-aarch64-static -L /usr/aarch64-linux-gnu
#
# The play of `make demo` with that binary as the gateway: a reader on a pseudo-terminal, terminals that talk to the gateway
# itself and a yard behind a real mosquitto, a vendor API and a real PostgreSQL, both of which go away for a while, kill -9
# meanwhile. It ends with 0 only if each event has arrived exactly once at both. Terminals and destinations are native.
#
# Must not: take a word with a blank in it.
set -euo pipefail

[ $# -gt 0 ] || { echo "usage: tests/smoke.sh BINARY [RUNNER...]" >&2; exit 2; }
binary=$(realpath "$1")
shift
cd "$(dirname "$0")/.."

.ci/deps demo
cargo build --locked --quiet --bin portero --example demo
PORTERO_TEST_COMMAND="$* $binary" "${CARGO_TARGET_DIR:-target}/debug/examples/demo" --mosquitto
