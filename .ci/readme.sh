#!/usr/bin/env bash
# The README's first command as a stranger runs it, and the look at its tasks.
set -euo pipefail
cd "$(dirname "$0")/.."
here=$PWD
cargo build --release --locked --bin tenure
work=$(mktemp -d)
cd "$work"
"${CARGO_TARGET_DIR:-$here/target}/release/tenure" serve 2>"$work/log" &
server=$!
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
for _ in $(seq 600); do
	curl -sf http://127.0.0.1:8765/healthz >/dev/null && break
	kill -0 $server || { cat "$work/log"; exit 1; }
	sleep 0.1
done
curl -sf http://127.0.0.1:8765/healthz; echo
kill -0 $server # It was this server that answered.
meta='"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"readme","version":"1"},"io.modelcontextprotocol/clientCapabilities":{"extensions":{"io.modelcontextprotocol/tasks":{}}}}'
curl -sf http://127.0.0.1:8765/mcp -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' \
	-H 'mcp-protocol-version: 2026-07-28' -H 'mcp-method: tools/call' -H 'mcp-name: report' \
	-d '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"report","arguments":{"topic":"state","sections":2,"section_ms":200},'"$meta"'}}' |
	grep '"resultType":"task"' >/dev/null
tenure=${CARGO_TARGET_DIR:-$here/target}/release/tenure
[[ $("$tenure" tasks list --json | wc -l) == 1 ]]
id=$("$tenure" tasks list --json | sed 's/.*"id":"\([^"]*\)".*/\1/')
timeout 120 "$tenure" tasks watch "$id" --server http://127.0.0.1:8765 | grep completed
code=0; "$tenure" tasks cancel "$id" || code=$?
[[ $code == 4 ]]
kill -INT $server
wait $server
"$tenure" tasks get "$id" | grep "section 2 of state"
