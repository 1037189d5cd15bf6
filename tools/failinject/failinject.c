// SPDX-License-Identifier: GPL-2.0
/*
 * Failure injection for asynchronous page tables. Runs in a guest as root, see
 * tools/failinject/run beside it.
 *
 * An allocation fails: in the call, in the child that copies, in a parent that
 * pushes, in somebody who pulls. Whatever fails,
 * - the parent goes on with its own memory,
 * - clone3() fails, or the child is exact, or it is killed by SIGKILL,
 * - nothing is left behind when all have exited.
 *
 * First the allocations that the feature adds, or moves out of the call, fail
 * one by one: by the stack filter of the kernel's failure injection, so that
 * the count of failures proves that it was this one. Then all allocations and
 * user copies on a path fail in turn (fail-nth). Then they fail at random while
 * mm/async_pgtable_torture runs. At last a memory cgroup has no more room.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
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
#include <unistd.h>

#ifndef CLONE_ASYNC_PGTABLE
#define CLONE_ASYNC_PGTABLE	(1ULL << 38)
#endif

#define PAGE		4096UL
#define RANGE_SIZE	(2UL << 20)
#define NR_RANGES	4UL
#define SIZE		(NR_RANGES * RANGE_SIZE)
#define NR_PAGES	(SIZE / PAGE)
#define DEBUGFS		"/sys/kernel/debug/"
#define HOLD_FILE	DEBUGFS "async_pgtable/hold"
#define TIMES		1000000000L
#define CGROUP		"/sys/fs/cgroup/failinject"

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

/* Leaks of less than this are noise: what other tasks do, and per-CPU caches. */
#define SLACK_OBJECTS	20
#define SLACK_KB	1024

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
	bool must_hit;
	char leak[160];
};

struct shared {
	volatile int up, go, wrong;
};

static struct row rows[64];
static unsigned int nr_rows;
static char *mem;
static struct shared *shared;
static unsigned int generation;
static const char *torture;
static unsigned int step_seconds = 8, repeat = 40;
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

static const char *const caches[] = {
	"mm_struct", "vm_area_struct", "anon_vma", "anon_vma_chain", "task_struct",
	"kmalloc-cg-8", "kmalloc-cg-16", "kmalloc-cg-32", "kmalloc-cg-64",
	"kmalloc-cg-96", "kmalloc-cg-128", "kmalloc-cg-192", "kmalloc-cg-256",
	"kmalloc-cg-512", "kmalloc-cg-1k", "kmalloc-64", "kmalloc-128", "kmalloc-256",
};

struct usage {
	long page_tables, anon_kb, slab_kb, swap_kb;
	long objects[ARRAY_SIZE(caches)];
};

static void read_usage(struct usage *u)
{
	char line[256], key[64];
	long v;
	FILE *f;

	memset(u, 0, sizeof(*u));
	/* Exited tasks are freed by RCU and workers. */
	sync();
	usleep(300000);
	try_put("/proc/sys/vm/drop_caches", "3");
	usleep(200000);
	for (unsigned int i = 0; i < ARRAY_SIZE(caches); i++) {
		char path[128];

		/* Empty slabs that are kept count in SUnreclaim. */
		snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", caches[i]);
		try_put(path, "1");
	}
	u->page_tables = get_vmstat("nr_page_table_pages");
	f = fopen("/proc/meminfo", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63[^:]: %ld", key, &v) != 2)
			continue;
		if (!strcmp(key, "AnonPages"))
			u->anon_kb = v;
		else if (!strcmp(key, "SUnreclaim"))
			u->slab_kb = v;
		else if (!strcmp(key, "SwapTotal"))
			u->swap_kb += v;
		else if (!strcmp(key, "SwapFree"))
			u->swap_kb -= v;
	}
	if (f)
		fclose(f);
	f = fopen("/proc/slabinfo", "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %ld", key, &v) != 2)
			continue;
		for (unsigned int i = 0; i < ARRAY_SIZE(caches); i++)
			if (!strcmp(key, caches[i]))
				u->objects[i] = v;
	}
	if (f)
		fclose(f);
}

