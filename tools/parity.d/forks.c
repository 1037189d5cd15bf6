// SPDX-License-Identifier: GPL-2.0
/*
 * Preloaded into a program of threads, in a directory with O_DIRECT: one more, that
 * forks while the others' I/O goes to and from memory. Each time the parent's memory
 * is read from a file right after the fork: the child still has what was there, the
 * parent what is in the file.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE	(1UL << 20)

static unsigned char *memory;

static int all(unsigned char c)
{
	return memory[0] == c && !memcmp(memory, memory + 1, SIZE - 1);
}

static void check(int good, const char *what)
{
	if (!good)
		dprintf(1, "not ok - %s\n", what);
}

static void *forks(void *unused)
{
	int fd = open(".", O_TMPFILE | O_RDWR | O_DIRECT, 0600), n, status;
	pid_t pid;

	memory = mmap(0, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		_exit(120);
	memset(memory, 255, SIZE);
	check(pwrite(fd, memory, SIZE, 0) == SIZE, "a file with O_DIRECT");
	for (n = 0;; n = (n + 1) % 255) {
		memset(memory, n, SIZE);
		pid = fork();
		if (pid == 0) {
			usleep(20000);
			_exit(!all(n));
		}
		check(pread(fd, memory, SIZE, 0) == SIZE && all(255), "the parent has what it has read");
		check(waitpid(pid, &status, 0) == pid && status == 0, "the child has the memory of the fork");
		usleep(5000);
	}
	return unused;
}

__attribute__((constructor))
static void start(void)
{
	pthread_t t;

	if (pthread_create(&t, 0, forks, 0))
		_exit(120);
}
