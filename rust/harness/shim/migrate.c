// SPDX-License-Identifier: GPL-2.0
/*
 * Customised: mm/migrate.c, rmap.c. A page moves: its PTEs become migration
 * entries, its content goes elsewhere, and a second walk removes the entries.
 *
 * A walk looks at all address spaces, under a lock that stands for that of the
 * anon_vma. It finds a parent before its child while that is being forked, as the
 * interval tree does; later the child may come first.
 */
#include <harness.h>
#include <linux/mmap_lock.h>
#include <linux/pgalloc.h>
#include <asm/tlbflush.h>

#include "internal.h"

struct rw_semaphore rmap_lock = {
	.os = PTHREAD_RWLOCK_INITIALIZER,
	.writers = { .os = PTHREAD_MUTEX_INITIALIZER },
};

#define MAX_MMS	64

/* The older ones first. */
static struct mm_struct *mms[MAX_MMS];
static unsigned int nr_mms;

/* Whoever copies to @mm at once sees to it that parents are found first. */
void rmap_link(struct mm_struct *mm, bool forking)
{
	down_write(&rmap_lock);
	BUG_ON(nr_mms == MAX_MMS);
	mms[nr_mms++] = mm;
	WRITE_ONCE(mm->forking, forking);
	up_write(&rmap_lock);
}

void rmap_forked(struct mm_struct *mm)
{
	__atomic_store_n(&mm->forking, 0, __ATOMIC_RELEASE);
}

/* Nobody looks at its page tables any more, if somebody could. */
void rmap_unlink(struct mm_struct *mm)
{
	unsigned int i, nr = 0;

	down_write(&rmap_lock);
	for (i = 0; i < nr_mms; i++)
		if (mms[i] != mm)
			mms[nr++] = mms[i];
	nr_mms = nr;
	up_write(&rmap_lock);
}

/* A table that nobody finds any more: waits for who has. */
void synchronize_rmap(void)
{
	down_write(&rmap_lock);
	up_write(&rmap_lock);
}

/*
 * The lock of a page that is being migrated. Not in the page: it is asked for
 * by who finds an entry that should not be there.
 */
#define MAX_MIGRATING	32

static pthread_mutex_t migrating_lock = PTHREAD_MUTEX_INITIALIZER;
static struct page *migrating[MAX_MIGRATING];

static struct page **find_migrating(struct page *page)
{
	for (int i = 0; i < MAX_MIGRATING; i++)
		if (migrating[i] == page)
			return &migrating[i];
	return NULL;
}

static bool trylock_page(struct page *page)
{
	bool locked;

	pthread_mutex_lock(&migrating_lock);
	locked = find_migrating(page);
	if (!locked) {
		BUG_ON(!find_migrating(NULL));
		*find_migrating(NULL) = page;
	}
	pthread_mutex_unlock(&migrating_lock);
	return !locked;
}

static void unlock_page(struct page *page)
{
	pthread_mutex_lock(&migrating_lock);
	*find_migrating(page) = NULL;
	pthread_mutex_unlock(&migrating_lock);
}

/* As softleaf_to_folio(): entries are there only while their page is locked. */
void check_migration_entry(pte_t pte)
{
	bool locked;

	pthread_mutex_lock(&migrating_lock);
	locked = find_migrating(pte_page(pte));
	pthread_mutex_unlock(&migrating_lock);
	BUG_ON(!locked && "oracle: a migration entry has been left behind");
}

/* Whoever has found one comes back later. */
void migration_entry_wait(void)
{
	might_sleep();
	give_way();
}

/*
 * Walks
 */

struct walk {
	bool (*one)(struct walk *walk, struct mm_struct *mm, pgtable_t table,
		    pte_t *ptep);
	struct page *old;
	struct page *new;
};

static bool walk_mm(struct walk *walk, struct mm_struct *mm)
{
	for (int i = 0; i < PTRS_PER_PMD; i++) {
		pmd_t pmd = pmdp_get_lockless(&mm->pmds->pmd[i]);

		for (int j = 0; j < PTRS_PER_PTE && pmd_present(pmd); j++)
			if (!walk->one(walk, mm, pmd_pgtable(pmd),
				       &pmd_pgtable(pmd)->pte[j]))
				return false;
	}
	return true;
}

static __thread unsigned int stages;
static __thread unsigned int walks;

void stop_walk(unsigned int at)
{
	stages = at;
}

unsigned int walks_for_entries(void)
{
	return walks;
}

static void walk_is_at(unsigned int stage)
{
	if (!(stages & stage)) {
		sched_point();
		return;
	}
	stages &= ~stage;
	give_way();
}

/* Until one of the calls returns false. */
static bool rmap_walk(struct walk *walk)
{
	bool backwards = true, done = true;

	down_read(&rmap_lock);
	for (unsigned int i = 0; i < nr_mms; i++)
		backwards &= !__atomic_load_n(&mms[i]->forking, __ATOMIC_ACQUIRE);
	backwards &= chance(2) || (stages & WALK_HAS_BEGUN);
	for (unsigned int i = 0; i < nr_mms && done; i++) {
		done = walk_mm(walk, mms[backwards ? nr_mms - 1 - i : i]);
		if (walk->new)
			walk_is_at(WALK_HAS_BEGUN);
	}
	up_read(&rmap_lock);
	return done;
}

