// SPDX-License-Identifier: GPL-2.0
/*
 * Failure injection for asynchronous page tables. Runs in a guest as root, see
 * tools/failinject/run beside it.
 *
 * An allocation fails: in the call, in the child that copies, in a parent that
 * pushes, in somebody who pulls. Whatever fails,
 * - the parent goes on with its own memory,
 * - clone3() fails, or the child is exact, or it is killed by SIGKILL,
 * - nothing is left behind when all have exited: less than half an object for
 *   each failure, of everything that usage.h counts.
 *
 * First the allocations that the feature adds, or moves out of the call, fail
 * one by one: by the stack filter of the kernel's failure injection, so that
 * the count of failures proves that it was this one. Then all allocations and
 * user copies on a path fail in turn (fail-nth). Then they fail at random while
 * mm/async_pgtable_torture runs. At last a memory cgroup has no more room.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "usage.h"

#ifndef CLONE_ASYNC_PGTABLE
#define CLONE_ASYNC_PGTABLE	(1ULL << 38)
#endif

#define PAGE		4096UL
#define RANGE_SIZE	(2UL << 20)
#define NR_RANGES	4UL
#define SIZE		(NR_RANGES * RANGE_SIZE)
/* Of a range, these pages at its start are in use, and then one of so many. */
#define DENSE_PAGES	64UL
#define SPARSE		16UL
#define NR_PAGES	(NR_RANGES * (DENSE_PAGES + (RANGE_SIZE / PAGE - DENSE_PAGES) / SPARSE))
#define DEBUGFS		"/sys/kernel/debug/"
#define HOLD_FILE	DEBUGFS "async_pgtable/hold"
#define TIMES		1000000000L
#define CGROUP_DIR	"/sys/fs/cgroup/"
#define CGROUP		CGROUP_DIR "failinject"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* A row whose leak may be noise is done again: noise does not come each time. */
#define MAX_BATCHES	3
/* The mm that an idle CPU has kept is 1 object of noise: tolerate 2. */
#define MIN_FORKS	5
/* In a memory cgroup with a limit. */
#define MEMCG_FORKS	8

struct pin_longterm_test {
	uint64_t addr;
	uint64_t size;
	uint32_t flags;
};

#define PIN_LONGTERM_TEST_START	_IOW('g', 7, struct pin_longterm_test)

/* Where it fails. */
enum actor {
	IN_CALL,	/* clone3() */
	IN_CHILD,	/* the child, before user space */
	IN_PUSH,	/* the parent writes */
	IN_DISCARD,	/* the parent unmaps */
	IN_PULL,	/* somebody reads the child */
};

/* What the memory is when it is copied. */
enum kind { PLAIN, PINNED, SWAPPED };

struct row {
	char name[48];
	const char *what;
	long runs, injected, exact, killed, refused, wrong, parent_wrong, leaked;
	long session_fail, fallback_nomem;
	long tolerated;			/* in a batch */
	struct noise noise;
	unsigned int batches;
	char leak[640];
};

struct shared {
	volatile int up, go, wrong;
};

static struct row rows[64];
static unsigned int nr_rows;
static char *mem;
static struct shared *shared;
static unsigned int generation;
static const char *torture, *only;
static char torture_text[65536];
static unsigned int step_seconds = 8, repeat = 40, passes = 10;
static bool bad;
static int nth_fd, make_fd;
static bool have_filter;

static void __attribute__((noreturn, format(printf, 1, 2))) fatal(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	printf("Bail out! ");
	vprintf(fmt, args);
	printf(": %s\n", strerror(errno));
	va_end(args);
	exit(1);
}

static bool try_put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok;

	if (fd < 0)
		return false;
	ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	close(fd);
	return ok;
}

static void put(const char *path, const char *text)
{
	if (!try_put(path, text))
		fatal("%s: cannot write %s", path, text);
}

static bool get(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, text, size - 1);

	if (fd >= 0)
		close(fd);
	if (len < 0)
		return false;
	text[len] = 0;
	return true;
}

static long get_vmstat(const char *name)
{
	char line[128], key[64];
	long value = -1, v;
	FILE *f = fopen("/proc/vmstat", "re");

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %ld", key, &v) == 2 && !strcmp(key, name))
			value = v;
	if (f)
		fclose(f);
	return value;
}

/*
 * What must be back where it was
 */

static bool own_group;

/* A memory cgroup for all that is done here. The rest of the system has none. */
static void enter_group(void)
{
	mkdir("/sys/fs/cgroup", 0755);
	try_put(CGROUP_DIR "cgroup.subtree_control", "+memory");
	mkdir(CGROUP_DIR "failinject-main", 0755);
	own_group = !access(CGROUP_DIR "failinject-main/memory.stat", R_OK) &&
		    try_put(CGROUP_DIR "failinject-main/cgroup.procs", "0");
}

static void read_usage(struct usage *u)
{
	char path[128], text[1024], *dying;
	FILE *f;
	long v;

	/* Drops what CPUs have of pages and of statistics, too. */
	try_put("/proc/sys/vm/drop_caches", "3");
	for (unsigned int i = 0; i < nr_counters; i++) {
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", usage_names[i]);
		try_put(path, "1");
	}
	read_sources();
	try_put("/proc/sys/vm/stat_refresh", "1");
	parse_usage(u);
	/*
	 * What is charged is ours, see enter_group(). Other page tables are the
	 * kernel's, which grow with the addresses of stacks until they are reused.
	 */
	f = own_group ? fopen(CGROUP_DIR "memory.stat", "re") : NULL;
	while (f && fgets(text, sizeof(text), f)) {
		if (sscanf(text, "pagetables %ld", &v) == 1)
			u->v[counter("page tables")] = v / (long)PAGE;
		else if (sscanf(text, "anon %ld", &v) == 1)
			u->v[counter("anonymous pages")] = v / (long)PAGE;
	}
	if (f)
		fclose(f);
	if (get(CGROUP_DIR "cgroup.stat", text, sizeof(text))) {
		dying = strstr(text, "nr_dying_descendants ");
		u->v[counter("dying cgroups")] = dying ? atol(dying + 21) : 0;
	}
}

/* Exited tasks are freed by RCU and workers: when nothing changes any more. */
static void read_settled(struct usage *u)
{
	struct usage last;

	sync();
	read_usage(&last);
	for (int i = 0; i < 20; i++) {
		usleep(100000);
		read_usage(u);
		if (!memcmp(u, &last, sizeof(last)))
			break;
		last = *u;
	}
}

