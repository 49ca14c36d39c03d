#!/usr/bin/env bash
# Three `tenure serve` on one store, a file and then Redis, and an independent client: created on A,
# answered on C, cancelled on B, watched on C, finished by another when A is killed. Then what the
# tests say of replicas on Redis, and 50 kills.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/redis-server.sh
source .ci/npm.sh
cp .ci/client.mjs "$npm_home/"
cargo build --release --locked -p tenure-cli
tenure=${CARGO_TARGET_DIR:-$PWD/target}/release/tenure
work=$(mktemp -d)
pids=()
watching=() # What `watch` began, as long as nobody has waited for it.
stop() {
	# Not -9: each is a timeout, which passes this on.
	for pid in "${watching[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${watching[@]}"; do wait "$pid" 2>/dev/null || true; done
	watching=()
	for pid in "${pids[@]}"; do kill -9 "$pid" 2>/dev/null || true; done
	for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
	pids=()
}
trap 'stop; stop_redis; rm -rf "$work"' EXIT
client() { timeout 180 "$node" "$npm_home/client.mjs" "$@"; }
id_in() { sed 's/.*"taskId":"\([^"]*\)".*/\1/' <<<"$1"; }

# eventually COMMAND...: for a minute, also on a machine that stands still now and then.
eventually() {
	for _ in $(seq 600); do "$@" && return; sleep 0.1; done
	echo "never: $*" >&2
	return 1
}

# serve NAME STORE: a server, whose address is then in url_NAME and its process in pid_NAME.
serve() {
	local log=$work/$1.log
	: >"$log"
	# With the usual heartbeats: nobody stands still for so long that it is taken for dead.
	"$tenure" serve --store "$2" --listen 127.0.0.1:0 2>"$log" &
	pids+=($!)
	declare -g "pid_$1=$!"
	eventually grep -q '^tenure: serving' "$log" || { cat "$log" >&2; return 1; }
	declare -g "url_$1=$(sed -n 's/^tenure: serving \([^,]*\),.*/\1/p' "$log")"
}

# watch REFERENCE: what C pushes of a task, until it ends: to our program, and to the official client.
watch() {
	: >"$work/watched" # Of the last watch there is nothing left to be taken for this one.
	: >"$work/listened"
	timeout 180 "$tenure" tasks watch "$(id_in "$1")" --json --server "${url_c%/mcp}" >"$work/watched" &
	watcher=$!
	watching+=("$watcher")
	# Not by `client`: in the background that is a shell, which would leave its client behind.
	timeout 180 "$node" "$npm_home/client.mjs" listen "$url_c" "$1" >"$work/listened" &
	listener=$!
	watching+=("$listener")
	eventually test -s "$work/watched"
	eventually grep -qx listening "$work/listened"
}

watched_until() {
	local status=0 expected=0
	[[ $1 == cancelled ]] && expected=9
	wait "$listener" || status=$?
	watching=("$watcher")
	((status == 0)) || { cat "$work/listened" >&2; return 1; }
	tail -n 1 "$work/listened" | grep "^$1" >/dev/null || { cat "$work/listened" >&2; return 1; }
	wait "$watcher" || status=$?
	watching=()
	((status == expected)) || { cat "$work/watched" >&2; return 1; }
	tail -n 1 "$work/watched" | grep "\"status\":\"$1\"" >/dev/null || { cat "$work/watched" >&2; return 1; }
}

act_as_one() {
	local reference begun
	echo "-- three servers on $1"
	serve a "$1"; serve b "$1"; serve c "$1"

	reference=$(client create "$url_a" approve '{"what":"it"}')
	waits() { "$tenure" tasks get "$(id_in "$reference")" --json --server "${url_b%/mcp}" | grep input_required >/dev/null; }
	eventually waits
	watch "$reference"
	[[ $(client resume "$url_c" "$reference") == "it: approved" ]]
	watched_until completed

	reference=$(client create "$url_a" report '{"topic":"waste","section_ms":60000}')
	watch "$reference"
	client cancel "$url_b" "$reference"
	watched_until cancelled

	reference=$(client create "$url_a" report '{"topic":"survival","section_ms":500}')
	watch "$reference"
	eventually grep -q '1 of 12 sections' "$work/watched"
	kill -9 "$pid_a"
	begun=$SECONDS
	client resume "$url_b" "$reference" | tee "$work/report"
	begun=$((SECONDS - begun))
	echo "finished $begun s after the kill"
	# The heartbeat timeout, the sections that were left, and a machine that stands still.
	((begun <= 5 + 6 + 15))
	grep -q 'section 1 of survival, written in attempt 1' "$work/report"
	grep -q 'section 12 of survival, written in attempt 2' "$work/report"
	watched_until completed
	stop
}

act_as_one "file:$work/tenure.db"

port=$(spare_ports 1)
start_redis "$port"
act_as_one "redis://127.0.0.1:$port"

# With the features of .ci/redis.sh, so that nothing is built twice.
tests=(cargo test --workspace --features tenure/redis-tests,tenure-mcp/redis-tests --locked --test processes)
echo "-- on Redis, and what is measured on it"
# passes COUNT FILTERS...: exactly so many tests, because a filter that matches none passes too.
passes() {
	local count=$1; shift
	"${tests[@]}" -- "$@" --nocapture | tee "$work/tests"
	grep -q "^test result: ok. $count passed" "$work/tests"
}
passes 4 redis:: --test-threads=1
passes 4 redis::across redis::a_thousand redis::many on_one_file_many --ignored --test-threads=1
echo "-- 50 kills"
KILLS=50 SEED=$RANDOM passes 1 kill_loop::on_a_file
echo "-- done"
