#!/usr/bin/env bash
# One walk with curl, the command line and the official MCP client, across two servers on one store,
# one of which is killed in the middle and started again. On a file, and then on Redis.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
release=${CARGO_TARGET_DIR:-$here/target}/release/tenure
: "${TENURE:=$release}"
[[ $TENURE != "$release" ]] || cargo build --release --locked --bin tenure
source .ci/npm.sh
source .ci/redis-server.sh
work=$(mktemp -d)
declare -A pids
# Each by itself, and waited for: the file goes with its folder, and Redis after its clients.
stop() {
	for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
	pids=()
}
trap 'stop; stop_redis; rm -rf "$work"' EXIT
fail() { echo "walk: $*" >&2; exit 1; }

# serve NAME ADDRESS: sets `url_NAME`.
serve() {
	: >"$1.log"
	"$TENURE" serve --store "$store" --project acme --listen "$2" 2>"$1.log" &
	pids[$1]=$!
	local url
	for _ in $(seq 600); do
		url=$(sed -n 's,.*serving \(http://[^/]*\)/mcp.*,\1,p' "$1.log")
		[[ -n $url ]] && { declare -g "url_$1=$url"; return; }
		sleep 0.1
	done
	cat "$1.log" >&2
	fail "the server $1 did not start"
}

# until_true COMMAND...: for a minute, also on a machine that stands still now and then.
until_true() {
	local left=600
	until "$@"; do
		((left-- > 0)) || fail "it never came true: $*"
		sleep 0.1
	done
}

# Modules are looked for beside the script, not where it is run.
cp .ci/client.mjs "$npm_home/"
# mcp MODE [URI]: the client, at the server that is killed.
mcp() { timeout 180 "$node" "$npm_home/client.mjs" "$1" "$url_two/mcp" "${@:2}"; }

# told COUNT: that many notifications of the subscription that is open, or was last.
told() {
	awk -v least="$1" '/^ended/ { told = 0 } /^updated/ { told++ } END { exit told < least }' mcp.out
}

# lists FILE COUNT: that many notifications that a list has changed.
lists() { [[ $(grep -cs '^list changed' "$1") -ge $2 ]]; }

# subscribed COUNT: so often.
subscribed() { [[ $(grep -cs '^subscribed' mcp.out) -ge $1 ]]; }

# walk STORE
walk() {
	local store=$1 first second third item uri address code status helper before
	mkdir "$work/${store%%:*}"
	cd "$work/${store%%:*}"
	echo "== on ${store%%:*}"

	serve one 127.0.0.1:0
	address=127.0.0.1:$(spare_ports 1)
	serve two "$address"
	item=v1/projects/acme/resources/agent/planner

	echo "-- curl creates on one server, the command line reads from the other"
	printf '{"model": "small", "steps": [1, 2]}' >planner.json
	curl -sf -D headers -X PUT -H 'If-None-Match: *' --data @planner.json "$url_one/$item" >/dev/null
	first=$(sed -n 's/^etag: "\(.*\)".*/\1/ip' headers)
	[[ -n $first ]] || fail "no ETag: $(cat headers)"
	"$TENURE" resources get acme agent/planner --server "$url_two" | grep "^# ETag: $first" >/dev/null

	echo "-- watches on the other server: the command line, and an MCP client"
	"$TENURE" resources watch acme agent/ --server "$url_two" >watch.out &
	pids[watch]=$!
	until_true grep -qs primed watch.out
	uri=tenure://acme/agent/planner
	[[ $(mcp list) == "$uri" ]]
	[[ $(mcp read "$uri") == '{"model":"small","steps":[1,2]}' ]]
	"$node" "$npm_home/client.mjs" follow "$url_two/mcp" "$uri" >mcp.out &
	pids[mcp]=$!
	until_true subscribed 1
	# Told once when the watch has begun; from there on no change is missed.
	until_true told 1

	echo "-- two writers with one ETag: the second is refused, with what is there"
	printf 'model: large\n' >planner.yaml
	second=$("$TENURE" resources put acme agent/planner -f planner.yaml --if-match "$first" --server "$url_one")
	code=0
	"$TENURE" resources put acme agent/planner -f planner.json --if-match "$first" --server "$url_two" 2>late || code=$?
	[[ $code == 7 ]] || fail "the late writer ended with $code"
	grep -q "$second" late
	status=$(curl -s -o /dev/null -D headers -w '%{http_code}' -X PUT -H "If-Match: \"$first\"" \
		--data @planner.json "$url_two/$item")
	[[ $status == 412 ]] && grep -qi "^etag: \"$second\"" headers || fail "$status $(cat headers)"
	[[ $(curl -s -o /dev/null -w '%{http_code}' -H "If-None-Match: \"$second\"" "$url_two/$item") == 304 ]]
	until_true grep -q "put .*$second" watch.out
	until_true told 2

	echo "-- clients of both revisions are told what the other server does, and that a list has changed"
	helper=tenure://acme/agent/helper
	before=$(grep -c '^list changed' mcp.out || true)
	"$TENURE" resources put acme agent/helper -f planner.yaml --server "$url_one" >/dev/null
	until_true lists mcp.out $((before + 1))
	"$node" "$npm_home/client.mjs" subscribe "$url_one/mcp" "$helper" >old.out &
	pids[old]=$!
	until_true grep -qs '^subscribed' old.out
	printf 'model: medium\n' >helper.yaml
	"$TENURE" resources put acme agent/helper -f helper.yaml --server "$url_two" >/dev/null
	until_true grep -qs "^updated $helper" old.out
	before=$(grep -c '^list changed' old.out || true)
	"$TENURE" resources delete acme agent/helper --server "$url_two" >/dev/null
	until_true lists old.out $((before + 1))

	echo "-- the watched server is killed, the other one goes on, the watch misses nothing"
	kill -KILL "${pids[two]}"
	wait "${pids[two]}" 2>/dev/null || true
	printf 'while: down\n' >down.yaml
	third=$("$TENURE" resources put acme agent/scout -f down.yaml --server "$url_one")
	serve two "$address"
	until_true grep -q "^put .*$third  agent/scout" watch.out
	[[ $(mcp read tenure://acme/agent/scout) == '{"while":"down"}' ]]
	[[ $(curl -sf "$url_two/$item") == '{"model":"large"}' ]]

	echo "-- the MCP client subscribes again, and is told of what the other server does"
	until_true subscribed 2
	until_true told 1
	"$TENURE" resources put acme agent/planner -f planner.json --if-match "$second" --server "$url_one" >/dev/null
	until_true told 2
	[[ $(mcp read "$uri") == '{"model":"small","steps":[1,2]}' ]]
	"$TENURE" resources put acme agent/planner -f planner.yaml --if-match "$first" --server "$url_one" >/dev/null
	until_true told 3

	echo "-- history, revert, export, import"
	"$TENURE" resources history acme agent/planner --server "$url_two" | grep "$first" >/dev/null
	[[ $("$TENURE" resources revert acme agent/planner 1 --server "$url_two") == "$first" ]]
	"$TENURE" resources export acme out --server "$url_one" | grep "written 2" >/dev/null
	"$TENURE" resources import copy out --server "$url_two" | grep "created 2" >/dev/null
	curl -sf "$url_one/v1/projects/copy/resources?kind=agent&values=true" | grep '"while":"down"' >/dev/null
	curl -sf -X DELETE "$url_one/$item"
	until_true grep -q "deleted .*agent/planner" watch.out
	stop
}

walk file:tenure.db
port=$(spare_ports 1)
start_redis "$port"
walk "redis://127.0.0.1:$port"
echo "-- done"