static long leaked_since(const struct usage *then, long tolerated, bool *which, struct noise *noise,
			 char *text, size_t size)
{
	bool old[MAX_COUNTERS];
	struct usage now;
	long leaked;

	memcpy(old, which, sizeof(old));
	for (int i = 0; i < 8; i++) {
		usleep(100000 << (i < 4 ? i : 4));
		memcpy(which, old, sizeof(old));
		read_usage(&now);
		leaked = leaked_between(then, &now, tolerated, which, noise, text, size);
		if (!leaked)
			break;
	}
	return leaked;
}

/*
 * Failures
 */

static const char *const attrs[] = { "failslab", "fail_page_alloc", "fail_usercopy" };

static bool try_attr(const char *attr, const char *key, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "%s/%s", attr, key);
	return try_put(path, value);
}

static void put_attr(const char *attr, const char *key, const char *value)
{
	if (!try_attr(attr, key, value))
		fatal("%s/%s: cannot write %s", attr, key, value);
}

static long times_left(const char *attr)
{
	char path[128], text[32];

	snprintf(path, sizeof(path), DEBUGFS "%s/times", attr);
	if (!get(path, text, sizeof(text)))
		fatal("%s", path);
	return atol(text);
}

static void filter(const char *attr, unsigned long start, unsigned long end)
{
	char text[32];

	if (!have_filter)
		return;
	snprintf(text, sizeof(text), "%#lx", start);
	put_attr(attr, "require-start", text);
	snprintf(text, sizeof(text), "%#lx", end);
	put_attr(attr, "require-end", text);
}

static void reset_attrs(void)
{
	char text[32];

	snprintf(text, sizeof(text), "%ld", TIMES);
	for (unsigned int i = 0; i < ARRAY_SIZE(attrs); i++) {
		put_attr(attrs[i], "probability", "0");
		put_attr(attrs[i], "interval", "1");
		put_attr(attrs[i], "times", text);
		put_attr(attrs[i], "space", "0");
		put_attr(attrs[i], "verbose", "0");
		put_attr(attrs[i], "task-filter", "Y");
		filter(attrs[i], 0, ~0UL);
		try_attr(attrs[i], "reject-start", "0");
		try_attr(attrs[i], "reject-end", "0");
	}
	put_attr("failslab", "ignore-gfp-wait", "N");
	put_attr("fail_page_alloc", "ignore-gfp-wait", "N");
	put_attr("fail_page_alloc", "ignore-gfp-highmem", "N");
	put_attr("fail_page_alloc", "min-order", "0");
}

/* Since reset_attrs(). */
static long injected(void)
{
	long sum = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(attrs); i++)
		sum += TIMES - times_left(attrs[i]);
	return sum;
}

static bool find_symbol(const char *name, unsigned long *start, unsigned long *end)
{
	static unsigned long last_start, last_end;
	static char last[384];
	unsigned long addr;
	char line[512], symbol[384], type;
	FILE *f;

	if (!strcmp(last, name)) {
		*start = last_start;
		*end = last_end;
		return true;
	}
	f = fopen("/proc/kallsyms", "re");
	*start = 0;
	*end = ~0UL;
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx %c %383s", &addr, &type, symbol) != 3)
			continue;
		/* Sorted by address, but for modules, of which there are none. */
		if (*start && addr > *start) {
			*end = addr;
			break;
		}
		if (!*start && addr && !strncmp(symbol, name, strlen(name)) &&
		    (!symbol[strlen(name)] || symbol[strlen(name)] == '.'))
			*start = addr;
	}
	if (f)
		fclose(f);
	if (*start) {
		snprintf(last, sizeof(last), "%s", name);
		last_start = *start;
		last_end = *end;
	}
	return *start;
}

/*
 * One fork
 */

static uint64_t word(unsigned long page, unsigned int gen)
{
	return (page + 1) * 0x9e3779b97f4a7c15ULL + gen;
}

/* Where the nth page that is in use is. */
static char *address(unsigned long nth)
{
	const unsigned long in_range = NR_PAGES / NR_RANGES;
	unsigned long page = nth % in_range;

	if (page >= DENSE_PAGES)
		page = DENSE_PAGES + (page - DENSE_PAGES) * SPARSE;
	return mem + nth / in_range * RANGE_SIZE + page * PAGE;
}

static void fill(unsigned int gen)
{
	for (unsigned long i = 0; i < NR_PAGES; i++) {
		volatile uint64_t *p = (uint64_t *)address(i);

		for (int w = 0; w < 3; w++)
			p[(i * 37 + w * 170) % 512] = word(i, gen);
	}
}

static bool page_is(const char *at, unsigned long page, unsigned int gen)
{
	const volatile uint64_t *p = (const uint64_t *)at;

	for (int w = 0; w < 3; w++)
		if (p[(page * 37 + w * 170) % 512] != word(page, gen))
			return false;
	return true;
}

static int count_wrong(unsigned int gen)
{
	int wrong = 0;

	for (unsigned long i = 0; i < NR_PAGES; i++)
		wrong += !page_is(address(i), i, gen);
	return wrong;
}

