# shellcheck shell=bash
# Sourced. The one place that decides which Rust, bindgen and clang build the
# kernel. find_toolchain sets RUSTC, RUSTDOC, RUST_LIB_SRC, BINDGEN and
# LIBCLANG_PATH, or sets problem to one line that says what is wrong and what to
# do. RUSTC=, RUST_LIB_SRC=, BINDGEN= and LIBCLANG_PATH= in the environment win.
# shellcheck disable=SC2034

# K:scripts/min-tool-version.sh of 7.3
min_rustc=1.85.0
min_bindgen=0.71.1
min_llvm=17
bindgen_version=0.72.1		# what make deps builds where the package is too old

# The library source of a compiler, wherever its packager has put it:
# rustup component rust-src, Debian rust-src, rust-web-src, Ubuntu rust-1.xx-src
lib_src_of() {
	local v d
	v=$("$1" --version | first_version)
	for d in "$("$1" --print sysroot)/lib/rustlib/src/rust/library" \
		"/usr/src/rustc-$v/library" "/usr/lib/rust-${v%.*}/lib/rustlib/src/rust/library"; do
		[ ! -f "$d/core/src/lib.rs" ] || { echo "$d"; return; }
	done
}

find_rustc() {
	local c v src seen=''
	for c in ${RUSTC:-/usr/bin/rustc $(compgen -G '/usr/bin/rustc-1.*' | sort -rV) \
		$(rustup which rustc 2>/dev/null || true) $(command -v rustc || true)}; do
		v=$("$c" --version 2>/dev/null | first_version) || continue
		version_ge "$v" $min_rustc || { seen+=" $c is $v;"; continue; }
		src=${RUST_LIB_SRC:-$(lib_src_of "$c")}
		[ -f "$src/core/src/lib.rs" ] || { seen+=" $c has no library source (rust-src);"; continue; }
		RUSTC=$c RUST_LIB_SRC=$src
		RUSTDOC=${c%/*}/$(basename "$c" | sed s/rustc/rustdoc/)		# doctests: of the same version
		return
	done
	problem="no Rust compiler for the kernel: needs rustc >= $min_rustc with its library source;${seen:-${RUSTC:+ RUSTC=$RUSTC does not run;}} make deps installs one, or: rustup component add rust-src"
	return 1
}

# The lint tools of $RUSTC, beside it: they have to be of the same version.
find_rust_lint() {
	local beside=${RUSTC%/*} name=${RUSTC##*/}
	CLIPPY_DRIVER=$beside/${name/rustc/clippy-driver} RUSTFMT=$beside/${name/rustc/rustfmt}
	[ -x "$CLIPPY_DRIVER" ] && [ -x "$RUSTFMT" ] && return
	problem="no clippy-driver and rustfmt beside $RUSTC: make deps installs them, or: rustup component add clippy rustfmt"
	return 1
}

find_bindgen() {
	local c v seen=''
	for c in ${BINDGEN:-$(command -v bindgen || true) "$HOME/.cargo/bin/bindgen" "$CACHE/cargo/bin/bindgen"}; do
		v=$("$c" --version 2>/dev/null | first_version) || continue
		version_ge "$v" $min_bindgen || { seen+=" $c is $v;"; continue; }
		BINDGEN=$c
		return
	done
	problem="no bindgen >= $min_bindgen:${seen:- none found;} make deps builds one, or: cargo install --locked bindgen-cli"
	return 1
}

find_libclang() {
	local d v
	for d in ${LIBCLANG_PATH:-$(compgen -G '/usr/lib/llvm-*/lib' | sort -rV) /usr/lib/x86_64-linux-gnu /usr/lib64 /usr/lib}; do
		compgen -G "$d/libclang.so*" >/dev/null || compgen -G "$d/libclang-[0-9]*.so*" >/dev/null || continue
		v=$(sed -nE 's,.*/llvm-([0-9]+)/.*,\1,p' <<<"$d/")
		[ -z "$v" ] || [ "$v" -ge $min_llvm ] || continue
		LIBCLANG_PATH=$d
		return
	done
	problem="no libclang >= $min_llvm for bindgen: make deps installs libclang-dev"
	return 1
}

# LLVM=-19 style suffix of a complete clang and lld, for CONFIG=kasan
find_llvm() {
	local v
	for v in $(compgen -c clang- | sed -nE 's/^clang-([0-9]+)$/\1/p' | sort -rnu); do
		[ "$v" -ge $min_llvm ] && have "ld.lld-$v" && have "llvm-nm-$v" || continue
		LLVM_SUFFIX=-$v
		return
	done
	problem="no clang >= $min_llvm with lld: make deps installs clang-19 lld-19 llvm-19"
	return 1
}

# The sanitizers' runtime of that clang, for tools/check-harness and fuzz
find_sanitizers() {
	find_llvm || return 1
	compgen -G "$("clang$LLVM_SUFFIX" -print-resource-dir)/lib/*/libclang_rt.asan*.a" >/dev/null && return
	problem="clang$LLVM_SUFFIX has no sanitizers: make deps installs libclang-rt$LLVM_SUFFIX-dev"
	return 1
}

find_toolchain() {
	problem=''
	find_rustc && find_bindgen && find_libclang || return 1
	export LIBCLANG_PATH
}

toolchain_line() {
	echo "$RUSTC $("$RUSTC" --version | first_version), $BINDGEN $("$BINDGEN" --version | first_version), libclang in $LIBCLANG_PATH"
}

use_ccache() {
	if have ccache && [ -d /usr/lib/ccache ]; then
		export PATH=/usr/lib/ccache:$PATH CCACHE_DIR=$CACHE/ccache CCACHE_MAXSIZE=8G
		export CCACHE_BASEDIR=$BUILD CCACHE_NOHASHDIR=1		# the same hits for any checkout
		export CCACHE_DEPEND=1	# gcc names the headers: nothing is preprocessed for a hash
	fi
}
