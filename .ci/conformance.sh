#!/usr/bin/env bash
# The official conformance suite against the fixtures on a durable server with a file store. The
# counts are asserted: a check that vanished, or was skipped, is not one that passed.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/npm.sh
source .ci/server.sh
work=$(mktemp -d)
trap 'stop_server; rm -rf "$work"' EXIT
build_server
start_server 127.0.0.1:0

suite=("$node" "$packages/@modelcontextprotocol/conformance/dist/index.js" server --url "$url")
tasks=(lifecycle capability-negotiation wire-fields request-state-removal mrtr-input
	request-headers dispatch-and-envelope status-notifications required-task-error
	mrtr-composition)
mkdir "$work/2026-07-28" "$work/2025-11-25" "$work/tasks"
failed=0
for version in 2026-07-28 2025-11-25; do
	"${suite[@]}" --suite all --spec-version $version -o "$work/$version" \
		>"$work/$version.log" 2>&1 || { failed=1; cat "$work/$version.log"; }
done
for scenario in "${tasks[@]}"; do
	"${suite[@]}" --scenario "tasks-$scenario" -o "$work/tasks" \
		>"$work/$scenario.log" 2>&1 || { failed=1; cat "$work/$scenario.log"; }
done
# tasks-status-notifications is skipped by the suite itself; our own tests cover it.
"$node" .ci/count-checks.mjs "$work/2026-07-28" 153 0 || failed=1
"$node" .ci/count-checks.mjs "$work/2025-11-25" 83 0 || failed=1
"$node" .ci/count-checks.mjs "$work/tasks" 44 1 || failed=1
exit $failed
