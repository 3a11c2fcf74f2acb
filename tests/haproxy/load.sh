#!/usr/bin/env bash
# A thousand switches and RELOADS (default 20) reloads under 2,000 requests a second, none of which may fail: with this machine's
# HAProxy and those of other Debian releases. It takes 45 s for each, or a second for each reload where that is longer.
#
#   tests/haproxy/load.sh [SUITE…]      machine, trixie, testing unless named
set -euo pipefail
cd "$(dirname "$0")/../.."

suites=("$@")
[ ${#suites[@]} -gt 0 ] || suites=(machine trixie testing)
for suite in "${suites[@]}"; do
    if [ "$suite" = machine ]; then
        unset HAPROXY
    else
        HAPROXY=$(tests/haproxy/fetch.sh "$suite")
        export HAPROXY
    fi
    cargo test --locked --quiet --test it -- --ignored --nocapture haproxy::load
done