static void map_memory(void)
{
	if (mmap(mem, SIZE, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != mem)
		fatal("mmap");
	madvise(mem, SIZE, MADV_NOHUGEPAGE);
}

static pid_t clone_async(void)
{
	struct clone_args args = {
		.flags = CLONE_ASYNC_PGTABLE,
		.exit_signal = SIGCHLD,
	};

	return syscall(__NR_clone3, &args, sizeof(args));
}

static void __attribute__((noreturn)) be_child(unsigned int gen)
{
	shared->up = 1;
	while (!shared->go)
		sched_yield();
	shared->wrong = count_wrong(gen);
	_exit(shared->wrong ? 1 : 0);
}

static void set_task(int fd, unsigned long value)
{
	char text[16];

	snprintf(text, sizeof(text), "%lu", value);
	/* This may be what fails. */
	while (pwrite(fd, text, strlen(text), 0) < 0)
		if (errno != EFAULT)
			fatal("fail-nth or make-it-fail");
}

/* Returns whether the nth failure has not happened. */
static bool nth_left(int fd)
{
	char text[16] = "";

	/* This may be what fails. */
	if (pread(fd, text, sizeof(text) - 1, 0) < 0)
		return true;
	return atoi(text) != 0;
}

/* Failures of this task: the @nth of all, or those of the attributes if it is 0. */
static void fail_begin(unsigned long nth)
{
	set_task(nth ? nth_fd : make_fd, nth ? nth : 1);
}

/* Returns whether the nth failure has not happened. */
static bool fail_end(unsigned long nth)
{
	const bool left = nth && nth_left(nth_fd);

	set_task(nth ? nth_fd : make_fd, 0);
	return left;
}

static int open_task(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		fatal("%s", path);
	return fd;
}

static int swap_children(pid_t *children, int nr)
{
	madvise(mem, 16 * PAGE, MADV_PAGEOUT);
	for (int i = 0; i < nr; i++) {
		children[i] = fork();
		if (!children[i]) {
			pause();
			_exit(0);
		}
	}
	return nr;
}

/* From here on this mm is known for having pinned something. */
static void pin_once(void)
{
	static bool pinned;
	struct pin_longterm_test args = { 0, PAGE, 0 };
	char *other;
	int fd;

	if (pinned)
		return;
	pinned = true;
	other = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
		     MAP_POPULATE, -1, 0);
	args.addr = (uintptr_t)other;
	fd = open(DEBUGFS "gup_test", O_RDWR | O_CLOEXEC);
	if (other == MAP_FAILED || fd < 0 || ioctl(fd, PIN_LONGTERM_TEST_START, &args))
		fatal("gup_test");
	close(fd);
	munmap(other, PAGE);
}

/*
 * So many references to the first two pages that they are taken for pinned. To
 * pin them would be a push.
 */
static void take_references(char *page, int fds[2])
{
	struct iovec iov[64];

	if (pipe2(fds, O_CLOEXEC) || fcntl(fds[1], F_SETPIPE_SZ, 2048 * PAGE) < 0)
		fatal("a pipe of 8 MiB");
	for (int i = 0; i < 2; i++) {
		for (int j = 0; j < 64; j++)
			iov[j] = (struct iovec){ page + i * PAGE, PAGE };
		for (int j = 0; j < 1024; j += 64)
			if (vmsplice(fds[1], iov, 64, SPLICE_F_NONBLOCK) != 64L * PAGE)
				fatal("vmsplice");
	}
}

/*
 * Forks with failures in the actor's path: those of the attributes if @nth is 0,
 * else the nth of all. Returns false when there is no nth.
 */
static bool one_fork(struct row *row, enum actor actor, enum kind kind, unsigned long nth)
{
	static char copy[NR_RANGES * PAGE];
	const unsigned int gen = ++generation;
	unsigned int mine = gen;
	bool left = false;
	pid_t children[13];
	int task_fd = -1, pipefds[2] = { -1, -1 }, nr = 0, status;
	pid_t pid;

	if (kind == PINNED)
		pin_once();
	fill(gen);
	if (kind == SWAPPED)
		nr = swap_children(children, 13);
	memset(shared, 0, sizeof(*shared));
	if (actor != IN_CALL)
		put(HOLD_FILE, "1");
	if (actor == IN_CALL)
		fail_begin(nth);
	pid = clone_async();
	if (!pid)
		be_child(gen);
	row->runs++;
	if (actor == IN_CALL) {
		int err = errno;

		left = fail_end(nth);
		if (pid < 0) {
			if (err != ENOMEM && err != EAGAIN && err != EFAULT) {
				printf("# clone3: %s\n", strerror(err));
				bad = true;
			}
			row->refused++;
			goto out;
		}
	}
	if (pid < 0)
		fatal("clone3");
	if (kind == PINNED)
		take_references(mem, pipefds);
	switch (actor) {
	case IN_CALL:
		break;
	case IN_CHILD:
		task_fd = open_task(pid, nth ? "fail-nth" : "make-it-fail");
		set_task(task_fd, nth ? nth : 1);
		put(HOLD_FILE, "0");
		while (!shared->up) {
			siginfo_t info = { 0 };

			if (waitid(P_PID, pid, &info, WEXITED | WNOWAIT | WNOHANG) ||
			    info.si_pid)
				break;
			sched_yield();
		}
		if (shared->up) {
			left = nth && nth_left(task_fd);
			set_task(task_fd, 0);
		}
		close(task_fd);
		break;
	case IN_PUSH:
		fail_begin(nth);
		mine = gen + 1000000;
		fill(mine);
		left = fail_end(nth);
		break;
	case IN_DISCARD:
		fail_begin(nth);
		mine = 0;
		/* Unlike munmap(), needs nothing itself. */
		if (madvise(mem, SIZE, MADV_DONTNEED))
			mine = gen;
		left = fail_end(nth);
		break;
	case IN_PULL: {
		struct iovec local = { copy, sizeof(copy) }, remote[NR_RANGES];
		ssize_t ret;

		/* One page of each range. */
		for (unsigned long i = 0; i < NR_RANGES; i++)
			remote[i] = (struct iovec){ mem + i * RANGE_SIZE, PAGE };
		memset(copy, 0, sizeof(copy));
		fail_begin(nth);
		ret = process_vm_readv(pid, &local, 1, remote, NR_RANGES, 0);
		left = fail_end(nth);
		/* Whatever it has read is right. */
		for (long i = 0; i < ret / (long)PAGE; i++) {
			if (page_is(copy + i * PAGE, i * (NR_PAGES / NR_RANGES), gen))
				continue;
			printf("# %s: a reader of the child saw something wrong\n", row->name);
			row->wrong++;
			bad = true;
		}
		break;
	}
	}
	put(HOLD_FILE, "0");
	shared->go = 1;
	if (waitpid(pid, &status, 0) != pid)
		fatal("waitpid");
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
		row->killed++;
		/* Not by the fault of somebody who looks at it. */
		if (actor == IN_PULL) {
			printf("# %s: the child was killed\n", row->name);
			row->wrong++;
			bad = true;
		}
	} else if (status == 0) {
		row->exact++;
	} else {
		printf("# %s: child ended with %x, %d pages wrong\n", row->name, status,
		       shared->wrong);
		row->wrong++;
		bad = true;
	}
