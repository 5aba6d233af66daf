/* SPDX-License-Identifier: BSD-3-Clause */
/* A circular doubly linked list whose links live in the objects that it holds. */
#ifndef VIADUCT_BASE_LIST_H
#define VIADUCT_BASE_LIST_H

#include "base/types.h"

struct list {
	struct list *next, *prev;
};

static inline void list_init(struct list *head)
{
	head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
	return head->next == head;
}

static inline void list_add_tail(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Leaves `node` linked to itself, so that removing it twice does no harm. */
static inline void list_del(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

/* The first node, taken off the list; NULL if there is none. */
static inline struct list *list_pop(struct list *head)
{
	struct list *node = head->next;

	if (node == head)
		return NULL;
	list_del(node);
	return node;
}

/* Moves all nodes of `from` to `to`, which is initialised here; `from` is empty then. */
static inline void list_move_all(struct list *from, struct list *to)
{
	list_init(to);
	if (from->next == from)
		return;
	*to = *from;
	to->next->prev = to->prev->next = to;
	list_init(from);
}

/* Is `node` on a list? It may be zeroed, initialised, or have been on one. */
static inline bool list_linked(const struct list *node)
{
	return node->next && node->next != node;
}

/* Walks the list; the body may remove `node` from it. */
#define list_for_each(node, tmp, head)                                      \
	for ((node) = (head)->next, (tmp) = (node)->next; (node) != (head); \
	     (node) = (tmp), (tmp) = (node)->next)

#endif
