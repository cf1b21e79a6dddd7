#!/usr/bin/env bash
# Removes what was built in this folder, and the demo with its server.
. "$(dirname "$0")/common.sh"

say "clean: target, .build, .demo"
if [ -e "$ROOT/.demo" ]; then
    "$ROOT/scripts/cluster.py" remove "$ROOT/.demo"
fi
rm -rf "$ROOT/target" "$ROOT/.build"
