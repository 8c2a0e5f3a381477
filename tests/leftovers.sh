#!/usr/bin/env bash
# Fails when a process of this test run is still alive. Nothing is killed: a leftover is a defect to look at.
set -euo pipefail
mark="TIDEGATE_TEST_MARK=${TIDEGATE_TEST_RUN:?run by make test}"
for _ in $(seq 50); do
    left=$(grep -lsazF "$mark" /proc/[0-9]*/environ | cut -d/ -f3 | xargs -r ps -o pid=,args= -p || true)
    [ -z "$left" ] && exit 0
    sleep 0.2
done
printf 'processes left behind by the tests:\n%s\n' "$left" >&2
exit 1
