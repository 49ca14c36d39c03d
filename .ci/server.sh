# Starts and stops the conformance fixtures. Sourced; callers set `work`, a folder of their own.
server=${CARGO_TARGET_DIR:-target}/release/examples/conformance
server_pid=

build_server() {
	cargo build --release --locked -p tenure-mcp --example conformance
}

# start_server ADDRESS [FLAGS...]: sets `url`. The address may have port 0.
start_server() {
	local address=$1 log=$work/server.log
	shift
	: >"$log"
	"$server" --listen "$address" --store "file:$work/tenure.db" "$@" >"$log" 2>&1 &
	server_pid=$!
	for _ in $(seq 600); do
		url=$(sed -n 's/^listening on //p' "$log")
		[[ -n $url ]] && return
		kill -0 "$server_pid" 2>/dev/null || break
		sleep 0.1
	done
	cat "$log" >&2
	echo "the server did not start" >&2
	return 1
}

# stop_server [SIGNAL]
stop_server() {
	[[ -n $server_pid ]] || return 0
	kill "-${1:-TERM}" "$server_pid" 2>/dev/null || true
	wait "$server_pid" 2>/dev/null || true
	server_pid=
}
