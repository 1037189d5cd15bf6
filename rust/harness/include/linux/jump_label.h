/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/jump_label.h; a key is a word. */
#ifndef _LINUX_JUMP_LABEL_H
#define _LINUX_JUMP_LABEL_H

#include <linux/compiler.h>

struct static_key {
	int enabled;
};

struct static_key_false {
	struct static_key key;
};

#define DECLARE_STATIC_KEY_FALSE(name)	extern struct static_key_false name
#define DEFINE_STATIC_KEY_FALSE(name)	struct static_key_false name
#define static_key_enabled(k) \
	(__atomic_load_n(&(k)->enabled, __ATOMIC_ACQUIRE) != 0)
#define static_branch_unlikely(k)	static_key_enabled(&(k)->key)
#define static_branch_enable(k) \
	__atomic_store_n(&(k)->key.enabled, 1, __ATOMIC_RELEASE)

#endif
