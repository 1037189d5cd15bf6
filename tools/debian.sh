# shellcheck shell=bash
# Sourced after lib.sh: packages of another Debian suite, signed, from the mirror
# of this machine's own apt configuration. Nothing of apt's state is read or changed.
# shellcheck disable=SC2034,SC2154	# what the caller has, and is told

debian_mirror() {
	local id code
	id=$(sed -n 's/^ID=//p' /etc/os-release)
	code=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(CREATED_BY)|$(COMPONENT)|$(ORIGIN)|$(LABEL)|$(RELEASE)|$(REPO_URI)' 2>/dev/null |
		awk -F'|' -v id="$id" -v code="$code" '
			$1 != "Packages" || $2 != "main" { next }
			($3 == "Debian" && $4 == "Debian") || (id == "debian" && $5 == code) { print $6; exit }'
}

# debian_download DIR SUITE PACKAGE...: DIR/*.deb, or fails and sets problem.
debian_download() {
	local dir=$1 suite=$2 uri key='' k apt
	shift 2
	have apt-get || { problem="no apt-get here"; return 1; }
	uri=$(debian_mirror)
	[ -n "$uri" ] || { problem="apt knows no Debian mirror"; return 1; }
	for k in /usr/share/keyrings/debian-archive-keyring.{gpg,pgp}; do
		[ -f "$k" ] && key=$k
	done
	[ -n "$key" ] || { problem="package debian-archive-keyring is missing"; return 1; }

	mkdir -p "$dir"/{lists/partial,cache/archives/partial}
	: >"$dir/status"
	echo "deb [signed-by=$key] $uri $suite main" >"$dir/sources.list"
	apt=(apt-get -q -o APT::Sandbox::User=root -o Dir::Etc::sourcelist="$dir/sources.list"
		-o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null
		-o Dir::Etc::preferencesparts=/dev/null -o Dir::State::lists="$dir/lists"
		-o Dir::State::status="$dir/status" -o Dir::Cache="$dir/cache")
	(cd "$dir" && "${apt[@]}" update && "${apt[@]}" download "$@") >"$dir/log" 2>&1 || {
		problem=$(grep -m1 -E '^(E|Err):' "$dir/log" || tail -n1 "$dir/log")
		return 1
	}
}

# debian_unpack DIR SUITE PACKAGE...: DIR has their files, or it fails and sets problem.
debian_unpack() {
	local dir=$1 deb
	debian_download "$dir.apt" "${@:2}" || return 1
	for deb in "$dir.apt"/*.deb; do
		dpkg-deb -x "$deb" "$dir" || die "no space left in $CACHE, or a broken $deb"
	done
}

# debian_wrapper FILE DIR PROGRAM ARG...: FILE runs a program of DIR with the libraries
# that are there.
debian_wrapper() {
	local lib=$2/usr/lib/x86_64-linux-gnu
	printf '#!/bin/sh\nexec %s "$@"\n' \
		"$(printf "'%s' " "$lib/ld-linux-x86-64.so.2" --library-path "$lib" "$2/usr/bin/$3" "${@:4}")" >"$1.new"
	chmod +x "$1.new"
	mv "$1.new" "$1"
}

# debian_program PROGRAM SUITE MB PACKAGE...: prints the directory of a PROGRAM that
# is_right: the one in the path, or that of a later suite with the libraries it needs, in
# $CACHE/PROGRAM. Nothing is installed. The caller has is_right COMMAND, and says in
# "wanted" what is, in "options" what it is always called with. Exit status 4: this
# machine cannot get it.
debian_program() {
	local program=$1 suite=$2 space=$3 root=$CACHE/$1 problem='' dir
	shift 3
	if is_right "$program"; then dirname "$(command -v "$program")"; return; fi
	if ! is_right "$root/$program"; then
		[ "$(uname -m)" = x86_64 ] && [ -n "$(debian_mirror)" ] ||
			{ note "install $wanted: it is not in the path, and apt here has no Debian mirror for x86_64"; exit 4; }
		need_space "$CACHE" "$space" "$program"
		note "downloading $program of Debian's $suite"
		dir=$(temp_dir "$CACHE")
		# shellcheck disable=SC2064
		trap "rm -rf $(printf %q "$dir")" EXIT
		debian_unpack "$dir/$program" "$suite" "$@" ||
			die "no $program in $suite: $problem. Try again, or install $wanted"
		# The packages' other programs are ten times as large.
		find "$dir/$program/usr/bin" -type f ! -name "$program" -delete
		rm -rf "$root"
		mv "$dir/$program" "$root"
		debian_wrapper "$root/$program" "$root" "$program" "${options[@]}"
		is_right "$root/$program" || die "$program of $suite is not $wanted"
		note "$program of $suite in $root"
	fi
	echo "$root"
}
