# Installs the pinned packages of .ci/npm into the cache. Sourced; sets `node` and `packages`.
npm_home=$PWD/.ci/cache/npm
packages=$npm_home/node_modules
node=$packages/.bin/node
if ! cmp -s .ci/npm/package-lock.json "$npm_home/installed.json"; then
	command -v npm >/dev/null || { echo "npm is needed" >&2; exit 1; }
	mkdir -p "$npm_home"
	cp .ci/npm/package.json .ci/npm/package-lock.json .ci/npm/.npmrc "$npm_home/"
	(cd "$npm_home" && npm ci --loglevel=error)
	# Only now, so that an install that broke off is done again.
	cp .ci/npm/package-lock.json "$npm_home/installed.json"
fi
