# shellcheck shell=bash
# Redis: BGSAVE, BGREWRITEAOF, and a full sync to a replica over the socket
# needs: redis-server redis-server
# needs: redis-cli redis-tools
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
# For Valkey, which has the same commands.
server=${server:-redis-server} keys=${keys:-300000}

# By until_true.
# shellcheck disable=SC2317
in_sync() { [ "$(info "$1" master_link_status)" = up ]; }
# shellcheck disable=SC2317
is_loaded() { [ "$(info "$1" loading)" = 0 ]; }

# serve WAY PORT OPTION...: only the server that is looked at forks in the present way.
serve() {
	"$dir/$1" "$server" --port "${@:2}" --save '' --dir "$dir" --enable-debug-command yes \
		--daemonize yes --logfile "$dir/log-$2" >/dev/null
}

# The data of the server, as a digest.
digest() { ask "$1" debug digest; }

# Restart from what was saved: is that the data?
reload() {
	local before after
	before=$(digest 7001)
	ask 7001 shutdown nosave 2>/dev/null
	until_true 60 is_down 7001
	serve default 7001
	until_true 120 is_up 7001
	until_true 120 is_loaded 7001
	after=$(digest 7001)
	[ "$before" = "$after" ] && echo ok || echo "what was saved differs"
}

run() {
	rm -f dump.rdb
	serve "$way" 7001
	until_true 60 is_up 7001 || { forks "$server" 0 0 "" "does not start"; return; }
	ask 7001 debug populate "$keys" key 100 >/dev/null

	begin
	ask 7001 bgsave >/dev/null
	until_true 300 is_idle 7001
	forks "BGSAVE" 1 1 "the fork took $(info 7001 latest_fork_usec) us" \
		"$([ "$(info 7001 rdb_last_bgsave_status)" = ok ] && echo ok || echo "BGSAVE failed")"

	begin
	ask 7001 bgrewriteaof >/dev/null
	until_true 300 is_idle 7001
	forks "BGREWRITEAOF" 1 1 "the fork took $(info 7001 latest_fork_usec) us" \
		"$(info 7001 aof_last_bgrewrite_status)"

	begin
	serve default 7002 --dbfilename replica.rdb --replicaof 127.0.0.1 7001
	ask 7001 config set repl-diskless-sync-delay 0 >/dev/null
	until_true 300 in_sync 7002
	forks "full sync, diskless" 1 1 "the fork took $(info 7001 latest_fork_usec) us" \
		"$([ "$(digest 7001)" = "$(digest 7002)" ] && echo ok || echo "the replica differs")"
	ask 7002 shutdown nosave 2>/dev/null

	begin
	forks "restart from the snapshot" 0 0 "" "$(reload)"
	ask 7001 shutdown nosave 2>/dev/null
	until_true 60 is_down 7001
}

both_ways
