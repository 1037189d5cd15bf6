/* SPDX-License-Identifier: GPL-2.0 */
/* Stubbed: include/linux/list.h */
#ifndef _LINUX_LIST_H
#define _LINUX_LIST_H

#include <linux/compiler.h>

struct hlist_node {
	struct hlist_node *next, **pprev;
};

struct hlist_head {
	struct hlist_node *first;
};

static inline void hlist_add_head(struct hlist_node *node, struct hlist_head *head)
{
	node->next = head->first;
	node->pprev = &head->first;
	if (node->next)
		node->next->pprev = &node->next;
	head->first = node;
}

static inline void hlist_del(struct hlist_node *node)
{
	*node->pprev = node->next;
	if (node->next)
		node->next->pprev = node->pprev;
}

#define hlist_for_each_entry(pos, head, member)					\
	for (struct hlist_node *__node = (head)->first;				\
	     __node && (pos = container_of(__node, typeof(*pos), member), 1);	\
	     __node = __node->next)

#endif
