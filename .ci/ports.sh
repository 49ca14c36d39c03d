# Ports for servers that are given one, or are started again on the one they had. Sourced.

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# spare_ports COUNT: the first of so many free ports whose cluster ports, 10000 above, are free too.
# All are below those that the system gives to outgoing connections.
spare_ports() {
	local count=$1 first port
	for _ in {1..100}; do
		first=$((10000 + RANDOM % 9900))
		for ((port = first; port < first + count; port++)); do
			is_free "$port" && is_free $((port + 10000)) || continue 2
		done
		echo "$first"
		return
	done
	echo "no spare ports" >&2
	return 1
}
