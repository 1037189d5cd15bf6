// SPDX-License-Identifier: GPL-2.0
/*
 * For criu and rr: processes that hold what a fork shares and what it copies.
 *   tree N      prints "ready", waits until there is a file "go", prints KTAP
 * N children have the parent's 16 MiB as they were at their fork, pages of their
 * own, shared memory that counts, and two pipes each. After "go" all has to be there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE	4096UL
#define PAGES	4096UL

static unsigned long *memory;
static volatile unsigned long *shared;
static unsigned long rounds;	/* that the parent has waited */

static unsigned long *word(unsigned long page)
{
	return memory + page * PAGE / sizeof(*memory);
}

/*
 * What process K has in PAGE: of eight one that it changed, one that only its fork saw
 * so, one that changes while the parent waits.
 */
static unsigned long want(unsigned long page, unsigned long k)
{
	switch (page % 8) {
	case 1:
	case 2:
		return k << 32 | page;
	case 3:
		return rounds << 32 | page;
	}
	return page + 1;
}

static unsigned long wrong_pages(unsigned long k)
{
	unsigned long page, wrong = 0;

	for (page = 0; page < PAGES; page++)
		wrong += *word(page) != want(page, k);
	return wrong;
}

static void change(unsigned long k, unsigned long rest)
{
	unsigned long page;

	for (page = rest; page < PAGES; page += 8)
		*word(page) = want(page, k);
}

static int ok(int good, const char *name, unsigned long k)
{
	printf("%sok - %s %lu\n", good ? "" : "not ", name, k);
	return !good;
}

static void child(unsigned long k, int in, int out)
{
	unsigned long token, reply[2];

	change(k, 1);
	__atomic_fetch_add(shared, 1, __ATOMIC_SEQ_CST);
	if (read(in, &token, sizeof(token)) != sizeof(token))
		_exit(1);
	reply[0] = token + k;
	reply[1] = wrong_pages(k);
	__atomic_fetch_add(shared, 1, __ATOMIC_SEQ_CST);
	_exit(write(out, reply, sizeof(reply)) != sizeof(reply));
}

int main(int argc, char **argv)
{
	unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : 2, k, page, token = 1000, reply[2], lookers = 0;
	int go[16][2], back[16][2], status, bad = 0;

	for (status = 3; status < 64; status++)	/* criu does not dump any file */
		close(status);
	setvbuf(stdout, NULL, _IOLBF, 0);
	memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	shared = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || shared == MAP_FAILED || n < 1 || n > 16)
		return 2;
	for (page = 0; page < PAGES; page++)
		*word(page) = want(page, 0);
	for (k = 1; k <= n; k++) {
		if (pipe(go[k - 1]) || pipe(back[k - 1]))
			return 2;
		change(k, 2);	/* and back, while the child may still copy */
		fflush(stdout);
		switch (fork()) {
		case -1:
			return 2;
		case 0:
			child(k, go[k - 1][0], back[k - 1][1]);
		}
		change(0, 2);
	}
	puts("ready");
	while (access("go", F_OK)) {
		rounds++;
		change(0, 3);
		fflush(stdout);
		if (fork() == 0)
			_exit(wrong_pages(0) != 0);
		lookers += wait(&status) > 0 && status == 0;
		usleep(100000);
	}
	bad |= ok(lookers == rounds, "each that looked found the memory", 0);
	bad |= ok(wrong_pages(0) == 0, "memory of process", 0);
	for (k = 1; k <= n; k++) {
		bad |= ok(write(go[k - 1][1], &token, sizeof(token)) == sizeof(token), "pipe to child", k);
		bad |= ok(read(back[k - 1][0], reply, sizeof(reply)) == sizeof(reply) &&
			  reply[0] == token + k, "pipe from child", k);
		bad |= ok(reply[1] == 0, "memory of process", k);
		bad |= ok(wait(&status) > 0 && status == 0, "exit status of child", k);
	}
	bad |= ok(*shared == 2 * n, "shared memory", 2 * n);
	printf("1..%lu\n", 3 + 4 * n);
	return bad;
}
