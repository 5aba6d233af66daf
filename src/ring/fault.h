/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What can be wrong with a ring, by name.
 *
 * A half that meets one of these latches it, with the id and the value that gave it away, and
 * works no further until it is set up again. The other side lied; nothing here is our own bug.
 */
#ifndef VIADUCT_RING_FAULT_H
#define VIADUCT_RING_FAULT_H

#include "base/types.h"

enum ring_fault {
	RING_OK,

	/* Set-up, either half. */
	RING_FAULT_SIZE, /* 0, above the maximum, or (split) no power of two; value: size */
	RING_FAULT_AREA, /* a ring part is not in memory or not aligned; value: its address */
	RING_FAULT_POSITION, /* a start position that the ring does not have; value: position */

	/* Found by the device half: the driver lied. */
	RING_FAULT_AVAIL_JUMP, /* avail.idx went back or more than size ahead; value: idx */
	RING_FAULT_HEAD_RANGE, /* avail.ring entry past the table; value: entry */
	RING_FAULT_NEXT_RANGE, /* desc.next past its table; value: next */
	RING_FAULT_LOOP, /* more descriptors than the table has; value: table entries */
	RING_FAULT_CHAIN_TOO_LONG, /* more pieces than this device takes; value: its limit */
	RING_FAULT_ID_RANGE, /* packed buffer id >= size; value: id */
	RING_FAULT_ID_IN_FLIGHT, /* head or buffer id offered again before it was used */
	RING_FAULT_OVERRUN, /* packed: more slots in flight than the ring has */
	RING_FAULT_TORN, /* packed: a list whose later part is not available; value: flags */
	RING_FAULT_ZERO_LENGTH, /* a buffer of no bytes; value: its address */
	RING_FAULT_TOTAL_LENGTH, /* a chain above 4 GiB - 1; value: bytes with this buffer */
	RING_FAULT_ADDRESS, /* a buffer that is not in memory; value: first bad address */
	RING_FAULT_ORDER, /* a device-readable buffer after a device-writable one */
	RING_FAULT_INDIRECT_UNOFFERED, /* INDIRECT without the feature */
	RING_FAULT_INDIRECT_NESTED, /* INDIRECT inside an indirect table */
	RING_FAULT_INDIRECT_NEXT, /* INDIRECT together with NEXT (packed: in any list) */
	RING_FAULT_INDIRECT_LENGTH, /* table of no entries or of a broken one; value: bytes */
	RING_FAULT_INDIRECT_ADDRESS, /* table that is not in memory; value: first bad address */

	/* Found by the driver half: the device lied. */
	RING_FAULT_USED_JUMP, /* used.idx went back or beyond what is in flight; value: idx */
	RING_FAULT_USED_ID_RANGE, /* used id >= size; value: id */
	RING_FAULT_USED_ID_IDLE, /* used id that is not in flight; value: id */
	RING_FAULT_USED_LENGTH, /* more written than the buffer had room for; value: len */

	RING_N_FAULTS
};

/* A latched fault: what, in which chain (head or buffer id), and the value that showed it. */
struct ring_fault_record {
	enum ring_fault kind;
	u16 id;
	u64 value;
};

/* A short name like "avail-jump", and a sentence for people; never NULL. */
const char *ring_fault_name(enum ring_fault fault);
const char *ring_fault_text(enum ring_fault fault);

#endif
