// SPDX-License-Identifier: GPL-2.0
/*
 * What asynchronous forks cost, in a guest whose clock counts instructions, so
 * on one CPU. Prints a line for each figure, with the samples of which it is the
 * median. See tools/cost/run.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif
#ifndef CLONE_ASYNC_PGTABLE
#define CLONE_ASYNC_PGTABLE	(1ULL << 38)
#endif

#define MIB		(1UL << 20)
#define RANGE		(2 * MIB)
#define PAGE		4096UL
#define GROUP		"/sys/fs/cgroup/cost"
#define ROUNDS		5

/* Nanoseconds, that is, instructions. */
static long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	const long x = *(const long *)a, y = *(const long *)b;

	return (x > y) - (x < y);
}

static long median(const long *samples)
{
	long sorted[ROUNDS];

	memcpy(sorted, samples, sizeof(sorted));
	qsort(sorted, ROUNDS, sizeof(*sorted), compare);
	return sorted[ROUNDS / 2];
}

static void print(const char *what, const char *how, const long *samples)
{
	printf("%-52s %-9s %10ld  (", what, how, median(samples));
	for (int i = 0; i < ROUNDS; i++)
		printf("%s%ld", i ? " " : "", samples[i]);
	printf(")\n");
	fflush(stdout);
}

static void put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		err(1, "%s", path);
	close(fd);
}

static char *map(unsigned long size)
{
	char *p = mmap(NULL, size + RANGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap of %lu MiB", size / MIB);
	madvise(p, size + RANGE, MADV_NOHUGEPAGE);
	return p + (-(uintptr_t)p & (RANGE - 1));
}

/* Children do not inherit it. */
static void real_time(void)
{
	struct sched_param fifo = { .sched_priority = 50 };

	if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &fifo))
		err(1, "SCHED_FIFO");
}

static pid_t clone_as(bool async)
{
	struct clone_args args = {
		.flags = async ? CLONE_ASYNC_PGTABLE : 0,
		.exit_signal = SIGCHLD,
	};

	return syscall(__NR_clone3, &args, sizeof(args));
}

/* A child that waits to be killed. It does not run before we sleep. */
static pid_t fork_as(bool async)
{
	pid_t pid = clone_as(async);

	if (!pid)
		for (;;)
			pause();
	return pid;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	if (waitpid(pid, NULL, 0) != pid)
		err(1, "waitpid");
}

/*
 * A program that does nothing but exit, in memory: no file system and no dynamic
 * linker is counted.
 */
static int program(void)
{
	/* xor %edi, %edi; mov $60, %eax; syscall */
	static const unsigned char code[] = { 0x31, 0xff, 0xb8, 60, 0, 0, 0, 0x0f, 0x05 };
	const unsigned long base = 0x400000, headers = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr);
	const Elf64_Phdr segment = {
		.p_type = PT_LOAD,
		.p_flags = PF_R | PF_X,
		.p_vaddr = base,
		.p_filesz = headers + sizeof(code),
		.p_memsz = headers + sizeof(code),
		.p_align = PAGE,
	};
	const Elf64_Ehdr head = {
		.e_ident = {
			ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3,
			ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
		},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_version = EV_CURRENT,
		.e_entry = base + headers,
		.e_phoff = sizeof(head),
		.e_ehsize = sizeof(head),
		.e_phentsize = sizeof(segment),
		.e_phnum = 1,
	};
	const struct iovec parts[] = {
		{ (void *)&head, sizeof(head) },
		{ (void *)&segment, sizeof(segment) },
		{ (void *)code, sizeof(code) },
	};
	int fd = memfd_create("program", MFD_CLOEXEC);

	if (fd < 0 || writev(fd, parts, 3) != (ssize_t)(headers + sizeof(code)))
		err(1, "program");
	return fd;
}

/* A child that exits at once, or executes a program that does, until it has ended. */
static long spawn(bool async, bool exec)
{
	static char *const none[] = { NULL };
	int status, fd = program();
	long begin = now();
	pid_t pid = clone_as(async);

	if (!pid) {
		if (exec)
			fexecve(fd, none, none);
		_exit(exec);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "child that ends at once: status %x", status);
	begin = now() - begin;
	close(fd);
	return begin;
}

static long vmstat(const char *name)
{
	FILE *f = fopen("/proc/vmstat", "r");
	char key[64];
	long value, found = 0;

	while (f && fscanf(f, "%63s %ld", key, &value) == 2)
		if (!strcmp(key, name))
			found = value;
	if (f)
		fclose(f);
	return found;
}

