# shellcheck shell=bash
# Sourced by the scripts of this directory.
set -u -o pipefail
cd "$(dirname "$0")" || exit 1

# check NAME COMMAND...: with what it has said if it fails
check() {
	local said
	if said=$("${@:2}" 2>&1); then
		echo "ok - check-deb: $1"
	else
		echo "not ok - check-deb: $1"
		tail -n 10 <<<"$said" | sed 's/^/  | /'
	fi
}
