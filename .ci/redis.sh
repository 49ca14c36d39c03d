#!/usr/bin/env bash
# The contract and the fault tests on a real server and a three-node cluster, on spare ports.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/redis-server.sh
work=$(mktemp -d)
trap 'stop_redis; rm -rf "$work"' EXIT

first=$(spare_ports 4)
start_redis "$first"
nodes=()
for port in $((first + 1)) $((first + 2)) $((first + 3)); do
	start_redis "$port" --cluster-enabled yes --cluster-node-timeout 2000
	nodes+=("127.0.0.1:$port")
done
redis-cli --cluster create "${nodes[@]}" --cluster-yes >"$work/create"
for port in $((first + 1)) $((first + 2)) $((first + 3)); do
	for _ in {1..200}; do
		state=$(redis-cli -p "$port" cluster info | grep -c 'cluster_state:ok' || true)
		[[ $state == 1 ]] && break
		sleep 0.1
	done
	[[ $state == 1 ]] || { cat "$work/create" >&2; exit 1; }
done

export REDIS_URL="redis://127.0.0.1:$first"
export REDIS_CLUSTER_URL="redis+cluster://$(IFS=,; echo "${nodes[*]}")"
# With the whole workspace, so that the dependencies have the features they already were built with.
cargo test --workspace --features tenure/redis-tests,tenure-mcp/redis-tests --locked "$@"
