#!/usr/bin/env bash
# An independent client creates a task, the server is killed in the middle and started again, and a
# new session of the client takes the same task to its result. Without callers, and with two.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/npm.sh
source .ci/server.sh
source .ci/ports.sh
work=$(mktemp -d)
trap 'stop_server KILL; rm -rf "$work"' EXIT
build_server
# Modules are looked for beside the script, not where it is run.
cp .ci/client.mjs "$npm_home/"
client() { timeout 180 "$node" "$npm_home/client.mjs" "$@"; }

# survives [FLAGS...]
survives() {
	local reference address
	address=127.0.0.1:$(spare_ports 1)
	start_server "$address" "$@"
	reference=$(client create "$url")
	sleep 1
	stop_server KILL
	start_server "$address" "$@"
	client resume "$url" "$reference"
	created=$reference
}

echo "-- without callers"
survives
client tour "$url"
stop_server

echo "-- with two callers"
cat >"$work/callers.toml" <<-'TOML'
	[[caller]]
	token = "token-of-alice"
	owner = "alice"

	[[caller]]
	token = "token-of-bob"
	owner = "bob"
TOML
TOKEN=token-of-alice survives --tokens "$work/callers.toml"
TOKEN=token-of-bob client refused "$url" "$created"
TOKEN=token-of-alice client resume "$url" "$created"
[[ $(curl -s -o /dev/null -w '%{http_code}' -X POST "$url") == 401 ]]
echo "-- done"
