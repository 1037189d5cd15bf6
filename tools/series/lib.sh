# shellcheck shell=bash
# Sourced by the scripts of this directory: the series and the kernel tree.
# shellcheck disable=SC2034

# shellcheck source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

copied=$tree/.git/async-pgtable.copied	# "hash path" of what sync --worktree copied last

base_field() { awk -v k="$1" '$1 == k { print $2; exit }' "$patches/BASE"; }

# Paths the series touches.
series_paths() {
	series | while read -r p; do
		sed -nE 's,^diff --git a/(.*) b/\1$,\1,p' "$patches/$p"
	done | sort -u
}

# Canonical Rust files, as paths of the kernel tree.
rust_files() {
	if [ -d "$top/rust/kernel" ]; then
		(cd "$top" && find rust/kernel -type f -name '*.rs' | sort)
	fi
}

tree_release() {
	kgit -C "$1" show "$2:Makefile" |
		awk '$1 == "VERSION" { v = $3 } $1 == "PATCHLEVEL" { p = $3 } $1 == "SUBLEVEL" { print v "." p "." $3; exit }'
}

need_tree() {
	kgit -C "$tree" rev-parse -q --verify base >/dev/null 2>&1 ||
		die "$tree has no base yet: run make fetch"
}
need_branch() {
	need_tree
	kgit -C "$tree" rev-parse -q --verify "refs/heads/$branch" >/dev/null ||
		die "$tree has no branch $branch: run make apply, or create it on base"
}

# A clone that shares the objects of $tree and has only the listed paths
# checked out: cheap, and nothing in it can hurt $tree.
# .gitattributes decides which function hunk headers name.
# sparse_clone DIR COMMIT < paths
sparse_clone() {
	kgit clone -q --shared --no-checkout "$tree" "$1"
	{ sed 's,^,/,'; printf '/%s\n' MAINTAINERS .gitattributes; } >"$1/.git/sparse-paths"
	kgit -C "$1" sparse-checkout set --no-cone --stdin <"$1/.git/sparse-paths"
	kgit -C "$1" checkout -q --detach "$(kgit -C "$tree" rev-parse "$2^{commit}")"
}

# git am of the whole series in a clone. On failure: one line with the patch
# and the file, and the clone is left as it was.
# am_series DIR DESCRIPTION
am_series() {
	local p log=$1/.git/am.log bad
	while read -r p; do
		[ -f "$patches/$p" ] || die "patches/series names $p, which does not exist"
		kgit -C "$1" am -q --committer-date-is-author-date --no-gpg-sign --keep-cr \
			<"$patches/$p" >"$log" 2>&1 && continue
		kgit -C "$1" am --abort >/dev/null 2>&1 || true
		grep -q 'No space left' "$log" && die "no space left in $1"
		bad=$(sed -nE 's/^error: patch failed: (.*):([0-9]+)$/\1 line \2/p; s/^error: (.*): (does not exist in index|already exists in index)$/\1 (\2)/p' "$log" | head -n1)
		die "$p does not apply to $2: ${bad:-$(tail -n1 "$log")}"
	done < <(series)
}
