# shellcheck shell=bash
# For the programs of this directory, which run in a guest: "$dir/$way" CMD has
# default or async forks. A program has a function run and ends with both_ways.
set -u -o pipefail
TMPDIR=${TMPDIR:-/tmp}
dir=$(mktemp -d)
cd "$dir" || exit 1
way='' bad=0

# The counter of /proc/vmstat.
counter() { awk -v name="async_pgtable_$1" '$1 == name { print $2 }' /proc/vmstat; }

printf '#!/bin/sh\nexec "$@"\n' >"$dir/default"
printf '#!/bin/sh\nexec '\''%s'\'' run -- "$@"\n' "$BUILD/asyncfork" >"$dir/async"
chmod +x "$dir/default" "$dir/async"

# The first asynchronous fork of a boot patches code.
"$BUILD/asyncfork" probe >/dev/null || exit 1

begin() { sessions=$(counter session_start) failures=$(counter session_fail); }

# forks WHAT MIN MAX SAID [RIGHT]: since begin, so many forks of the async way were to
# be asynchronous (MAX "-": any number); RIGHT is "ok", or what is wrong.
forks() {
	local what=$1 min=$2 max=$3 said=$4 right=${5:-ok} word=ok
	sessions=$(($(counter session_start) - sessions))
	failures=$(($(counter session_fail) - failures))
	if [ "$way" = default ]; then
		[ "$sessions" = 0 ] || word=FAIL
	elif [ "$sessions" -lt "$min" ] || { [ "$max" != - ] && [ "$sessions" -gt "$max" ]; }; then
		word=FAIL
	fi
	if [ "$failures" != 0 ] || [ "$right" != ok ]; then
		word=FAIL
	fi
	[ "$word" = ok ] || bad=1
	printf '%-4s %-34s %-7s  %4d asynchronous, %d failed  %s%s\n' "$word" "$what" "$way" \
		"$sessions" "$failures" "$said" "$([ "$right" = ok ] || echo "; $right")"
}

# try WHAT MIN MAX CMD...: of CMD, which prints what it says and if it is right: SAID|RIGHT.
try() {
	local what=$1 min=$2 max=$3 said right
	shift 3
	begin
	IFS='|' read -r said right < <("$dir/$way" "$@")
	forks "$what" "$min" "$max" "${said:-}" "${right:-no output}"
}

both_ways() {
	for way in default async; do
		run
	done
	exit "$bad"
}

# Of a Redis on this port. The predicates are for until_true.
ask() { redis-cli -p "$@"; }
info() { ask "$1" info | tr -d '\r' | sed -n "s/^$2://p"; }
is_up() { [ "$(ask "$1" ping)" = PONG ]; }
is_down() { ! is_up "$1"; }
is_idle() {
	[ "$(info "$1" rdb_bgsave_in_progress)$(info "$1" aof_rewrite_in_progress)$(info "$1" aof_rewrite_scheduled)" = 000 ]
}

# until_true SECONDS COMMAND...
until_true() {
	local limit=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$limit" ] || return 1
		sleep 0.2
	done
}

trap 'rm -rf "$dir"' EXIT
