// SPDX-License-Identifier: GPL-2.0
/*
 * The library as a C program sees it, on a kernel with the feature or without:
 *	library present|absent
 * Prints a line for each result.
 */
#include <asyncfork.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define BYTES (64UL << 20)

static int bad, handled;

static void result(int good, const char *name)
{
	printf("%s - library: %s\n", good ? "ok" : "not ok", name);
	fflush(stdout);
	bad |= !good;
}

static void handler(void)
{
	handled++;
}

/* How the child of a fork that has returned pid ends, having called status(). */
static int status_of(pid_t pid, int (*status)(void))
{
	int ended;

	if (pid == 0)
		_exit(status());
	if (pid == -1 || waitpid(pid, &ended, 0) != pid || !WIFEXITED(ended))
		return -1;
	return WEXITSTATUS(ended);
}

static int how_often_handled(void)
{
	return handled;
}

static int asks(void)
{
	return asyncfork_process() & 3;	/* an error: 3 */
}

static uint64_t forks(void)
{
	uint64_t count = 0;

	return asyncfork_counter("session_start", &count) ? 0 : count;
}

/* Does it write eight bytes, and no others? */
static int counter_is_whole(void)
{
	uint64_t value[3] = { -1, -1, -1 };

	return !asyncfork_counter("session_start", &value[1]) && value[0] == UINT64_MAX &&
	       value[1] < UINT32_MAX && value[2] == UINT64_MAX;
}

static int fails_with(int returned, int wanted)
{
	return returned == -1 && errno == wanted;
}

int main(int argc, char **argv)
{
	int present = argc == 2 && !strcmp(argv[1], "present");
	uint64_t before, value;
	char *memory;

	if (!present && (argc != 2 || strcmp(argv[1], "absent")))
		return 2;
	/* Something to defer */
	memory = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED || madvise(memory, BYTES, MADV_NOHUGEPAGE)) {
		perror("library: memory");
		return 2;
	}
	memset(memory, 1, BYTES);
	pthread_atfork(NULL, NULL, handler);

	result(asyncfork_probe() == present, "probe");
	result(status_of(asyncfork_fork(), how_often_handled) == 1, "handlers of pthread_atfork run in the child of fork");
	result(status_of(asyncfork_clone3(0, SIGCHLD), how_often_handled) == 0, "but not in that of clone3");
	errno = 0;
	result(fails_with(asyncfork_counter("none_such", &value), ENOENT), "no such counter: ENOENT");
	if (!present) {
		result(fails_with(asyncfork_set_process(1), EINVAL), "set_process: EINVAL");
		errno = 0;
		result(fails_with(asyncfork_process(), EINVAL), "process: EINVAL");
		errno = 0;
		result(fails_with(asyncfork_counter("session_start", &value), ENOENT), "counter: ENOENT");
		errno = 0;
		/* Without the upper half of its flags it would make a child. */
		result(fails_with(status_of(asyncfork_clone3(CLONE_ASYNC_PGTABLE, SIGCHLD), asks), EINVAL), "clone3: EINVAL");
		return bad;
	}
	result(counter_is_whole(), "counter");
	before = forks();
	result(status_of(asyncfork_fork(), asks) == 0 && asyncfork_process() == 0, "fork puts back that nothing was asked");
	result(forks() == before + 1, "fork is asynchronous");
	result(status_of(fork(), asks) == 0 && forks() == before + 1, "the next is not");
	result(status_of(asyncfork_clone3(CLONE_ASYNC_PGTABLE, SIGCHLD), asks) == 0 && forks() == before + 2, "clone3 is asynchronous");
	result(asyncfork_set_process(1) == 0 && asyncfork_process() == 1, "set_process");
	result(status_of(fork(), asks) == 1 && forks() == before + 3, "fork() is asynchronous from then on");
	result(status_of(asyncfork_fork(), asks) == 1 && asyncfork_process() == 1, "fork puts back that it was asked");
	result(asyncfork_set_process(0) == 0 && asyncfork_process() == 0, "set_process off");
	return bad;
}