out:
	if (pipefds[0] >= 0) {
		close(pipefds[0]);
		close(pipefds[1]);
	}
	if (mine ? count_wrong(mine) : 0) {
		printf("# %s: the parent's memory is wrong\n", row->name);
		row->parent_wrong++;
		bad = true;
	}
	for (int i = 0; i < nr; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	return nth ? !left : true;
}

/*
 * Rows
 */

/* What a row does, some times: returns how many objects one leak is then. */
typedef long batch_fn(struct row *row, const void *arg);

static struct row *new_row(const char *name, const char *what)
{
	struct row *row = &rows[nr_rows++];

	if (nr_rows > ARRAY_SIZE(rows))
		fatal("too many rows");
	snprintf(row->name, sizeof(row->name), "%s", name);
	row->what = what;
	return row;
}

static void print_row(const struct row *row, bool ok)
{
	bad |= !ok;
	printf("%s %u %s, %s: %ld injected\n", ok ? "ok" : "not ok", nr_rows, row->name,
	       row->what, row->injected);
	if (row->leaked)
		printf("# leaked, more than %ld in each of %u batches:%s\n", row->tolerated,
		       row->batches, row->leak);
	fflush(stdout);
}

static bool is_wanted(const char *name)
{
	return !only || strstr(name, only);
}

static void run_row(const char *name, const char *what, bool must_hit, batch_fn *batch,
		    const void *arg)
{
	bool which[MAX_COUNTERS];
	struct usage before;
	struct row *row;
	long found;

	if (!is_wanted(name))
		return;
	row = new_row(name, what);
	memset(which, true, sizeof(which));
	row->session_fail = -get_vmstat("async_pgtable_session_fail");
	row->fallback_nomem = -get_vmstat("async_pgtable_fallback_nomem");
	do {
		reset_attrs();
		map_memory();
		fill(++generation);
		read_settled(&before);
		row->tolerated = tolerance(batch(row, arg));
		row->injected += injected();
		reset_attrs();
		map_memory();
		fill(++generation);
		found = leaked_since(&before, row->tolerated, which, &row->noise,
				     row->leak, sizeof(row->leak));
		if (found)
			printf("# %s:%s, more than %ld\n", name, row->leak, row->tolerated);
	} while (++row->batches < MAX_BATCHES && found);
	row->leaked = found;
	row->session_fail += get_vmstat("async_pgtable_session_fail");
	row->fallback_nomem += get_vmstat("async_pgtable_fallback_nomem");
	print_row(row, !row->wrong && !row->parent_wrong && !row->leaked &&
		  (!must_hit || row->injected));
}

static const struct site {
	const char *name, *symbol;
	enum actor actor;
	enum kind kind;
} sites[] = {
	{ "tracker and builder", "async_pgtable_builder_new", IN_CALL, PLAIN },
	{ "bitmap and extents", "async_pgtable_builder_defer", IN_CALL, PLAIN },
	{ "rmap of the child", "anon_vma_fork", IN_CALL, PLAIN },
	{ "page tables in the call", "copy_page_range", IN_CALL, PLAIN },
	{ "page table, child", "async_pgtable_prepare", IN_CHILD, PLAIN },
	{ "page table, push by a write", "async_pgtable_prepare", IN_PUSH, PLAIN },
	{ "page table, push by a discard", "async_pgtable_prepare", IN_DISCARD, PLAIN },
	{ "page table, pull", "async_pgtable_prepare", IN_PULL, PLAIN },
	{ "copy of a pinned page, child", "alloc_copy", IN_CHILD, PINNED },
	{ "copy of a pinned page, pull", "alloc_copy", IN_PULL, PINNED },
	{ "copy of a pinned page, push", "alloc_copy", IN_DISCARD, PINNED },
	{ "swap count continuation, child", "swap_extend_table_alloc", IN_CHILD, SWAPPED },
	{ "swap count continuation, push", "swap_extend_table_alloc", IN_PUSH, SWAPPED },
};

static long site_batch(struct row *row, const void *arg)
{
	const struct site *site = arg;
	unsigned long start, end;

	if (!find_symbol(site->symbol, &start, &end)) {
		errno = ENOENT;
		fatal("%s", site->symbol);
	}
	for (unsigned int i = 0; i < 2; i++) {
		filter(attrs[i], start, end);
		put_attr(attrs[i], "probability", "100");
	}
	for (unsigned int i = 0; i < repeat; i++)
		one_fork(row, site->actor, site->kind, 0);
	return injected() < repeat ? injected() : repeat;
}

static const struct turn {
	const char *name;
	enum actor actor;
	enum kind kind;
} turns[] = {
	{ "clone3()", IN_CALL, PLAIN },
	{ "copy by the child", IN_CHILD, PLAIN },
	{ "copy by the child, pinned", IN_CHILD, PINNED },
	{ "push by a discard", IN_DISCARD, PLAIN },
	{ "pull", IN_PULL, PLAIN },
};

/* Each of them some times, as each may be the only one that leaks. */
static long turn_batch(struct row *row, const void *arg)
{
	const struct turn *turn = arg;
	bool more = true;

	for (unsigned long nth = 1; more && nth < 3000; nth++) {
		more = false;
		for (unsigned int i = 0; i < passes; i++)
			more |= one_fork(row, turn->actor, turn->kind, nth);
	}
	return passes;
}

/* Reads "... LABEL N" or "N LABEL" from what the torture prints. */
static long number_before(const char *text, const char *label)
{
	const char *p = strstr(text, label);

	if (!p)
		return 0;
	while (p > text && p[-1] == ' ')
		p--;
	while (p > text && p[-1] >= '0' && p[-1] <= '9')
		p--;
	return atol(p);
}

/* Torture runs in a process of its own. */
static pid_t child_of(pid_t pid)
{
	char path[64], text[32];

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, pid);
	return get(path, text, sizeof(text)) ? atoi(text) : 0;
}

/*
 * How many of @pid's threads have a child, or have had one when this was called
 * before. Not its main thread, which has one that helps.
 */
