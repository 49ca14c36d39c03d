#!/usr/bin/env bash
# Asks a server everything that its own description allows, and holds the answers against it: no
# server error, no status, media type or body that is not described.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
release=${CARGO_TARGET_DIR:-$here/target}/release/tenure
: "${TENURE:=$release}"
: "${EXAMPLES:=100}"
[[ $TENURE != "$release" ]] || cargo build --release --locked --bin tenure
venv=$here/.ci/cache/schemathesis
if ! cmp -s .ci/schemathesis.txt "$venv/installed.txt"; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --requirement .ci/schemathesis.txt
	# Only now, so that an install that broke off is done again.
	cp .ci/schemathesis.txt "$venv/installed.txt"
fi
work=$(mktemp -d)
cd "$work"
server=
stop() {
	[[ -n $server ]] || return 0
	kill "$server" 2>/dev/null || true
	wait "$server" 2>/dev/null || true
	server=
}
trap 'stop; rm -rf "$work"' EXIT
# start [SERVE FLAGS...]
start() {
	stop
	"$TENURE" serve --store memory: --listen 127.0.0.1:0 "$@" 2>log &
	server=$!
	url=
	for _ in $(seq 600); do
		url=$(sed -n 's,.*serving \(http://[^/]*\)/mcp.*,\1,p' log)
		[[ -n $url ]] && break
		sleep 0.1
	done
	[[ -n $url ]] || { cat log; exit 1; }
}
# A watch has no end, and so no body to look at.
# check [RUN FLAGS...]
check() {
	"$venv/bin/schemathesis" ${config:+--config-file "$config"} run "$url/v1/openapi.json" --url "$url" "$@" \
		--exclude-path '/v1/projects/{project}/events' \
		--exclude-path '/v1/tasks/events' --exclude-path '/v1/tasks/{id}/events' \
		--phases examples,coverage,fuzzing --max-examples "$EXAMPLES" --seed 1 \
		--checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance
}
config=
start
curl -sf -X PUT --data '{"a":1}' "$url/v1/projects/acme/resources/agent/planner" >/dev/null
echo "-- any names"
check
echo "-- one resource that is there"
cat >there.toml <<-'TOML'
	[parameters]
	"path.project" = "acme"
	"path.kind" = "agent"
	"path.id" = "planner"
	"path.version" = 1
TOML
config=there.toml
check --include-path-regex '^/v1/projects' --exclude-method DELETE
cat >callers.toml <<-'TOML'
	[[caller]]
	token = "writer"
	owner = "alice"
	projects = { acme = "write" }

	[[caller]]
	token = "reader"
	owner = "bob"
	projects = { acme = "read" }
TOML
start --tokens callers.toml
curl -sf -X PUT --data '{"a":1}' -H 'Authorization: Bearer writer' \
	"$url/v1/projects/acme/resources/agent/planner" >/dev/null
for token in writer reader stranger; do
	echo "-- the same, as $token"
	check --include-path-regex '^/v1/projects' --exclude-method DELETE --header "Authorization: Bearer $token"
done
config=
echo "-- any names, where a condition is demanded"
start --tokens callers.toml --conditions-required
check --header "Authorization: Bearer writer"