static struct usage before;

/* How much more than a leak's worth of noise there is, and of what. */
static long leaked_since(const struct usage *then, char *text, size_t size)
{
	struct usage now;
	long leaked = 0;
	size_t at = 0;

	text[0] = 0;
	for (int attempt = 0; attempt < 8; attempt++) {
		leaked = 0;
		at = 0;
		read_usage(&now);
#define COMPARE(what, delta, slack) do {					\
		long d = (delta);						\
										\
		if (d > (slack)) {						\
			leaked += d;						\
			if (at < size)						\
				at += snprintf(text + at, size - at, " %s %+ld", what, d); \
		}								\
	} while (0)
		COMPARE("page tables", now.page_tables - then->page_tables, SLACK_OBJECTS);
		COMPARE("AnonPages kB", now.anon_kb - then->anon_kb, SLACK_KB);
		COMPARE("SUnreclaim kB", now.slab_kb - then->slab_kb, SLACK_KB);
		COMPARE("swap kB", now.swap_kb - then->swap_kb, SLACK_KB);
		for (unsigned int i = 0; i < ARRAY_SIZE(caches); i++)
			COMPARE(caches[i], now.objects[i] - then->objects[i],
				SLACK_OBJECTS);
		if (!leaked)
			break;
		sleep(1);
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
	unsigned long addr;
	char line[512], symbol[384], type;
	FILE *f = fopen("/proc/kallsyms", "re");

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
	return *start;
}

/*
 * One fork
 */

static uint64_t word(unsigned long page, unsigned int gen)
{
	return (page + 1) * 0x9e3779b97f4a7c15ULL + gen;
}

