#!/usr/bin/env bash
# Installs the OpenSSH server and client that the tests of tunnels start, each with a config of its own. Quick when they are
# there. Nothing is started: a server of this machine's own is none of the tests' business.
set -euo pipefail
missing=()
[ -x /usr/sbin/sshd ] || missing+=(openssh-server)
command -v ssh >/dev/null && command -v ssh-keygen >/dev/null || missing+=(openssh-client)
if [ ${#missing[@]} -gt 0 ]; then
    [ "$(id -u)" = 0 ] || { echo "the tests need ${missing[*]}: apt-get install ${missing[*]}" >&2; exit 1; }
    export DEBIAN_FRONTEND=noninteractive
    # Debian starts no service of a package in this run level.
    RUNLEVEL=1 apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null ||
        { apt-get update >/dev/null && RUNLEVEL=1 apt-get install -y --no-install-recommends "${missing[@]}" >/dev/null; }
fi
# Started by root, sshd wants this empty folder; where systemd starts it, systemd makes it.
[ "$(id -u)" != 0 ] || mkdir -p -m 0755 /run/sshd
