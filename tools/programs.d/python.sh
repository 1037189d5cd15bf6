# shellcheck shell=bash
# Python: multiprocessing with the fork method over a table of two million objects
# needs: python3 python3
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

cat >pool.py <<'END'
import multiprocessing, os, time

table = [str(i) for i in range(2_000_000)]

def total(part):
    return sum(len(table[i]) for i in range(part, len(table), 4))

if __name__ == "__main__":
    begin = time.perf_counter()
    pid = os.fork()
    if not pid:
        os._exit(0)
    pause = time.perf_counter() - begin
    os.waitpid(pid, 0)
    with multiprocessing.get_context("fork").Pool(4) as pool:
        parts = pool.map(total, range(4))
    right = sum(parts) == sum(map(len, table))
    print(f"os.fork() took {pause * 1e6:.0f} us", "ok" if right else "the sum is wrong", sep="|")
END

run() { try "fork and a pool of 4" 5 - python3 pool.py; }

both_ways
