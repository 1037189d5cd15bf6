/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/sysctl.h, init.h, kstrtox.h */
#ifndef _LINUX_SYSCTL_H
#define _LINUX_SYSCTL_H

#include <linux/compiler.h>

struct ctl_table {
	const char *procname;
	void *data;
	int maxlen;
	int mode;
	int (*proc_handler)(const struct ctl_table *table, int write,
			    void *buffer, size_t *lenp, loff_t *ppos);
	void *extra1;
	void *extra2;
};

extern int sysctl_vals[];
#define SYSCTL_ZERO	((void *)&sysctl_vals[0])
#define SYSCTL_TWO	((void *)&sysctl_vals[1])

int proc_dointvec_minmax(const struct ctl_table *table, int write,
			 void *buffer, size_t *lenp, loff_t *ppos);
/* Remembers the first of @table. */
#define register_sysctl_init(path, table)	(harness_sysctl = (table))
extern const struct ctl_table *harness_sysctl;

/* There is no command line. */
#define __setup(name, fn)	static int (*setup_##fn)(char *) __attribute__((unused)) = fn
int kstrtoint(const char *s, unsigned int base, int *res);

#define subsys_initcall(fn) \
	__attribute__((constructor)) static void initcall_##fn(void) { fn(); }

#endif
