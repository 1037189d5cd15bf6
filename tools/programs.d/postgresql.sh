# shellcheck shell=bash
# PostgreSQL: a connection for each transaction, that is a fork of a small process
# needs: /usr/lib/postgresql postgresql
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n1)
chmod 755 "$dir"
as() { setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$dir" PGHOST="$dir" "$@"; }

# It takes minutes in an emulator, and no fork of it is measured.
mkdir data
chown postgres data "$dir"
as "$bin/initdb" -D data -A trust --no-sync >log 2>&1 || { tail -n1 log; exit 1; }

run() {
	local tps right says
	as "$dir/$way" "$bin/pg_ctl" -D data -w -t 300 -l "$dir/server.log" \
		-o "-c listen_addresses='' -k $dir -c shared_buffers=256MB -c fsync=off" start >log 2>&1 || {
		begin
		forks "start" 0 0 "" "$(tail -n1 log)"
		return
	}
	begin
	tps=$(as "$bin/pgbench" -n -C -t 200 -f - postgres <<<'SELECT 1' 2>log |
		sed -n 's/^tps = \([0-9.]*\).*/\1/p')
	right=ok
	[ -n "$tps" ] || right=$(tail -n1 log)
	# No fork of it need be asynchronous, but each is one that would.
	says=$(tr '\n' ' ' <"/proc/$(head -n1 data/postmaster.pid)/async_pgtable")
	[[ $way = default || $says = "fork_async: 1 decided_by: process "* ]] || right=$says
	forks "pgbench -C" 0 - "$tps connections and queries a second" "$right"
	echo "     postmaster: $says"
	as "$bin/pg_ctl" -D data -m fast stop >/dev/null
}

both_ways
