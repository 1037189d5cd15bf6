# shellcheck shell=bash
# Seeing it: the lines for perf and bpftrace of Documentation/operators.md
# needs: perf linux-perf
# needs: bpftrace bpftrace
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"
page=$(dirname "$0")/../../Documentation/operators.md

# Forks four times a second, and writes to all of its memory meanwhile.
cat >load.py <<'END'
import os, time
memory = bytearray(128 << 20)
while True:
    for page in range(0, len(memory), 4096):
        memory[page] = 1
    pid = os.fork()
    if pid == 0:
        os._exit(memory[0] != 1)
    for page in range(0, len(memory), 2 << 20):
        memory[page] = 2
    os.waitpid(pid, 0)
    time.sleep(0.25)
END
"$dir/async" python3 load.py &
load=$!

lines=0
while read -r line; do
	lines=$((lines + 1))
	what=${line%% *}
	case $line in
	*perf\ stat*) expected='^ *[1-9][0-9,]* +async_pgtable:async_pgtable_range_end' ;;
	*hist*) expected='^@us\[[0-2]\]' ;;
	*) expected='python3' ;;
	esac
	if [ "$what" = bpftrace ] && ! bpftrace -e 'BEGIN { exit(); }' >probe 2>&1; then
		echo "skip $what: $(tail -n1 probe)"
		continue
	fi
	line=${line//sleep 10/sleep 5}
	line=${line//s:10/s:5}
	if bash -c "$line" >output 2>&1 && grep -Eq "$expected" output; then
		echo "ok   $line"
		grep -Em3 "$expected" output
	else
		echo "FAIL $line"
		tail -n5 output
		bad=1
	fi
done < <(sed -n 's/^    \(\(perf stat\|perf record\|bpftrace -e\) .*\)/\1/p' "$page")
kill "$load"
[ "$lines" -ge 4 ] || bad=1
exit "$bad"
