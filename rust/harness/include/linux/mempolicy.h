/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/mempolicy.h; there is one node. */