/*
 * What the kernel has allocated for our cgroup, but for page tables; bytes, of
 * whole pages. Statistics are brought up to date after a number of changes.
 */
static long kernel_memory(void)
{
	char *p = map(2 * RANGE), key[64];
	long value, sum = 0;
	FILE *f;

	memset(p, 1, 2 * RANGE);
	munmap(p, 2 * RANGE);
	f = fopen(GROUP "/memory.stat", "r");
	if (!f)
		err(1, GROUP "/memory.stat");
	while (fscanf(f, "%63s %ld", key, &value) == 2) {
		if (!strcmp(key, "kernel"))
			sum += value;
		if (!strcmp(key, "pagetables"))
			sum -= value;
	}
	fclose(f);
	return sum;
}

/*
 * What every process does, and pays for the hooks
 */

#define PAGES	2048UL
#define PAIRS	256

static long read_faults(void)
{
	char *p = map(PAGES * PAGE);
	long begin = now();

	for (unsigned long i = 0; i < PAGES; i++)
		*(volatile char *)(p + i * PAGE);
	begin = now() - begin;
	munmap(p, PAGES * PAGE);
	return begin / PAGES;
}

static long write_faults(void)
{
	char *p = map(PAGES * PAGE);
	long begin = now();

	for (unsigned long i = 0; i < PAGES; i++)
		p[i * PAGE] = 1;
	begin = now() - begin;
	munmap(p, PAGES * PAGE);
	return begin / PAGES;
}

static long cow_faults(void)
{
	char *p = map(PAGES * PAGE);
	long begin;
	pid_t pid;

	memset(p, 1, PAGES * PAGE);
	pid = fork_as(false);
	begin = now();
	for (unsigned long i = 0; i < PAGES; i++)
		p[i * PAGE] = 2;
	begin = now() - begin;
	end(pid);
	munmap(p, PAGES * PAGE);
	return begin / PAGES;
}

static long mprotect_pair(void)
{
	char *p = map(RANGE);
	long begin;

	memset(p, 1, RANGE);
	begin = now();
	for (int i = 0; i < PAIRS; i++) {
		mprotect(p, 16 * PAGE, PROT_READ);
		mprotect(p, 16 * PAGE, PROT_READ | PROT_WRITE);
	}
	begin = now() - begin;
	munmap(p, RANGE);
	return begin / PAIRS;
}

static long mmap_munmap(void)
{
	long begin = now();

	for (int i = 0; i < PAIRS; i++) {
		char *p = mmap(NULL, 16 * PAGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		*p = 1;
		munmap(p, 16 * PAGE);
	}
	return (now() - begin) / PAIRS;
}

static long vm_writev(void)
{
	static char from[PAGE];
	char *p = map(RANGE);
	struct iovec local = { from, PAGE }, remote = { p, PAGE };
	long begin;
	pid_t pid;

	memset(p, 1, RANGE);
	pid = fork_as(false);
	/* The first breaks copy-on-write. */
	process_vm_writev(pid, &local, 1, &remote, 1, 0);
	begin = now();
	for (int i = 0; i < PAIRS; i++)
		if (process_vm_writev(pid, &local, 1, &remote, 1, 0) != PAGE)
			err(1, "process_vm_writev");
	begin = now() - begin;
	end(pid);
	munmap(p, RANGE);
	return begin / PAIRS;
}

/* get_user_pages() of our own pages, for reading */
static long vm_readv(void)
{
	static char to[PAGE];
	char *p = map(RANGE);
	struct iovec local = { to, PAGE }, remote = { p, PAGE };
	const pid_t pid = getpid();
	long begin;

	memset(p, 1, RANGE);
	begin = now();
	for (int i = 0; i < PAIRS; i++)
		if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != PAGE)
			err(1, "process_vm_readv");
	begin = now() - begin;
	munmap(p, RANGE);
	return begin / PAIRS;
}

/* get_user_pages_fast() */
static long splice_page(void)
{
	static char to[PAGE];
	char *p = map(RANGE);
	struct iovec page = { p, PAGE };
	int ends[2];
	long begin;

	memset(p, 1, RANGE);
	if (pipe(ends))
		err(1, "pipe");
	begin = now();
	for (int i = 0; i < PAIRS; i++)
		if (vmsplice(ends[1], &page, 1, 0) != PAGE || read(ends[0], to, PAGE) != PAGE)
			err(1, "vmsplice");
	begin = now() - begin;
	close(ends[0]);
	close(ends[1]);
	munmap(p, RANGE);
	return begin / PAIRS;
}

