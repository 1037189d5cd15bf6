/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A key-value store that takes a snapshot of itself: a child of fork() writes
 * the state at the fork to a file, while the parent goes on writing. Then it
 * verifies the file.
 *
 *	cc kvstore.c $(pkg-config --cflags --libs asyncfork) -o kvstore
 *	./kvstore [--require] FILE
 *
 * On a kernel without the feature the fork is an ordinary one, or with --require
 * an error. Exit status: 0 the snapshot is exact, else 1.
 */
#include <asyncfork.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 200000
#define SLOTS (1 << 19)		/* more than KEYS, a power of two */

struct entry {
	char key[24];
	char value[104];
};

struct store {
	struct entry *slots;
	size_t used;
};

static void die(const char *what)
{
	fprintf(stderr, "kvstore: %s\n", what);
	exit(1);
}

static void die_errno(const char *what)
{
	fprintf(stderr, "kvstore: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct store new_store(void)
{
	struct store store = { calloc(SLOTS, sizeof(struct entry)), 0 };

	if (!store.slots)
		die_errno("no memory");
	return store;
}

/* The entry of a key, or the free one where it would be. */
static struct entry *slot(const struct store *store, const char *key)
{
	size_t hash = 14695981039346656037u;

	for (const char *c = key; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 1099511628211u;
	for (;; hash++) {
		struct entry *entry = &store->slots[hash & (SLOTS - 1)];

		if (!entry->key[0] || !strcmp(entry->key, key))
			return entry;
	}
}

static void put(struct store *store, const char *key, const char *value)
{
	struct entry *entry = slot(store, key);

	if (!entry->key[0]) {
		if (++store->used == SLOTS)
			die("the store is full");
		snprintf(entry->key, sizeof(entry->key), "%s", key);
	}
	snprintf(entry->value, sizeof(entry->value), "%s", value);
}

/* All writes are numbered, so that a state is known by how many there were. */
static void write_number(struct store *store, unsigned int n)
{
	/* Each key once, then any */
	unsigned int key = n < KEYS ? n : n * 2654435761u % KEYS;
	char name[24], value[104];

	snprintf(name, sizeof(name), "key:%u", key);
	snprintf(value, sizeof(value), "write-%u", n);
	put(store, name, value);
}

static int save(const struct store *store, const char *path)
{
	FILE *file = fopen(path, "w");

	if (!file)
		return -1;
	for (size_t i = 0; i < SLOTS; i++) {
		if (store->slots[i].key[0])
			fprintf(file, "%s %s\n", store->slots[i].key, store->slots[i].value);
	}
	if (fflush(file) || ferror(file) || fsync(fileno(file))) {
		fclose(file);
		return -1;
	}
	return fclose(file);
}

static struct store load(const char *path)
{
	struct store store = new_store();
	FILE *file = fopen(path, "r");
	char key[24], value[104];

	if (!file)
		die_errno(path);
	while (fscanf(file, "%23s %103s\n", key, value) == 2)
		put(&store, key, value);
	if (!feof(file))
		die("the snapshot cannot be read");
	fclose(file);
	return store;
}

static bool same(const struct store *a, const struct store *b)
{
	for (size_t i = 0; i < SLOTS; i++) {
		const struct entry *entry = &a->slots[i];

		if (entry->key[0] && strcmp(slot(b, entry->key)->value, entry->value))
			return false;
	}
	return a->used == b->used;
}

/* How many forks of the machine were asynchronous; 0 without the feature. */
static uint64_t asynchronous_forks(void)
{
	uint64_t forks = 0;

	if (asyncfork_counter("session_start", &forks) && errno != ENOENT)
		die_errno("cannot read the counters");
	return forks;
}

int main(int argc, char **argv)
{
	bool require = argc == 3 && !strcmp(argv[1], "--require");
	const char *path = argv[argc - 1];
	char unfinished[4096];
	struct store live = new_store(), loaded, expected = new_store();
	unsigned int n = 0, at_fork;
	uint64_t before;
	int status;
	pid_t child;

	if (argc != 2 + require)
		die("usage: kvstore [--require] FILE");
	switch (asyncfork_probe()) {
	case -1:
		die_errno("cannot probe the kernel");
		break;
	case 0:
		if (require)
			die("this kernel has no asynchronous fork");
		printf("kvstore: this kernel has no asynchronous fork, using fork()\n");
	}
	while (n < KEYS + KEYS / 2)
		write_number(&live, n++);

	/* Not in its place before it is whole. */
	snprintf(unfinished, sizeof(unfinished), "%s.new", path);
	at_fork = n;
	before = asynchronous_forks();
	fflush(NULL);	/* or the child has it, too */
	child = asyncfork_fork();
	if (child == -1)
		die_errno("cannot fork");
	if (child == 0)
		_exit(save(&live, unfinished) ? 1 : 0);
	bool asynchronous = asynchronous_forks() > before;

	/* The store is in use meanwhile. */
	pid_t ended;
	do {
		for (int i = 0; i < 1000; i++)
			write_number(&live, n++);
		ended = waitpid(child, &status, WNOHANG);
	} while (ended == 0 || (ended == -1 && errno == EINTR));
	if (ended == -1)
		die_errno("cannot wait for the child");
	/* By SIGKILL, if there was no memory for its page tables. */
	if (WIFSIGNALED(status))
		die("no snapshot: the child was killed");
	if (WEXITSTATUS(status))
		die("no snapshot: the child could not write it");
	if (rename(unfinished, path))
		die_errno(path);
	printf("kvstore: snapshot of %zu keys, %u writes meanwhile\n", live.used, n - at_fork);

	loaded = load(path);
	for (unsigned int i = 0; i < at_fork; i++)
		write_number(&expected, i);
	if (!same(&loaded, &expected))
		die("WRONG: the snapshot is not the state at the fork");
	if (same(&loaded, &live))
		die("WRONG: the store has not changed since");
	printf("kvstore: exact: the snapshot is the state at the fork\n");
	printf("kvstore: the fork was %s\n", asynchronous ? "asynchronous" : "not asynchronous");
	if (require && !asynchronous)
		die("asynchronous was required: see fallback_* with asyncfork status");
	return 0;
}