static bool try_to_migrate_one(struct walk *walk, struct mm_struct *mm,
			       pgtable_t table, pte_t *ptep)
{
	struct page *page = walk->old;
	pte_t pte = ptep_get(ptep);
	bool exclusive, pinned = false;

	if (!pte_present(pte) || pte_page(pte) != page)
		return true;
	spin_lock(&table->ptl);
	pte = ptep_get(ptep);
	if (!pte_present(pte) || pte_page(pte) != page) {
		spin_unlock(&table->ptl);
		return true;
	}
	exclusive = __atomic_load_n(&page->exclusive, __ATOMIC_ACQUIRE);
	set_pte(ptep, mk_migration_pte(page, pte_write(pte), exclusive));
	flush_tlb_mm(mm);
	if (exclusive) {
		/* As folio_try_share_anon_rmap_pte(): or GUP-fast sees the entry. */
		smp_mb();
		pinned = READ_ONCE(page->pincount);
		if (pinned)
			set_pte(ptep, pte);
		else
			__atomic_store_n(&page->exclusive, 0, __ATOMIC_RELEASE);
	}
	spin_unlock(&table->ptl);
	if (!pinned)
		put_page(page);
	return !pinned;
}

static bool remove_migration_pte(struct walk *walk, struct mm_struct *mm,
				 pgtable_t table, pte_t *ptep)
{
	/* As page_vma_mapped_walk(): first without the lock. */
	pte_t pte = ptep_get(ptep);

	if (!pte_migration(pte) || pte_page(pte) != walk->old)
		return true;
	spin_lock(&table->ptl);
	pte = ptep_get(ptep);
	if (pte_migration(pte) && pte_page(pte) == walk->old) {
		get_page(walk->new);
		if (pte_migration_exclusive(pte))
			__atomic_store_n(&walk->new->exclusive, 1, __ATOMIC_RELEASE);
		set_pte(ptep, mk_pte(walk->new, pte_write(pte)));
	}
	spin_unlock(&table->ptl);
	return true;
}

static void remove_migration_ptes(struct page *old, struct page *new)
{
	struct walk walk = { .one = remove_migration_pte, .old = old, .new = new };
	struct async_pgtable_walk begun = {};

	walk_is_at(WALK_BEGINS);
	walks = 0;
	do {
		async_pgtable_walk_begin(&begun, container_of(old, struct folio, page));
		rmap_walk(&walk);
		walks++;
	} while (async_pgtable_walk_again(&begun));
}

/* The page at @nr, with a reference. */
static struct page *isolate_page(struct mm_struct *mm, unsigned long nr)
{
	struct page *page = NULL;

	down_read(&rmap_lock);
	for (unsigned int i = 0; i < nr_mms; i++) {
		pmd_t pmd;
		pte_t pte;

		if (mms[i] != mm)
			continue;
		pmd = pmdp_get_lockless(&mm->pmds->pmd[nr / PTRS_PER_PTE]);
		if (!pmd_present(pmd))
			break;
		spin_lock(&pmd_pgtable(pmd)->ptl);
		pte = ptep_get(&pmd_pgtable(pmd)->pte[nr % PTRS_PER_PTE]);
		if (pte_present(pte)) {
			page = pte_page(pte);
			get_page(page);
		}
		spin_unlock(&pmd_pgtable(pmd)->ptl);
		break;
	}
	up_read(&rmap_lock);
	return page;
}

/* Nobody else has a reference any more, so nobody gets one. */
static bool freeze_page(struct page *page)
{
	int one = 1;

	return __atomic_compare_exchange_n(&page->refcount, &one, 0, false,
					   __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
}

/* Compaction: moves what is at @nr in @mm, which may be mapped elsewhere too. */
int migrate_page(struct mm_struct *mm, unsigned long nr)
{
	struct folio *folio = folio_alloc(GFP_HIGHUSER_MOVABLE, 0);
	struct page *old, *new;
	struct walk unmap = { .one = try_to_migrate_one };
	int ret = -EAGAIN;

	if (!folio)
		return -ENOMEM;
	new = &folio->page;
	old = isolate_page(mm, nr);
	if (!old) {
		put_page(new);
		return -EFAULT;
	}
	if (trylock_page(old)) {
		unmap.old = old;
		if (rmap_walk(&unmap) && freeze_page(old)) {
			new->memcg = old->memcg;
			new->exclusive = 0;
			new->content = old->content;
			remove_migration_ptes(old, new);
			WRITE_ONCE(old->refcount, 1);
			ret = 0;
		} else {
			remove_migration_ptes(old, old);
		}
		unlock_page(old);
	}
	synchronize_gup_fast();
	put_page(old);
	put_page(new);
	return ret;
}