/* pin_user_pages_fast() */
static long pin(void)
{
	struct io_uring_params params = { 0 };
	char *p = map(RANGE);
	struct iovec pages = { p, 16 * PAGE };
	int ring = syscall(__NR_io_uring_setup, 1, &params);
	long begin;

	if (ring < 0)
		err(1, "io_uring_setup");
	memset(p, 1, RANGE);
	begin = now();
	for (int i = 0; i < PAIRS; i++)
		if (syscall(__NR_io_uring_register, ring, IORING_REGISTER_BUFFERS, &pages, 1) ||
		    syscall(__NR_io_uring_register, ring, IORING_UNREGISTER_BUFFERS, NULL, 0))
			err(1, "io_uring_register");
	begin = now() - begin;
	close(ring);
	munmap(p, RANGE);
	return begin / PAIRS;
}

static long fork_call(void)
{
	long begin = now();
	pid_t pid = fork_as(false);

	begin = now() - begin;
	end(pid);
	return begin;
}

static long fork_exit(void)
{
	return spawn(false, false);
}

static long fork_exec(void)
{
	return spawn(false, true);
}

static void bystander(const char *how)
{
	static const struct {
		const char *name;
		long (*run)(void);
		unsigned long memory;
	} tests[] = {
		{ "read fault", read_faults },
		{ "write fault", write_faults },
		{ "copy-on-write fault", cow_faults },
		{ "mprotect(), twice", mprotect_pair },
		{ "mmap(), fault, munmap()", mmap_munmap },
		{ "process_vm_writev() of a page", vm_writev },
		{ "process_vm_readv() of a page", vm_readv },
		{ "vmsplice() of a page, read()", splice_page },
		{ "16 pages pinned and released by io_uring", pin },
		{ "plain fork of 64 MiB", fork_call, 64 * MIB },
		{ "plain fork of 64 MiB, _exit()", fork_exit, 64 * MIB },
		{ "plain fork of 64 MiB, exec", fork_exec, 64 * MIB },
	};
	long samples[ROUNDS];

	for (unsigned long t = 0; t < sizeof(tests) / sizeof(*tests); t++) {
		char *p = map(tests[t].memory);

		memset(p, 1, tests[t].memory);
		tests[t].run();
		for (int i = 0; i < ROUNDS; i++)
			samples[i] = tests[t].run();
		print(tests[t].name, how, samples);
		munmap(p, tests[t].memory);
	}
}

/* In a process of its own, which has forked asynchronously or not. */
static void bystander_in_child(const char *how, bool user)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		char *p = map(RANGE);

		real_time();
		memset(p, 1, RANGE);
		if (user)
			end(fork_as(true));
		munmap(p, RANGE);
		bystander(how);
		exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s: status %x", how, status);
}

/*
 * The call
 */

static const char * const how[] = { "plain", "async" };

/*
 * Forks in both ways in turn, and then writes to @nr ranges of @mem. With real
 * time priority the child does not run meanwhile, so it copies nothing.
 */
static void call(const char *what, char *mem, unsigned long nr)
{
	long samples[2][ROUNDS], first[2][ROUNDS];
	char name[64];

	for (int i = 0; i < ROUNDS; i++) {
		for (int async = 0; async < 2; async++) {
			long deferred = vmstat("async_pgtable_range_defer");
			long begin = now();
			pid_t pid = fork_as(async);

			samples[async][i] = now() - begin;
			if (pid < 0)
				err(1, "%s: fork", what);
			deferred = vmstat("async_pgtable_range_defer") - deferred;
			if (async ? !deferred : deferred)
				errx(1, "%s: %ld ranges deferred by %s fork",
				     what, deferred, how[async]);
			begin = now();
			for (unsigned long r = 0; r < nr; r++)
				mem[r * RANGE] = 2;
			first[async][i] = nr ? (now() - begin) / nr : 0;
			end(pid);
		}
	}
	for (int async = 0; async < 2; async++) {
		snprintf(name, sizeof(name), "call, %s", what);
		print(name, how[async], samples[async]);
	}
	printf("  async/plain %.4f\n", (double)median(samples[1]) / median(samples[0]));
	for (int async = 0; nr && async < 2; async++) {
		snprintf(name, sizeof(name), "first write to a range, %s", what);
		print(name, how[async], first[async]);
	}
}

