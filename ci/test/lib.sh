# shellcheck shell=bash
# Sourced by the tests of the tools: each plants a fault and wants to see it.
# shellcheck disable=SC2034
. "$(dirname "${BASH_SOURCE[0]}")/../../tools/lib.sh"

bad=0	# for the exit status of who sources this
result() { if [ "$1" = 0 ]; then echo "ok - $prog: $2"; else echo "not ok - $prog: $2"; bad=1; fi; }
# equal NAME GOT WANTED
equal() {
	[ "$2" = "$3" ] && { result 0 "$1"; return; }
	result 1 "$1"
	diff <(echo "$3") <(echo "$2") | sed 's/^/  | /' || true
}
scratch
