# shellcheck shell=bash
# Allocators: the pool of Python with jemalloc and its background threads, and with tcmalloc
# needs: python3 python3
# needs: /usr/lib/x86_64-linux-gnu/libjemalloc.so.2 libjemalloc2
# needs: /usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4 libtcmalloc-minimal4
# memory: 2G
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

cat >blocks.py <<'END'
import os, time, hashlib
blocks = [bytearray([i & 255]) * 700 for i in range(400_000)]
want = hashlib.md5(b"".join(blocks)).hexdigest()
pids, took = [], []
for n in range(5):
    begin = time.perf_counter()
    pid = os.fork()
    if not pid:
        os._exit(hashlib.md5(b"".join(blocks)).hexdigest() != want)
    took.append(time.perf_counter() - begin)
    pids.append(pid)
    # What is freed, the allocator gives back: in the background, if it does that.
    blocks[n::5] = [bytearray([n]) * 900 for _ in blocks[n::5]]
    want = hashlib.md5(b"".join(blocks)).hexdigest()
status = [os.waitpid(pid, 0)[1] for pid in pids]
threads = len(os.listdir("/proc/self/task"))
print(f"{threads} threads; forks took {min(took) * 1e6:.0f} to {max(took) * 1e6:.0f} us",
      "ok" if status == [0] * 5 else f"children: {status}", sep="|")
END

lib=/usr/lib/x86_64-linux-gnu
run() {
	export PYTHONMALLOC=malloc
	try jemalloc 5 5 env LD_PRELOAD=$lib/libjemalloc.so.2 \
		MALLOC_CONF=background_thread:true,dirty_decay_ms:10,muzzy_decay_ms:10 python3 blocks.py
	try tcmalloc 5 5 env LD_PRELOAD=$lib/libtcmalloc_minimal.so.4 python3 blocks.py
}

both_ways
