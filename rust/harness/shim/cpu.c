// SPDX-License-Identifier: GPL-2.0
/*
 * CPUs with a TLB. An access takes what is cached, if that permits it, or walks
 * the tables: R/W is ANDed over the levels. What is cached stays until it is
 * flushed, or until it denies an access.
 *
 * An access is one step for flush_tlb_mm() and stop_cpus(), by a lock of the
 * CPU's; tables are freed after a flush, so a walk needs no other lock.
 */
#include <harness.h>

struct cpu {
	pthread_mutex_t lock;
	struct mm_struct *mm;
	struct cpu *next;
	pte_t tlb[NR_PAGES];
};

static __thread struct cpu *this_cpu;

void cpu_attach(struct mm_struct *mm)
{
	struct cpu *cpu = xzalloc(sizeof(*cpu));

	pthread_mutex_init(&cpu->lock, NULL);
	cpu->mm = mm;
	pthread_mutex_lock(&mm->cpus_lock);
	cpu->next = mm->cpus;
	mm->cpus = cpu;
	pthread_mutex_unlock(&mm->cpus_lock);
	this_cpu = cpu;
}

void cpu_detach(void)
{
	struct cpu *cpu = this_cpu, **p;

	pthread_mutex_lock(&cpu->mm->cpus_lock);
	for (p = &cpu->mm->cpus; *p != cpu; p = &(*p)->next)
		;
	*p = cpu->next;
	pthread_mutex_unlock(&cpu->mm->cpus_lock);
	pthread_mutex_destroy(&cpu->lock);
	free(cpu);
	this_cpu = NULL;
}

void stop_cpus(struct mm_struct *mm)
{
	pthread_mutex_lock(&mm->cpus_lock);
	for (struct cpu *cpu = mm->cpus; cpu; cpu = cpu->next)
		pthread_mutex_lock(&cpu->lock);
}

void resume_cpus(struct mm_struct *mm)
{
	for (struct cpu *cpu = mm->cpus; cpu; cpu = cpu->next)
		pthread_mutex_unlock(&cpu->lock);
	pthread_mutex_unlock(&mm->cpus_lock);
}

void flush_tlb_mm(struct mm_struct *mm)
{
	stop_cpus(mm);
	for (struct cpu *cpu = mm->cpus; cpu; cpu = cpu->next)
		memset(cpu->tlb, 0, sizeof(cpu->tlb));
	resume_cpus(mm);
}

static pte_t walk(struct mm_struct *mm, unsigned long page)
{
	pmd_t pmd = pmdp_get_lockless(&mm->pmds->pmd[page / PTRS_PER_PTE]);
	pte_t pte;

	if (!pmd_present(pmd))
		return (pte_t){ 0 };
	pte = ptep_get(&pmd_pgtable(pmd)->pte[page % PTRS_PER_PTE]);
	if (!pmd_table_write(pmd))
		pte.pte &= ~_PAGE_RW;
	return pte;
}

/* False for a page fault. What is read is compared with what is expected. */
bool cpu_access(unsigned long page, bool write, long value)
{
	struct cpu *cpu = this_cpu;
	struct mm_struct *mm = cpu->mm;
	bool done = false;
	pte_t pte;

	pthread_mutex_lock(&cpu->lock);
	pte = cpu->tlb[page];
	if (!pte_present(pte) || (write && !pte_write(pte)))
		pte = walk(mm, page);
	cpu->tlb[page] = pte;
	if (pte_present(pte) && (!write || pte_write(pte))) {
		if (write)
			pte_page(pte)->content = mm->shadow[page] = value;
		else
			/* Somebody may have reaped what is read. */
			BUG_ON(pte_page(pte)->content != mm->shadow[page] &&
			       !is_killed() && "oracle: a page is not what it should be");
		done = true;
	} else {
		cpu->tlb[page] = (pte_t){ 0 };
	}
	pthread_mutex_unlock(&cpu->lock);
	return done;
}
