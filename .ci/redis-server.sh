# Redis servers on spare ports. Sourced; callers set `work`, a folder of their own.
source .ci/ports.sh
redis_pids=()

if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends redis-server redis-tools
fi

# start_redis PORT [FLAGS...]
start_redis() {
	local port=$1
	mkdir "$work/redis-$port"
	redis-server --port "$port" --dir "$work/redis-$port" --bind 127.0.0.1 --save "" \
		--logfile log "${@:2}" &
	redis_pids+=($!)
	for _ in {1..600}; do
		[[ $(redis-cli -p "$port" ping 2>/dev/null) == PONG ]] && return
		sleep 0.1
	done
	echo "redis-server did not start on $port" >&2
	return 1
}

stop_redis() {
	for pid in "${redis_pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	for pid in "${redis_pids[@]}"; do wait "$pid" 2>/dev/null || true; done
	redis_pids=()
}
