/* SPDX-License-Identifier: BSD-3-Clause */
/* Names and sentences of the ring faults. */
#include "ring/fault.h"

static const struct {
	const char *name, *text;
} faults[RING_N_FAULTS] = {
	[RING_OK] = { "ok", "nothing is wrong" },
	[RING_FAULT_SIZE] = { "size", "the queue size is not one that this queue can have" },
	[RING_FAULT_AREA] = { "area", "a part of the ring is misaligned or not in memory" },
	[RING_FAULT_POSITION] = { "position", "the ring has no such position to start from" },
	[RING_FAULT_AVAIL_JUMP] = { "avail-jump",
				    "the available index went back or too far ahead" },
	[RING_FAULT_HEAD_RANGE] = { "head-range",
				    "the available ring names a descriptor past the table" },
	[RING_FAULT_NEXT_RANGE] = { "next-range", "a descriptor links past the end of its table" },
	[RING_FAULT_LOOP] = { "loop", "a chain has more descriptors than its table" },
	[RING_FAULT_CHAIN_TOO_LONG] = { "chain-too-long",
					"a chain has more pieces than this device takes" },
	[RING_FAULT_ID_RANGE] = { "id-range", "a buffer id lies past the queue size" },
	[RING_FAULT_ID_IN_FLIGHT] = { "id-in-flight",
				      "a chain was offered again before it was used" },
	[RING_FAULT_OVERRUN] = { "overrun", "more descriptors are in flight than the ring has" },
	[RING_FAULT_TORN] = { "torn", "a descriptor list was published before it was complete" },
	[RING_FAULT_ZERO_LENGTH] = { "zero-length", "a buffer has no bytes" },
	[RING_FAULT_TOTAL_LENGTH] = { "total-length", "a chain describes 4 GiB or more" },
	[RING_FAULT_ADDRESS] = { "address", "a buffer does not lie in guest memory" },
	[RING_FAULT_ORDER] = { "order", "a readable buffer follows a writable one" },
	[RING_FAULT_INDIRECT_UNOFFERED] = { "indirect-unoffered",
					    "an indirect table without the feature" },
	[RING_FAULT_INDIRECT_NESTED] = { "indirect-nested",
					 "an indirect table inside an indirect table" },
	[RING_FAULT_INDIRECT_NEXT] = { "indirect-next", "an indirect table that is linked on" },
	[RING_FAULT_INDIRECT_LENGTH] = { "indirect-length",
					 "an indirect table with no or broken entries" },
	[RING_FAULT_INDIRECT_ADDRESS] = { "indirect-address",
					  "an indirect table does not lie in memory" },
	[RING_FAULT_USED_JUMP] = { "used-jump",
				   "the used index went back or beyond what is in flight" },
	[RING_FAULT_USED_ID_RANGE] = { "used-id-range", "a used id lies past the queue size" },
	[RING_FAULT_USED_ID_IDLE] = { "used-id-idle", "a used id names nothing that is in flight" },
	[RING_FAULT_USED_LENGTH] = { "used-length",
				     "the device claims more bytes than the buffer holds" },
};

const char *ring_fault_name(enum ring_fault fault)
{
	return (unsigned int)fault < RING_N_FAULTS ? faults[fault].name : "unknown";
}

const char *ring_fault_text(enum ring_fault fault)
{
	return (unsigned int)fault < RING_N_FAULTS ? faults[fault].text : "an unknown fault";
}