static void fill(unsigned int gen)
{
	for (unsigned long i = 0; i < NR_PAGES; i++) {
		volatile uint64_t *p = (uint64_t *)(mem + i * PAGE);

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
		wrong += !page_is(mem + i * PAGE, i, gen);
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
	int task_fd = -1, pin_fd = -1, nr = 0, status;
	pid_t pid;

	if (kind == PINNED) {
		/* What was pinned is copied in the call, once: let it be this one. */
		pid = fork();
		if (!pid)
			_exit(0);
		waitpid(pid, NULL, 0);
	}
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
	if (kind == PINNED) {
		struct pin_longterm_test args = { (uintptr_t)mem, 64 * PAGE, 0 };

		/* For reading, which does not settle. */
		pin_fd = open(DEBUGFS "gup_test", O_RDWR | O_CLOEXEC);
		if (pin_fd < 0 || ioctl(pin_fd, PIN_LONGTERM_TEST_START, &args))
			fatal("gup_test");
	}
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
			if (page_is(copy + i * PAGE, i * (RANGE_SIZE / PAGE), gen))
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
	if (pin_fd >= 0)
		close(pin_fd);
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

static struct row *begin_row(const char *name, const char *what)
{
	struct row *row = &rows[nr_rows++];

	snprintf(row->name, sizeof(row->name), "%s", name);
	row->what = what;
	reset_attrs();
	fill(++generation);
	read_usage(&before);
	row->session_fail = -get_vmstat("async_pgtable_session_fail");
	row->fallback_nomem = -get_vmstat("async_pgtable_fallback_nomem");
	return row;
}

static void end_row(struct row *row)
{
	bool ok;

	row->injected = injected();
	reset_attrs();
	row->session_fail += get_vmstat("async_pgtable_session_fail");
	row->fallback_nomem += get_vmstat("async_pgtable_fallback_nomem");
	row->leaked = leaked_since(&before, row->leak, sizeof(row->leak));
	ok = !row->wrong && !row->parent_wrong && !row->leaked &&
	     (!row->must_hit || row->injected);
	if (!ok)
		bad = true;
	printf("%s %u %s, %s: %ld injected\n", ok ? "ok" : "not ok", nr_rows, row->name,
	       row->what, row->injected);
	if (row->leaked)
		printf("# leaked:%s\n", row->leak);
	fflush(stdout);
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

static void run_site(const struct site *site)
{
	struct row *row = begin_row(site->name, site->symbol);
	unsigned long start, end;
	unsigned int runs = site->kind == SWAPPED ? repeat / 4 + 1 : repeat;

	if (!find_symbol(site->symbol, &start, &end)) {
		errno = ENOENT;
		fatal("%s", site->symbol);
	}
	row->must_hit = true;
	for (unsigned int i = 0; i < 2; i++) {
		filter(attrs[i], start, end);
		put_attr(attrs[i], "probability", "100");
	}
	for (unsigned int i = 0; i < runs; i++)
		one_fork(row, site->actor, site->kind, 0);
	end_row(row);
}

static void run_in_turn(const char *name, enum actor actor, enum kind kind)
{
	struct row *row = begin_row(name, "each in turn");
	unsigned long nth = 1;

	row->must_hit = true;
	while (one_fork(row, actor, kind, nth) && nth < 3000)
		nth++;
	end_row(row);
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

/* Torture with failures of @attr from the moment when it is set up. */
static void run_torture(struct row *row, const char *attr)
{
	static char out[65536];
	char seconds[16];
	const char *args[] = { torture, "-t", seconds, "-e", "-k", "-w", "120", NULL };
	bool running = false;
	int fds[2], status;
	size_t len = 0;
	ssize_t got;
	pid_t pid;

	snprintf(seconds, sizeof(seconds), "%u", step_seconds);
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
	while ((got = read(fds[0], out + len, sizeof(out) - 1 - len)) > 0) {
		len += got;
		out[len] = 0;
		if (!running && strstr(out, "# running\n")) {
			running = true;
			put_attr(attr, "probability", "100");
		}
	}
	out[len] = 0;
	close(fds[0]);
	waitpid(pid, &status, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(attrs); i++)
		put_attr(attrs[i], "probability", "0");
	row->runs = number_before(out, " async forks") + number_before(out, " default forks");
	row->refused = number_before(out, " failed;");
	row->exact = number_before(out, " verified,");
	row->killed = number_before(out, " killed (");
	row->wrong = number_before(out, " in children,");
	row->parent_wrong = number_before(out, " in the parent\n");
	if (status) {
		printf("# torture ended with %x:\n%s\n", status, out);
		row->wrong += !row->wrong && !row->parent_wrong;
	}
}

/* One in @interval fails. clone3() alone makes hundreds of allocations. */
static void run_random(const char *attr, unsigned int interval, bool everybody)
{
	char name[64], text[16];
	struct row *row;

	snprintf(name, sizeof(name), "%s 1/%u", attr, interval);
	row = begin_row(name, everybody ? "every task" : "torture");
	row->must_hit = true;
	snprintf(text, sizeof(text), "%u", interval);
	put_attr(attr, "interval", text);
	put_attr(attr, "task-filter", everybody ? "N" : "Y");
	run_torture(row, attr);
	end_row(row);
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

static void run_killed(void)
{
	struct row *row = begin_row("killed while it waits to fork", "SIGKILL");

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	/* More often than what passes for noise. */
	for (unsigned int i = 0; i < 2 * SLACK_OBJECTS + repeat; i++) {
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
	end_row(row);
}

static volatile uint64_t *word_in(char *area, unsigned long range)
{
	return (volatile uint64_t *)(area + range * RANGE_SIZE + PAGE);
}

/*
 * Memory cgroups. The parent has many page tables with one page each, and the
 * group no room for the child's.
 */
static void run_memcg(enum actor actor, const char *name)
{
	const unsigned long nr = 600;
	struct row *row;
	char *area;

	mkdir("/sys/fs/cgroup", 0755);
	try_put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(CGROUP, 0755) && errno != EEXIST) {
		printf("ok %u %s # SKIP no cgroup2: %s\n", ++nr_rows, name, strerror(errno));
		return;
	}
	if (access(CGROUP "/memory.max", W_OK)) {
		printf("ok %u %s # SKIP no memory controller\n", ++nr_rows, name);
		rmdir(CGROUP);
		return;
	}
	row = begin_row(name, "memory.max");
	for (int i = 0; i < 5; i++) {
		unsigned long first = actor == IN_DISCARD ? nr / 2 : 0;
		pid_t parent, child;
		char text[32];
		int status;

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
			printf("# %s: the parent ended with %x\n", name, status);
			row->parent_wrong++;
		}
	}
	for (int i = 0; i < 50 && rmdir(CGROUP); i++)
		usleep(100000);
	end_row(row);
	if (!row->session_fail) {
		printf("not ok %u %s: the limit was met\n", ++nr_rows, name);
		bad = true;
	}
}

static void print_table(void)
{
	printf("# %-34s %-13s %6s %8s %7s %7s %7s %6s %6s %6s\n", "failure", "", "forks",
	       "injected", "exact", "killed", "ENOMEM", "wrong", "parent", "leaked");
	for (unsigned int i = 0; i < nr_rows; i++) {
		const struct row *r = &rows[i];

		if (!r->what)
			continue;
		printf("# %-34s %-13.13s %6ld %8ld %7ld %7ld %7ld %6ld %6ld %6ld\n", r->name,
		       r->what, r->runs, r->injected, r->exact, r->killed, r->refused,
		       r->wrong, r->parent_wrong, r->leaked);
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
			"\"session_fail\": %ld, \"fallback_nomem\": %ld}", i ? ",\n" : "",
			r->name, r->what, r->runs, r->injected, r->exact, r->killed,
			r->refused, r->wrong, r->parent_wrong, r->leaked, r->session_fail,
			r->fallback_nomem);
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

int main(int argc, char **argv)
{
	static const unsigned int steps[][3] = {
		{ 1000, 300, 100 }, { 1000, 200, 40 }, { 100, 40, 15 },
	};
	const char *json = NULL;
	struct usage start;
	char leak[256];
	long leaked;
	int opt;

	while ((opt = getopt(argc, argv, "t:r:T:j:")) != -1) {
		switch (opt) {
		case 't':
			step_seconds = atoi(optarg);
			break;
		case 'r':
			repeat = atoi(optarg);
			break;
		case 'T':
			torture = optarg;
			break;
		case 'j':
			json = optarg;
			break;
		default:
			fprintf(stderr, "usage: %s [-t SECONDS per step] [-r FORKS per site] [-T torture] [-j JSON]\n",
				argv[0]);
			return 2;
		}
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
	/* Caches grow once. */
	for (int i = 0; i < 20; i++) {
		struct row warm = { 0 };

		one_fork(&warm, i % 5, PLAIN, 1 + i);
	}
	read_usage(&start);

	if (have_filter) {
		for (unsigned int i = 0; i < ARRAY_SIZE(sites); i++)
			run_site(&sites[i]);
	} else {
		printf("ok %u single allocations # SKIP needs CONFIG_FAULT_INJECTION_STACKTRACE_FILTER\n",
		       ++nr_rows);
	}
	run_in_turn("clone3()", IN_CALL, PLAIN);
	run_in_turn("copy by the child", IN_CHILD, PLAIN);
	run_in_turn("copy by the child, pinned", IN_CHILD, PINNED);
	run_in_turn("push by a discard", IN_DISCARD, PLAIN);
	run_in_turn("pull", IN_PULL, PLAIN);
	if (torture && step_seconds) {
		/* zram fails with what it allocates, and the parent gets SIGBUS. */
		swapoff("/dev/zram0");
		for (unsigned int a = 0; a < ARRAY_SIZE(attrs); a++)
			for (unsigned int s = 0; s < 3; s++)
				run_random(attrs[a], steps[a][s], false);
		run_random("failslab", 1000, true);
		run_random("fail_page_alloc", 1000, true);
	}
	run_killed();
	run_memcg(IN_CHILD, "memory cgroup, copy by the child");
	run_memcg(IN_DISCARD, "memory cgroup, push");
	check_kmemleak();
	leaked = leaked_since(&start, leak, sizeof(leak));
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
