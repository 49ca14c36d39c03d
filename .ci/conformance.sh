#!/usr/bin/env bash
# The official conformance suite against the fixtures on a durable server with a file store; the
# tasks also against one with callers. The counts are asserted: a check that vanished, or was
# skipped, is not one that passed.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/npm.sh
source .ci/server.sh
work=$(mktemp -d)
proxy_pid=
trap 'stop_server; [[ -z $proxy_pid ]] || kill "$proxy_pid" 2>/dev/null || true; rm -rf "$work"' EXIT
build_server
failed=0

# check NAME URL FLAGS...: the results go to the folder NAME.
check() {
	local log=$work/$1.log
	mkdir -p "$work/$1"
	"$node" "$packages/@modelcontextprotocol/conformance/dist/index.js" server \
		--url "$2" -o "$work/$1" "${@:3}" >"$log" 2>&1 || { failed=1; cat "$log"; }
}

# check_tasks NAME URL
check_tasks() {
	local scenario
	for scenario in lifecycle capability-negotiation wire-fields request-state-removal mrtr-input \
		request-headers dispatch-and-envelope status-notifications required-task-error \
		mrtr-composition; do
		check "$1" "$2" --scenario "tasks-$scenario"
	done
	# tasks-status-notifications is skipped by the suite itself; our own tests cover it.
	"$node" .ci/count-checks.mjs "$work/$1" 44 1 || failed=1
}

start_server 127.0.0.1:0
for version in 2026-07-28 2025-11-25; do
	check $version "$url" --suite all --spec-version $version
done
"$node" .ci/count-checks.mjs "$work/2026-07-28" 153 0 || failed=1
"$node" .ci/count-checks.mjs "$work/2025-11-25" 83 0 || failed=1
check_tasks tasks "$url"
stop_server

cat >"$work/callers.toml" <<-'TOML'
	[[caller]]
	token = "token-of-the-suite"
	owner = "suite"
TOML
start_server 127.0.0.1:0 --tokens "$work/callers.toml"
[[ $(curl -s -o /dev/null -w '%{http_code}' -X POST "$url") == 401 ]]
# The suite cannot bring a token.
: >"$work/proxy.url"
"$node" .ci/bearer.mjs "$url" token-of-the-suite >"$work/proxy.url" &
proxy_pid=$!
for _ in $(seq 600); do [[ -s $work/proxy.url ]] && break; sleep 0.1; done
check_tasks tasks-with-a-token "$(<"$work/proxy.url")"
exit $failed
