# shellcheck shell=bash
# PostgreSQL: a connection for each transaction, that is a fork of a small process
# needs: /usr/lib/postgresql postgresql
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n1)
chmod 755 "$dir"
as() { setpriv --reuid=postgres --regid=postgres --clear-groups env HOME="$dir" PGHOST="$dir" "$@"; }

run() {
	local tps said
	rm -rf data
	mkdir data
	chown postgres data "$dir"
	as "$bin/initdb" -D data -A trust >log 2>&1 || { begin; forks "$way" initdb 0 0 "" "$(tail -n1 log)"; return; }
	as "$dir/$way" "$bin/pg_ctl" -D data -w -l "$dir/server.log" \
		-o "-c listen_addresses='' -k $dir -c shared_buffers=256MB -c fsync=off" start >log 2>&1 ||
		{ begin; forks "$way" "start" 0 0 "" "$(tail -n1 log)"; return; }
	as createdb bench
	as "$bin/pgbench" -i -s 5 -q bench >log 2>&1
	begin
	tps=$(as "$bin/pgbench" -n -S -C -t 200 bench 2>log | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
	said="$tps connections and transactions a second"
	forks "$way" "pgbench -S -C" 200 - "$said" "$([ -n "$tps" ] && echo ok || tail -n1 log)"
	as "$bin/pg_ctl" -D data -m fast stop >/dev/null
}

for way in default async; do
	run
done
exit "$bad"
