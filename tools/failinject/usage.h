/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a failure must not leave behind: objects of the slab caches that fork
 * and the copies use, page tables, mapped pages, pins, swap, dying cgroups, and
 * pages that are in none of the kernel's statistics any more, or on the lists of
 * pages that can be reclaimed but not mapped, which is all that is seen of a
 * reference to a folio that nobody drops.
 *
 * All of it as counts, read from files in usage_dir (/proc, or what a test made).
 */
#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_COUNTERS	128

/*
 * These, and the kmalloc caches of what is charged to a memory cgroup, as all is
 * that the feature allocates. Not the others: 9p has its fids there, for one.
 */
static const char *const usage_caches[] = {
	"mm_struct", "vm_area_struct", "anon_vma", "anon_vma_chain", "task_struct",
	"maple_node", "signal_cache", "sighand_cache", "files_cache", "fs_cache",
	"cred", "pid",
};

static const char *usage_dir = "/proc";
static char usage_names[MAX_COUNTERS][40];
static unsigned int nr_counters;

struct usage {
	long v[MAX_COUNTERS];
};

/* The slot of a counter, new if it has none. */
static unsigned int counter(const char *name)
{
	unsigned int i;

	for (i = 0; i < nr_counters; i++)
		if (!strcmp(usage_names[i], name))
			return i;
	if (nr_counters == MAX_COUNTERS) {
		printf("Bail out! more than %u counters\n", MAX_COUNTERS);
		exit(1);
	}
	snprintf(usage_names[i], sizeof(usage_names[i]), "%s", name);
	nr_counters++;
	return i;
}

enum { VMSTAT, MEMINFO, ZONEINFO, SLABINFO, NR_SOURCES };

/*
 * The files stay open, and what a read needs is allocated once, not between the
 * moment when statistics are folded and the one when they are read.
 */
static struct source {
	const char *name;
	int fd;
	char text[65536];
} sources[NR_SOURCES] = {
	{ .name = "vmstat" }, { .name = "meminfo" }, { .name = "zoneinfo" }, { .name = "slabinfo" },
};

static void close_sources(void)
{
	for (unsigned int i = 0; i < NR_SOURCES; i++) {
		if (sources[i].fd > 0)
			close(sources[i].fd);
		sources[i].fd = 0;
	}
}

static void read_sources(void)
{
	for (unsigned int i = 0; i < NR_SOURCES; i++) {
		struct source *s = &sources[i];
		char path[512];
		size_t len = 0;
		ssize_t got = -1;

		snprintf(path, sizeof(path), "%s/%s", usage_dir, s->name);
		if (s->fd <= 0)
			s->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (lseek(s->fd, 0, SEEK_SET) == 0)
			while ((got = read(s->fd, s->text + len, sizeof(s->text) - 1 - len)) > 0)
				len += got;
		if (got < 0) {
			printf("Bail out! cannot read %s\n", path);
			exit(1);
		}
		s->text[len] = 0;
	}
}

static bool next_line(int source, char **at, char *line, size_t size)
{
	size_t len;

	if (!*at)
		*at = sources[source].text;
	len = strcspn(*at, "\n");
	if (!**at)
		return false;
	snprintf(line, size, "%.*s", (int)len, *at);
	*at += len + ((*at)[len] == '\n');
	return true;
}

static bool is_watched(const char *cache)
{
	if (!strncmp(cache, "kmalloc-cg-", 11))
		return true;
	for (unsigned int i = 0; i < sizeof(usage_caches) / sizeof(usage_caches[0]); i++)
		if (!strcmp(cache, usage_caches[i]))
			return true;
	return false;
}

