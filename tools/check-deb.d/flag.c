/* The kernel's header for programs has the flag. */
#include <linux/sched.h>
#ifndef CLONE_ASYNC_PGTABLE
#error "linux/sched.h has no CLONE_ASYNC_PGTABLE"
#endif