static unsigned int count_forkers(pid_t pid)
{
	static pid_t of, forkers[16];
	static unsigned int nr;
	char path[320], text[32];
	struct dirent *d;
	DIR *dir;

	if (access("/proc/thread-self/children", R_OK))
		fatal("needs CONFIG_PROC_CHILDREN");
	if (of != pid)
		nr = 0;
	of = pid;
	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	dir = opendir(path);
	while (dir && (d = readdir(dir))) {
		const pid_t tid = atoi(d->d_name);
		bool known = tid <= 0 || tid == pid;

		for (unsigned int i = 0; i < nr; i++)
			known |= forkers[i] == tid;
		snprintf(path, sizeof(path), "/proc/%d/task/%d/children", pid, tid);
		text[0] = 0;
		if (!known && nr < ARRAY_SIZE(forkers) && get(path, text, sizeof(text)) &&
		    text[0])
			forkers[nr++] = tid;
	}
	if (dir)
		closedir(dir);
	return nr;
}

/* Kernel threads fail as well: workers, ksmd, khugepaged, kswapd, ... */
static void fail_kernel_threads(bool fail)
{
	char path[320], text[512], *state;
	struct dirent *d;
	DIR *dir = opendir("/proc");

	while (dir && (d = readdir(dir))) {
		if (!isdigit(d->d_name[0]))
			continue;
		/* kthreadd, whose children inherit it, and these. */
		snprintf(path, sizeof(path), "/proc/%s/stat", d->d_name);
		if (!get(path, text, sizeof(text)))
			continue;
		state = strrchr(text, ')');
		if (strcmp(d->d_name, "2") && (!state || strncmp(state + 3, " 2 ", 3)))
			continue;
		snprintf(path, sizeof(path), "/proc/%s/make-it-fail", d->d_name);
		try_put(path, fail ? "1" : "0");
	}
	if (dir)
		closedir(dir);
}

/* One of so many fails. clone3() alone makes hundreds of allocations. */
struct random {
	const char *attr;
	unsigned int interval;
	bool kernel_threads;
	bool not_fork;		/* what fork allocates does not fail */
};

enum { STARTING, FAILING, ENDING };

#define TAIL	(sizeof(torture_text) / 4)

/*
 * Torture, in which something fails from the moment when each thread that forks
 * has forked, so that none is still setting itself up, and until before it ends.
 * What fails in between it survives. Of other tasks, only kernel threads fail.
 */
static long random_batch(struct row *row, const void *arg)
{
	const struct random *random = arg;
	char *out = torture_text;
	char seconds[16], text[32];
	const char *args[] = { torture, "-t", seconds, "-r", "8", "-p", "3", "-e", "-k", "-w",
			       "120", NULL };
	int fds[2], status, state = STARTING;
	unsigned long start, end;
	time_t since = time(NULL);
	const long lost = row->wrong + row->parent_wrong;
	size_t len = 0;
	ssize_t got;
	pid_t pid;

	snprintf(text, sizeof(text), "%u", random->interval);
	put_attr(random->attr, "interval", text);
	if (random->not_fork && find_symbol("copy_process", &start, &end)) {
		snprintf(text, sizeof(text), "%#lx", start);
		try_attr(random->attr, "reject-start", text);
		snprintf(text, sizeof(text), "%#lx", end);
		try_attr(random->attr, "reject-end", text);
	}
	snprintf(seconds, sizeof(seconds), "%u", 2 * step_seconds + 2);
	if (pipe(fds))
		fatal("pipe");
	pid = fork();
	if (pid < 0)
		fatal("fork");
	if (!pid) {
		dup2(fds[1], 1);
		close(fds[0]);
		execv(torture, (char **)args);
		printf("exec: %s\n", strerror(errno));
		fflush(stdout);
		_exit(127);
	}
	close(fds[1]);
	out[0] = 0;
	for (;;) {
		struct pollfd poll_fd = { fds[0], POLLIN, 0 };

		if (poll(&poll_fd, 1, 5) > 0) {
			got = read(fds[0], out + len, sizeof(torture_text) - 1 - len);
			if (got <= 0)
				break;
			len += got;
			/* It ends with what is of interest. */
			if (len > sizeof(torture_text) - TAIL) {
				memmove(out, out + len - TAIL, TAIL);
				len = TAIL;
			}
			out[len] = 0;
		}
		if (state == STARTING && strstr(out, "# running\n") &&
		    count_forkers(child_of(pid)) >= 3) {
			if (random->kernel_threads)
				fail_kernel_threads(true);
			put_attr(random->attr, "probability", "100");
			since = time(NULL);
			state = FAILING;
		} else if (state == FAILING && time(NULL) - since >= step_seconds) {
			put_attr(random->attr, "probability", "0");
			state = ENDING;
		}
	}
	close(fds[0]);
	waitpid(pid, &status, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(attrs); i++)
		put_attr(attrs[i], "probability", "0");
	if (random->kernel_threads)
		fail_kernel_threads(false);
	row->runs += number_before(out, " async forks") + number_before(out, " default forks");
	row->refused += number_before(out, " failed;");
	row->exact += number_before(out, " verified,");
	row->killed += number_before(out, " killed (");
	row->wrong += number_before(out, " in children,");
	row->parent_wrong += number_before(out, " in the parent\n");
	if (status || state == STARTING) {
		printf("# torture ended with %x, %s:\n%s\n", status,
		       state == STARTING ? "before anything failed" :
		       state == FAILING ? "while something failed" :
		       "after all that failed", out);
		if (row->wrong + row->parent_wrong == lost)
			row->wrong++;
	}
	/* Of fewer, all may leak and be taken for noise. */
	return injected() < MIN_FORKS ? MIN_FORKS : injected();
}

static void run_random(const struct random *random)
{
	char name[64];

	snprintf(name, sizeof(name), "%s 1/%u", random->attr, random->interval);
	run_row(name, random->kernel_threads ? "and kernel threads" :
		random->not_fork ? "not in fork" : "torture", true, random_batch, random);
}

/*
 * A task is killed while it waits for the mmap_lock in fork. Another thread has
 * it, and is stopped in the middle of a push.
 */
static void *unmap_a_part(void *unused)
{
	(void)unused;
	munmap(mem + PAGE, PAGE);
	return NULL;
}

