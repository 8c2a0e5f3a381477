#!/usr/bin/env bash
# Installs the Debian packages that the tests run against. Quick when they are there.
set -euo pipefail
# What is looked for, and the package that brings it.
needed="
/usr/sbin/ip        iproute2
"
missing=$(while read -r file package; do [ -z "$file" ] || [ -e "$file" ] || echo "$package"; done <<<"$needed")
[ -z "$missing" ] && exit 0
[ "$(id -u)" = 0 ] || { echo "the tests need these packages, please install them:" $missing >&2; exit 1; }
apt-get update -qq
# shellcheck disable=SC2086  # one word a package
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