static void parse_usage(struct usage *u)
{
	/* What is known of all pages, in pages. */
	static const char *const known[] = {
		"nr_free_pages", "nr_anon_pages", "nr_file_pages", "nr_slab_reclaimable",
		"nr_slab_unreclaimable", "nr_page_table_pages", "nr_sec_page_table_pages",
		"nr_zspages",
	};
	static const char *const known_kb[] = { "VmallocUsed", "Percpu", "HardwareCorrupted" };
	long v, lost = 0, unmapped = 0, swap = 0, pins = 0;
	char line[512], key[64], *at;

	read_sources();
	memset(u, 0, sizeof(*u));
	at = NULL;
	while (next_line(VMSTAT, &at, line, sizeof(line))) {
		if (sscanf(line, "%63s %ld", key, &v) != 2)
			continue;
		for (unsigned int i = 0; i < sizeof(known) / sizeof(known[0]); i++)
			lost -= strcmp(key, known[i]) ? 0 : v;
		unmapped += !strcmp(key, "nr_active_anon") || !strcmp(key, "nr_inactive_anon") ||
			    !strcmp(key, "nr_unevictable") ? v : 0;
		unmapped -= !strcmp(key, "nr_anon_pages") || !strcmp(key, "nr_shmem") ||
			    !strcmp(key, "nr_swapcached") ? v : 0;
		if (!strcmp(key, "nr_page_table_pages"))
			u->v[counter("page tables")] = v;
		else if (!strcmp(key, "nr_anon_pages"))
			u->v[counter("anonymous pages")] = v;
		else if (!strcmp(key, "nr_foll_pin_acquired"))
			pins += v;
		else if (!strcmp(key, "nr_foll_pin_released"))
			pins -= v;
	}
	u->v[counter("pins")] = pins;
	u->v[counter("unmapped pages")] = unmapped;

	at = NULL;
	while (next_line(MEMINFO, &at, line, sizeof(line))) {
		if (sscanf(line, "%63[^:]: %ld", key, &v) != 2)
			continue;
		if (!strcmp(key, "MemTotal"))
			lost += v / 4;
		else if (!strcmp(key, "SwapTotal"))
			swap += v / 4;
		else if (!strcmp(key, "SwapFree"))
			swap -= v / 4;
		for (unsigned int i = 0; i < sizeof(known_kb) / sizeof(known_kb[0]); i++)
			lost -= strcmp(key, known_kb[i]) ? 0 : v / 4;
	}
	u->v[counter("swap")] = swap;

	/* Free, and kept by a CPU. */
	at = NULL;
	while (next_line(ZONEINFO, &at, line, sizeof(line)))
		if (sscanf(line, " count: %ld", &v) == 1)
			lost -= v;
	u->v[counter("lost pages")] = lost;

	at = NULL;
	while (next_line(SLABINFO, &at, line, sizeof(line)))
		if (sscanf(line, "%39s %ld", key, &v) == 2 && is_watched(key))
			u->v[counter(key)] = v;
}

/*
 * Less than half an object for each of @failures is noise: what other tasks do,
 * and caches per CPU. So one leaked by each is seen while noise is below half.
 */
static long tolerance(long failures)
{
	return failures > 0 ? (failures - 1) / 2 : 0;
}

struct noise {
	long most;
	const char *of;
};

/*
 * By how much more than @tolerated there is of what is in @which, which is then
 * only what leaked. In @noise, the most of what is tolerated, in either direction.
 */
static long leaked_between(const struct usage *then, const struct usage *now, long tolerated,
			   bool *which, struct noise *noise, char *text, size_t size)
{
	long leaked = 0;
	size_t at = 0;

	text[0] = 0;
	*noise = (struct noise){ 0, "" };
	for (unsigned int i = 0; i < nr_counters; i++) {
		long d = now->v[i] - then->v[i];

		if (!which[i])
			continue;
		which[i] = d > tolerated;
		if (which[i]) {
			leaked += d;
			if (at < size)
				at += snprintf(text + at, size - at, " %s %+ld", usage_names[i], d);
		} else if (labs(d) > labs(noise->most)) {
			*noise = (struct noise){ d, usage_names[i] };
		}
	}
	return leaked;
}