static long killed_batch(struct row *row, const void *arg)
{
	(void)arg;
	for (unsigned int i = 0; i < repeat; i++) {
		const unsigned int gen = ++generation;
		pid_t parent, child;
		char text[16] = "";
		pthread_t thread;
		int status, tries;

		fill(gen);
		memset(shared, 0, sizeof(*shared));
		parent = fork();
		if (parent < 0)
			fatal("fork");
		if (!parent) {
			fill(gen);
			put(HOLD_FILE, "1");
			child = clone_async();
			if (!child)
				be_child(gen);
			put(HOLD_FILE, "3");
			shared->up = 0;
			if (child < 0 || pthread_create(&thread, NULL, unmap_a_part, NULL))
				_exit(1);
			while (!shared->go)
				sched_yield();
			shared->wrong = 0;
			if (!clone_async())
				_exit(0);
			_exit(2);
		}
		for (tries = 0; tries < 1000 && atoi(text) != 2; tries++) {
			usleep(1000);
			get(DEBUGFS "async_pgtable/held", text, sizeof(text));
		}
		shared->go = 1;
		usleep(20000);
		kill(parent, SIGKILL);
		usleep(5000);
		put(HOLD_FILE, "0");
		row->runs++;
		while ((child = waitpid(-1, &status, __WALL)) > 0) {
			if (child == parent)
				row->refused += WIFSIGNALED(status);
			else if (status == 0)
				row->exact++;
			else
				row->wrong++;
		}
	}
	return repeat;
}

static volatile uint64_t *word_in(char *area, unsigned long range)
{
	return (volatile uint64_t *)(area + range * RANGE_SIZE + PAGE);
}

/*
 * Memory cgroups. The parent has many page tables with one page each, and the
 * group no room for the child's. Each time another group, as one to which there
 * is still a reference never goes away.
 */