/* The same in a memory cgroup, for what is charged to it. */
static void memory(const char *what)
{
	long samples[2][ROUNDS];
	char name[64];

	put(GROUP "/cgroup.procs", "0");
	for (int i = 0; i < ROUNDS; i++) {
		for (int async = 0; async < 2; async++) {
			long before = kernel_memory();
			pid_t pid = fork_as(async);

			if (pid < 0)
				err(1, "%s: fork", what);
			samples[async][i] = kernel_memory() - before;
			end(pid);
		}
	}
	put("/sys/fs/cgroup/cgroup.procs", "0");
	for (int async = 0; async < 2; async++) {
		snprintf(name, sizeof(name), "kernel memory, %s, bytes", what);
		print(name, how[async], samples[async]);
	}
}

/* Children that need nothing of what was copied for them. */
static void spawns(const char *size)
{
	long samples[ROUNDS];
	char name[64];

	for (int exec = 0; exec < 2; exec++) {
		snprintf(name, sizeof(name), "fork of %s, %s", size, exec ? "exec" : "_exit()");
		for (int async = 0; async < 2; async++) {
			for (int i = 0; i < ROUNDS; i++)
				samples[i] = spawn(async, exec);
			print(name, how[async], samples);
		}
	}
}

static void call_of_size(unsigned long size, bool all)
{
	char *p = map(size), name[32];

	memset(p, 1, size);
	snprintf(name, sizeof(name), "%lu MiB", size / MIB);
	call(name, p, size / RANGE);
	if (all) {
		spawns(name);
		memory(name);
	}
	munmap(p, size);
}

/* Page tables of more than there is memory, with a page in each. */
static void call_of_sparse(unsigned long size)
{
	char *p = map(size), name[64];

	for (unsigned long i = 0; i < size; i += RANGE)
		p[i] = 1;
	snprintf(name, sizeof(name), "%lu MiB of page tables", size / MIB);
	call(name, NULL, 0);
	munmap(p, size);
}

/* The same, full of the zero page. */
static void call_of_tables(unsigned long size)
{
	char *p = map(size), name[64];

	/* Without a page of its own there is nothing that fork() would have to copy. */
	*p = 1;
	if (madvise(p, size, MADV_POPULATE_READ))
		err(1, "MADV_POPULATE_READ");
	snprintf(name, sizeof(name), "%lu MiB of the zero page", size / MIB);
	call(name, NULL, 0);
	munmap(p, size);
}

/* Below and above where programs are. */
static void call_of_reserved(void)
{
	const unsigned long tib = 1UL << 40;
	char *p[] = { map(40 * tib), map(60 * tib) };

	/* All over it: in each of 2 times 16 parts a little. */
	for (unsigned long i = 0; i < 16; i++) {
		memset(p[0] + i * 2 * tib, 1, RANGE);
		memset(p[1] + i * 3 * tib, 1, RANGE);
	}
	call("100 TiB reserved, 64 MiB used", NULL, 0);
	memory("100 TiB reserved, 64 MiB used");
	munmap(p[0], 40 * tib);
	munmap(p[1], 60 * tib);
}

static void call_of_mappings(void)
{
	const unsigned long nr = 100000, step = 2 * RANGE;
	char *p = map(nr * step);

	munmap(p, nr * step);
	for (unsigned long i = 0; i < nr; i++) {
		char *m = mmap(p + i * step, RANGE, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
			       -1, 0);

		if (m == MAP_FAILED)
			err(1, "mapping %lu", i);
		madvise(m, RANGE, MADV_NOHUGEPAGE);
		*m = 1;
	}
	call("100,000 mappings", NULL, 0);
	memory("100,000 mappings");
	/* exit() unmaps them. */
}

/*
 * cost off, before anybody has asked for an asynchronous fork; then cost, or cost
 * small, with what ci/costs.json is of. Not in one process: what it has pinned before
 * that is copied in the call.
 */
int main(int argc, char **argv)
{
	const bool off = argc > 1 && !strcmp(argv[1], "off");
	const bool small = argc > 1 && !strcmp(argv[1], "small");

	real_time();
	if (off) {
		bystander_in_child("hooks off", false);
		return 0;
	}
	/* The children must not run either when we have run for long. */
	put("/proc/sys/kernel/sched_rt_runtime_us", "-1");
	put("/proc/sys/vm/max_map_count", "200000");
	put("/proc/sys/vm/overcommit_memory", "1");
	put("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
	if (mkdir(GROUP, 0755) && errno != EEXIST)
		err(1, GROUP);

	bystander_in_child("hooks on", false);
	bystander_in_child("user", true);
	call_of_size(4 * MIB, true);
	call_of_size(1024 * MIB, !small);
	call_of_sparse(16384 * MIB);
	if (small)
		return 0;
	call_of_size(64 * MIB, true);
	call_of_tables(16384 * MIB);
	call_of_reserved();
	call_of_mappings();
	return 0;
}
