# shellcheck shell=bash
# Sourced by every script of this repository: paths, messages, git, space.
# A failure is one line that starts with the script's name.
# shellcheck disable=SC2034

set -euo pipefail
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES	# variables of our make are not the kernel's

prog=${0##*/}
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$(realpath -m "${CACHE:-${XDG_CACHE_HOME:-${HOME:?is not set}/.cache}/async-pgtable}")
BUILD=$(realpath -m "${BUILD:-$top/build}")
JOBS=${JOBS:-$(nproc)}
tree=$BUILD/linux	# the kernel's git repository, with branch base
branch=async-pgtable	# its branch with the series
patches=$top/patches
export BUILD CACHE JOBS
# make deps may have found a later one than the machine's
if [ -x "$CACHE/qemu/usr/bin/qemu-system-x86_64" ] && [[ :$PATH: != *":$CACHE/qemu/usr/bin:"* ]]; then
	export PATH=$CACHE/qemu/usr/bin:$PATH QEMU_MODULE_DIR=$CACHE/qemu/usr/lib/x86_64-linux-gnu/qemu
fi

note() { printf '%s: %s\n' "$prog" "$*" >&2; }
die() { note "$@"; exit 1; }
have() { command -v "$1" >/dev/null; }

# Before anything large is written: need_space DIR MIB WHAT
need_space() {
	local free
	mkdir -p "$1" || die "cannot create $1"
	free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024) }')
	[ "$free" -ge "$2" ] ||
		die "no space left: $3 needs $2 MiB in $1, which has $free MiB free"
}

# A new directory in $1. What a killed run has left there goes.
temp_dir() {
	local d pid
	mkdir -p "$1"
	for d in "$1"/tmp.*.??????; do
		pid=${d%.*} pid=${pid##*.}
		[ ! -d "$d" ] || kill -0 "$pid" 2>/dev/null ||
			[ -z "$(find "$d" -maxdepth 0 -mmin +60)" ] || rm -rf "$d"
	done
	mktemp -d "$1/tmp.$$.XXXXXX"
}

# A directory that goes away with the script, on the disk of $BUILD.
scratch() {
	scratch_dir=$(temp_dir "$BUILD/tmp")
	trap 'rm -rf "$scratch_dir"' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM
}

# wait_lock FD WHAT: says so if another one has it
wait_lock() { flock -n "$1" || { note "waiting for another $2"; flock "$1"; }; }

# One writer of $tree at a time; the lock goes with the process.
lock_tree() {
	mkdir -p "$BUILD"
	exec 9>"$BUILD/.lock"
	wait_lock 9 "run that works on $tree"
}

# git without the user's configuration: the same input gives the same bytes.
kgit() {
	GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null \
	GIT_COMMITTER_NAME=async-pgtable GIT_COMMITTER_EMAIL=async-pgtable@localhost \
		git -c core.autocrlf=false -c advice.detachedHead=false -c gc.auto=0 "$@"
}

# Is version $1 at least $2?
version_ge() { [ "$(printf '%s\n' "$2" "$1" | sort -V | head -n1)" = "$2" ]; }

# First version number in the text on stdin.
first_version() { grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n1; }

# Patches in order, one name per line; none before the first export.
series() { if [ -f "$patches/series" ]; then grep -vE '^[[:space:]]*(#|$)' "$patches/series" || true; fi; }

# One hash over the series; changes whenever a patch does.
series_digest() {
	{ series; series | while read -r p; do cat "$patches/$p"; done; } | sha256sum | cut -d' ' -f1
}

# What codespell says of a file. Rust's crates and the kernel's DAMON are none of its
# words.
# misspelled FILE
misspelled() {
	local out
	out=$(codespell -q 2 -L crate,damon "$1") || echo "${out:-codespell has failed}"
}

# Environment of a benchmark in a guest: which series and which .config the
# figures belong to, as the start of a SHA-256, and the commit of this repository.
# record_env CONFIG
record_env() {
	printf 'ASYNCFORK_SERIES=%.12s ASYNCFORK_CONFIG=%.12s ASYNCFORK_COMMIT=%s' \
		"$(series_digest)" "$(sha256sum <"$BUILD/kernel-$1/.config")" \
		"$(kgit -C "$top" describe --always --dirty --abbrev=12 --match '' 2>/dev/null || echo none)"
}
