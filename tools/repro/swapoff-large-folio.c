// SPDX-License-Identifier: GPL-2.0
/*
 * A bug of Linux 7.3.4, with and without this series, and without any fork: swapoff()
 * takes a folio of several pages, read by a fault that has not mapped it yet, for one
 * page. unuse_pte() gives all its pages a mapcount and maps one of them. With
 * DEBUG_VM: WARNING at mm/swapfile.c, VM_WARN_ON_ONCE(folio_test_large(folio)); without
 * it: "Bad page state", or a BUG in do_swap_page(). On a kernel without the feature:
 *
 *   make kernel CONFIG=off && gcc -O1 -o build/out/swapoff tools/repro/swapoff-large-folio.c -lpthread
 *   tools/vm/run -k off -c 4 -m 1G -s 256M -- build/out/swapoff /dev/zram0 60
 *
 * Exits with 0 if nothing happened in that many seconds.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/swap.h>
#include <time.h>
#include <unistd.h>

#define PAGE	4096UL
#define FOLIO	(16 * PAGE)
#define SIZE	(8UL << 20)
#define THREADS	3

static char *mem;
static volatile int stop;
static pthread_barrier_t barrier;

/* Faults at other pages of each folio than the other threads. */
static void *read_back(void *arg)
{
	for (;;) {
		pthread_barrier_wait(&barrier);
		if (stop)
			return NULL;
		for (unsigned long i = (unsigned long)arg * 5 * PAGE; i < SIZE; i += FOLIO)
			*(volatile char *)(mem + i);
		pthread_barrier_wait(&barrier);
	}
}

static unsigned long *word(unsigned long at)
{
	return (unsigned long *)(mem + at);
}

int main(int argc, char **argv)
{
	int fd = open("/sys/kernel/mm/transparent_hugepage/hugepages-64kB/enabled", O_WRONLY);
	unsigned long round = 0;
	pthread_t threads[THREADS];
	time_t end;

	if (argc != 3 || fd < 0 || write(fd, "always", 6) != 6) {
		fprintf(stderr, "usage, as root, with folios of 64 KiB: %s SWAP SECONDS\n", argv[0]);
		return 2;
	}
	mem = mmap(NULL, SIZE + FOLIO, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (mem == MAP_FAILED) {
		perror("mmap");
		return 2;
	}
	mem = (char *)(((unsigned long)mem + FOLIO - 1) & ~(FOLIO - 1));
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (unsigned long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, read_back, (void *)i);
	for (end = time(NULL) + atoi(argv[2]); time(NULL) < end; round++) {
		madvise(mem, SIZE, MADV_DONTNEED);
		for (unsigned long i = 0; i < SIZE; i += PAGE)
			*word(i) = i + round;
		madvise(mem, SIZE, MADV_PAGEOUT);
		pthread_barrier_wait(&barrier);
		if (swapoff(argv[1])) {
			perror("swapoff");
			return 2;
		}
		pthread_barrier_wait(&barrier);
		for (unsigned long i = 0; i < SIZE; i += PAGE) {
			if (*word(i) != i + round) {
				printf("round %lu, offset %lx: %lx\n", round, i, *word(i));
				return 1;
			}
		}
		if (swapon(argv[1], 0)) {
			perror("swapon");
			return 2;
		}
	}
	printf("%lu rounds, nothing happened\n", round);
	stop = 1;
	pthread_barrier_wait(&barrier);
	return 0;
}
