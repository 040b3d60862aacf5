#!/bin/sh

cd "$(dirname "$0")" || exit 1

set -ex
# No key of the person who runs this test is used, and no state of this machine is changed.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export XDG_CONFIG_HOME="$scratch/config" XDG_STATE_HOME="$scratch/state"
unset DO_NOT_TRACK TILT_HONEYCOMB_OPT_OUT

tilt ci >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
cat "$scratch/log"
grep -q "without-key: not started, missing an API key (HONEYCOMB_API_KEY or " "$scratch/log"
grep -q "SUCCESS" "$scratch/log"
tilt down