static long memcg_batch(struct row *row, const void *arg)
{
	const enum actor actor = *(const enum actor *)arg;
	const unsigned long nr = 600;
	char *area;

	for (unsigned int i = 0; i < MEMCG_FORKS; i++) {
		unsigned long first = actor == IN_DISCARD ? nr / 2 : 0;
		pid_t parent, child;
		char text[32];
		int status;

		if (mkdir(CGROUP, 0755))
			fatal(CGROUP);
		memset(shared, 0, sizeof(*shared));
		parent = fork();
		if (parent < 0)
			fatal("fork");
		if (!parent) {
			put(CGROUP "/cgroup.procs", "0");
			area = mmap(NULL, (nr + 1) * RANGE_SIZE, PROT_READ | PROT_WRITE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
			if (area == MAP_FAILED)
				_exit(2);
			madvise(area, (nr + 1) * RANGE_SIZE, MADV_NOHUGEPAGE);
			for (unsigned long r = 0; r <= nr; r++)
				*word_in(area, r) = r;
			put(HOLD_FILE, "1");
			child = clone_async();
			if (!child) {
				for (unsigned long r = 0; r <= nr; r++)
					if (*word_in(area, r) != r)
						_exit(1);
				_exit(0);
			}
			/*
			 * No memory of our own while the group is full: its OOM
			 * killer would rather take us than the child.
			 */
			shared->up = 1;
			while (shared->go < 1)
				sched_yield();
			if (actor == IN_DISCARD)
				madvise(area, first * RANGE_SIZE, MADV_DONTNEED);
			shared->up = 2;
			while (shared->go < 2)
				sched_yield();
			if (child < 0 || waitpid(child, &status, 0) != child)
				_exit(3);
			for (unsigned long r = first; r <= nr; r++)
				if (*word_in(area, r) != r)
					_exit(4);
			if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
				_exit(20);
			_exit(status ? 5 : 21);
		}
		while (shared->up < 1 && waitpid(parent, NULL, WNOHANG) == 0)
			sched_yield();
		put(CGROUP "/memory.swap.max", "0");
		get(CGROUP "/memory.current", text, sizeof(text));
		snprintf(text, sizeof(text), "%ld", atol(text) + 256 * 1024);
		put(CGROUP "/memory.max", text);
		shared->go = 1;
		for (int t = 0; t < 5000 && shared->up < 2; t++)
			usleep(1000);
		put(HOLD_FILE, "0");
		for (int t = 0; t < 5000 && get_vmstat("async_pgtable_session_start") !=
		     get_vmstat("async_pgtable_session_complete") +
		     get_vmstat("async_pgtable_session_abandon") +
		     get_vmstat("async_pgtable_session_fail"); t++)
			usleep(1000);
		put(CGROUP "/memory.max", "max");
		shared->go = 2;
		waitpid(parent, &status, 0);
		row->runs++;
		if (WIFEXITED(status) && WEXITSTATUS(status) == 20) {
			row->killed++;
		} else if (WIFEXITED(status) && WEXITSTATUS(status) == 21) {
			row->exact++;
		} else {
			printf("# %s: the parent ended with %x\n", row->name, status);
			row->parent_wrong++;
		}
		for (int t = 0; t < 500 && rmdir(CGROUP); t++)
			usleep(10000);
	}
	return MEMCG_FORKS;
}

static void run_memcg(enum actor actor, const char *name)
{
	if (!is_wanted(name))
		return;
	if (mkdir(CGROUP, 0755) && errno != EEXIST) {
		printf("ok %u %s # SKIP no cgroup2: %s\n", ++nr_rows, name, strerror(errno));
		return;
	}
	if (access(CGROUP "/memory.max", W_OK)) {
		printf("ok %u %s # SKIP no memory controller\n", ++nr_rows, name);
		rmdir(CGROUP);
		return;
	}
	rmdir(CGROUP);
	run_row(name, "memory.max", false, memcg_batch, &actor);
	if (!rows[nr_rows - 1].session_fail) {
		printf("not ok %u %s: the limit was met\n", ++nr_rows, name);
		bad = true;
	}
}

/*
 * Control: leaks of our own, one of each for each fork of the row that has
 * fewest, must be found, and must be gone when they are.
 */
struct planted {
	int pipes[64][2], pipe[2], pin_fd;
	pid_t children[64], zombies[64];
	char *tables, *vmas, *lent, *pinned, *swapped;
	unsigned int nr;
};

static char *private_pages(unsigned long nr)
{
	char *p = mmap(NULL, nr * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		fatal("mmap");
	madvise(p, nr * PAGE, MADV_NOHUGEPAGE);
	/* Not the same, or zram does not need memory for them. */
	for (unsigned long i = 0; i < nr * PAGE / 8; i++)
		((uint64_t *)p)[i] = word(i, 0xdead);
	return p;
}

static void plant(struct planted *p)
{
	struct pin_longterm_test args = { 0, p->nr * PAGE, 0 };
	struct iovec iov;

	for (unsigned int i = 0; i < p->nr; i++) {
		if (pipe(p->pipes[i]))
			fatal("pipe");
		p->children[i] = fork();
		if (!p->children[i]) {
			pause();
			_exit(0);
		}
		if (p->children[i] < 0)
			fatal("fork");
	}
	p->tables = mmap(NULL, p->nr * RANGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p->tables == MAP_FAILED)
		fatal("mmap");
	madvise(p->tables, p->nr * RANGE_SIZE, MADV_NOHUGEPAGE);
	for (unsigned int i = 0; i < p->nr; i++)
		p->tables[i * RANGE_SIZE] = 1;
	p->vmas = private_pages(2 * p->nr);
	for (unsigned int i = 0; i < p->nr; i++)
		mprotect(p->vmas + 2 * i * PAGE, PAGE, PROT_READ);
	/* Nobody maps them any more, but the pipe has a reference. */
	p->lent = private_pages(p->nr);
	iov = (struct iovec){ p->lent, p->nr * PAGE };
	if (pipe(p->pipe) || fcntl(p->pipe[0], F_SETPIPE_SZ, 64 * PAGE) < 0 ||
	    vmsplice(p->pipe[1], &iov, 1, 0) != (ssize_t)iov.iov_len)
		fatal("vmsplice");
	munmap(p->lent, p->nr * PAGE);
	p->pinned = private_pages(p->nr);
	args.addr = (uintptr_t)p->pinned;
	p->pin_fd = open(DEBUGFS "gup_test", O_RDWR | O_CLOEXEC);
	if (p->pin_fd < 0 || ioctl(p->pin_fd, PIN_LONGTERM_TEST_START, &args))
		fatal("gup_test");
	p->swapped = private_pages(p->nr);
	madvise(p->swapped, p->nr * PAGE, MADV_PAGEOUT);
	/* Groups that are gone, but for a task that nobody has waited for. */
	for (unsigned int i = 0; i < p->nr; i++) {
		siginfo_t info;

		mkdir(CGROUP, 0755);
		p->zombies[i] = fork();
		if (!p->zombies[i])
			_exit(!try_put(CGROUP "/cgroup.procs", "0"));
		waitid(P_PID, p->zombies[i], &info, WEXITED | WNOWAIT);
		for (int t = 0; t < 100 && rmdir(CGROUP); t++)
			usleep(10000);
	}
}

static void weed(struct planted *p)
{
	for (unsigned int i = 0; i < p->nr; i++) {
		close(p->pipes[i][0]);
		close(p->pipes[i][1]);
		kill(p->children[i], SIGKILL);
		waitpid(p->children[i], NULL, 0);
		waitpid(p->zombies[i], NULL, 0);
	}
	munmap(p->tables, p->nr * RANGE_SIZE);
	munmap(p->vmas, 2 * p->nr * PAGE);
	close(p->pipe[0]);
	close(p->pipe[1]);
	close(p->pin_fd);
	munmap(p->pinned, p->nr * PAGE);
	munmap(p->swapped, p->nr * PAGE);
}

static void run_control(void)
{
	static const char *const expected[] = {
		"anonymous pages", "page tables", "lost pages", "unmapped pages", "pins", "swap", "dying cgroups",
		"mm_struct", "vm_area_struct", "anon_vma", "anon_vma_chain", "task_struct",
		"kmalloc-cg-",
	};
	struct row *row = new_row("control", "leaks of our own");
	struct planted planted = { .nr = MEMCG_FORKS };
	struct usage before;
	bool which[MAX_COUNTERS];
	bool missed = false;

	row->tolerated = tolerance(planted.nr);
	row->runs = planted.nr;
	row->batches = 1;
	read_settled(&before);
	plant(&planted);
	memset(which, true, sizeof(which));
	leaked_since(&before, row->tolerated, which, &row->noise, row->leak, sizeof(row->leak));
	printf("# planted %u of each, more than %ld are found:%s\n", planted.nr, row->tolerated,
	       row->leak);
	for (unsigned int i = 0; i < ARRAY_SIZE(expected); i++) {
		bool seen = false;

		for (unsigned int c = 0; c < nr_counters; c++)
			seen |= which[c] && !strncmp(usage_names[c], expected[i],
						     strlen(expected[i]));
		seen |= !own_group && !strcmp(expected[i], "dying cgroups");
		if (!seen)
			printf("# not found: %s\n", expected[i]);
		missed |= !seen;
	}
	weed(&planted);
	memset(which, true, sizeof(which));
	row->leaked = leaked_since(&before, row->tolerated, which, &row->noise, row->leak,
				   sizeof(row->leak));
	print_row(row, !missed && !row->leaked);
}


static void print_table(void)
{
	printf("# %-34s %-13s %6s %8s %7s %7s %7s %6s %6s %6s %9s %5s %7s\n", "failure", "",
	       "forks", "injected", "exact", "killed", "ENOMEM", "wrong", "parent", "leaked",
	       "tolerated", "noise", "batches");
	for (unsigned int i = 0; i < nr_rows; i++) {
		const struct row *r = &rows[i];

		if (!r->what)
			continue;
		printf("# %-34s %-13.13s %6ld %8ld %7ld %7ld %7ld %6ld %6ld %6ld %9ld %+5ld %7u %s\n",
		       r->name, r->what, r->runs, r->injected, r->exact, r->killed, r->refused,
		       r->wrong, r->parent_wrong, r->leaked, r->tolerated,
		       r->noise.most, r->batches, r->noise.of);
	}
}

static void write_json(const char *path)
{
	FILE *f = fopen(path, "we");

	if (!f)
		fatal("%s", path);
	fprintf(f, "[\n");
	for (unsigned int i = 0; i < nr_rows; i++) {
		const struct row *r = &rows[i];

		if (!r->what)
			continue;
		fprintf(f, "%s  {\"failure\": \"%s\", \"where\": \"%s\", \"forks\": %ld, "
			"\"injected\": %ld, \"exact\": %ld, \"killed\": %ld, \"enomem\": %ld, "
			"\"wrong\": %ld, \"parent_wrong\": %ld, \"leaked\": %ld, "
			"\"tolerated\": %ld, \"noise\": %ld, \"batches\": %u, "
			"\"session_fail\": %ld, \"fallback_nomem\": %ld}", i ? ",\n" : "",
			r->name, r->what, r->runs, r->injected, r->exact, r->killed,
			r->refused, r->wrong, r->parent_wrong, r->leaked, r->tolerated,
			labs(r->noise.most), r->batches, r->session_fail, r->fallback_nomem);
	}
	fprintf(f, "\n]\n");
	if (fclose(f))
		fatal("%s", path);
}

static void check_kmemleak(void)
{
	static char text[16384];

	if (access(DEBUGFS "kmemleak", W_OK)) {
		printf("ok %u kmemleak # SKIP not in this kernel\n", ++nr_rows);
		return;
	}
	/* Objects are reported when two scans in a row find nobody who knows them. */
	for (int i = 0; i < 2; i++) {
		try_put(DEBUGFS "kmemleak", "scan");
		sleep(6);
	}
	text[0] = 0;
	get(DEBUGFS "kmemleak", text, sizeof(text));
	printf("%s %u kmemleak\n%s", text[0] ? "not ok" : "ok", ++nr_rows, text);
	bad |= text[0];
}

/* Reads what has been saved of /proc, in two directories. */
static int compare_saved(const char **dirs, long failures)
{
	bool which[MAX_COUNTERS];
	struct usage u[2];
	char leak[640];
	struct noise noise;

	memset(which, true, sizeof(which));
	for (int i = 0; i < 2; i++) {
		usage_dir = dirs[i];
		close_sources();
		parse_usage(&u[i]);
	}
	if (leaked_between(&u[0], &u[1], tolerance(failures), which, &noise, leak,
			   sizeof(leak))) {
		printf("leaked:%s\n", leak);
		return 1;
	}
	printf("tolerated: %ld, noise: %+ld %s\n", tolerance(failures), noise.most, noise.of);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct random randoms[] = {
		{ "failslab", 1000, false, false },
		{ "failslab", 300, false, false },
		{ "failslab", 100, false, true },
		{ "fail_page_alloc", 1000, false, false },
		{ "fail_page_alloc", 200, false, false },
		{ "fail_page_alloc", 40, false, true },
		{ "fail_usercopy", 100, false, false },
		{ "fail_usercopy", 40, false, false },
		{ "fail_usercopy", 15, false, false },
		{ "failslab", 1000, true, false },
		{ "fail_page_alloc", 1000, true, false },
	};
	const char *json = NULL, *compared[2];
	bool which[MAX_COUNTERS];
	struct usage start;
	char leak[640];
	struct noise noise;
	long leaked;
	int opt;

	memset(which, true, sizeof(which));
	while ((opt = getopt(argc, argv, "t:r:p:o:T:j:c:")) != -1) {
		switch (opt) {
		case 't':
			step_seconds = atoi(optarg);
			break;
		case 'r':
			repeat = atoi(optarg);
			break;
		case 'p':
			passes = atoi(optarg);
			break;
		case 'o':
			only = optarg;
			break;
		case 'c':
			/* For ci/test: what leaked between two directories? */
			if (optind + 1 != argc)
				return 2;
			compared[0] = optarg;
			compared[1] = argv[optind];
			return compare_saved(compared, repeat);
		case 'T':
			torture = optarg;
			break;
		case 'j':
			json = optarg;
			break;
		default:
			fprintf(stderr,
				"usage: %s [-t SECONDS per step] [-r FORKS per site] [-p FORKS for each in turn]\n"
				"          [-o TEXT in the names of rows] [-T torture] [-j JSON]\n",
				argv[0]);
			return 2;
		}
	}
	if (repeat < MIN_FORKS || passes < MIN_FORKS) {
		fprintf(stderr, "less than %d forks are too few to tell a leak from noise\n",
			MIN_FORKS);
		return 2;
	}
	/* A write to the rseq area that fails is a SIGSEGV, in all of Linux. */
	if (!getenv("GLIBC_TUNABLES")) {
		setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1);
		execv("/proc/self/exe", argv);
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n");
	if (access(HOLD_FILE, W_OK) || access(DEBUGFS "failslab", F_OK))
		fatal("needs root, CONFIG_ASYNC_PGTABLE_TEST and FAULT_INJECTION");
	have_filter = !access(DEBUGFS "failslab/require-start", W_OK);
	nth_fd = open_task(getpid(), "fail-nth");
	make_fd = open_task(getpid(), "make-it-fail");
	mem = mmap(NULL, SIZE + 3 * RANGE_SIZE, PROT_NONE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED || shared == MAP_FAILED)
		fatal("mmap");
	mem = (char *)(((uintptr_t)mem + 2 * RANGE_SIZE - 1) & ~(RANGE_SIZE - 1));
	map_memory();
	reset_attrs();
	/* Caches grow once, and so do we. */
	memset(torture_text, 1, sizeof(torture_text));
	count_forkers(getpid());
	fail_kernel_threads(false);
	for (int i = 0; i < 20; i++) {
		struct row warm = { 0 };

		one_fork(&warm, i % 5, PLAIN, 1 + i);
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	enter_group();
	run_control();
	map_memory();
	fill(++generation);
	read_settled(&start);

	if (have_filter) {
		for (unsigned int i = 0; i < ARRAY_SIZE(sites); i++)
			run_row(sites[i].name, sites[i].symbol, true, site_batch, &sites[i]);
	} else {
		printf("ok %u single allocations # SKIP needs CONFIG_FAULT_INJECTION_STACKTRACE_FILTER\n",
		       ++nr_rows);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(turns); i++)
		run_row(turns[i].name, "each in turn", true, turn_batch, &turns[i]);
	if (torture && step_seconds) {
		/* zram fails with what it allocates, and the parent gets SIGBUS. */
		swapoff("/dev/zram0");
		for (unsigned int i = 0; i < ARRAY_SIZE(randoms); i++)
			run_random(&randoms[i]);
	}
	run_row("killed while it waits to fork", "SIGKILL", false, killed_batch, NULL);
	run_memcg(IN_CHILD, "memory cgroup, copy by the child");
	run_memcg(IN_DISCARD, "memory cgroup, push");
	check_kmemleak();
	leaked = leaked_since(&start, tolerance(repeat), which, &noise, leak, sizeof(leak));
	printf("%s %u as much memory in use as before\n", leaked ? "not ok" : "ok", ++nr_rows);
	if (leaked)
		printf("# leaked:%s\n", leak);
	bad |= leaked;
	printf("1..%u\n", nr_rows);
	print_table();
	if (json)
		write_json(json);
	return bad;
}
