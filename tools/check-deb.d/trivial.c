// SPDX-License-Identifier: GPL-2.0
#include <linux/module.h>
#include <linux/sched.h>

static int __init trivial_init(void)
{
	pr_info("trivial: CLONE_ASYNC_PGTABLE is %#llx\n", (u64)CLONE_ASYNC_PGTABLE);
	return 0;
}

static void __exit trivial_exit(void)
{
}

module_init(trivial_init);
module_exit(trivial_exit);
MODULE_DESCRIPTION("a module out of the tree, for tools/check-deb");
MODULE_LICENSE("GPL");
