#!/usr/bin/env bash
# Installs the official clients that the tests run, exactly as the lockfile has them. Quick when nothing changed.
# No package script runs: nothing is downloaded but the packages themselves.
set -euo pipefail
cd "$(dirname "$0")"
exec 9>.install.lock; flock 9
wanted=$(sha256sum package.json package-lock.json | sha256sum)
[ "$(cat node_modules/.installed 2>/dev/null)" = "$wanted" ] && exit 0
command -v npm >/dev/null || { echo "npm is needed to install the official clients (any version; Node.js 24 comes with them)" >&2; exit 1; }
npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
echo "$wanted" > node_modules/.installed
