# shellcheck shell=bash
# Container: Redis in a container, which is told from outside: BGSAVE
# needs: redis-server redis-server
# needs: redis-cli redis-tools
# needs: unshare util-linux
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
group=/sys/fs/cgroup/container

# By until_true.
# shellcheck disable=SC2317
is_empty() { ! grep -q 1 "$group/cgroup.events"; }

# What the group has counted, less what it had.
counted() { echo $(($(sed -n 's/^async_pgtable_session_start //p' "$group/memory.stat") - ${1:-0})); }

# In namespaces of its own, and with the network of the guest.
contain() {
	sh -c "echo 0 >'$group/cgroup.procs' && exec unshare --mount --pid --ipc --uts --cgroup \
		--fork --mount-proc \"\$@\"" sh "$@"
}

run() {
	local before own asked
	asked=0
	[ "$way" = default ] || asked=1
	echo $asked >"$group/memory.async_pgtable"
	before=$(counted)
	contain redis-server --port 7001 --save '' --dir "$dir" --enable-debug-command yes \
		>/dev/null 2>&1 &
	until_true 60 is_up 7001 || { forks "redis-server" 0 0 "" "does not start"; return; }
	ask 7001 debug populate 300000 key 100 >/dev/null

	begin
	ask 7001 bgsave >/dev/null
	until_true 300 is_idle 7001
	own=$(counted "$before")
	forks "BGSAVE" 1 1 "$own of them in memory.stat; the fork took $(info 7001 latest_fork_usec) us" \
		"$(if [ "$(info 7001 rdb_last_bgsave_status)" != ok ]; then echo "BGSAVE failed"
		elif [ "$own" = "$asked" ]; then echo ok
		else echo "memory.stat is wrong"; fi)"
	ask 7001 shutdown nosave 2>/dev/null
	until_true 60 is_down 7001
	until_true 60 is_empty
	wait
}

echo +memory >/sys/fs/cgroup/cgroup.subtree_control && mkdir "$group" || exit 1
both_ways
