/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/cgroup.h; memcontrol.h has what there is. */
