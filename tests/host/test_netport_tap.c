/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The TAP port with the kernel's own network stack at the other end, in a network namespace of
 * the test's own. Needs root and /dev/net/tun; says so where it has not got them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "device/net_offload.h"
#include "host/netport_tap.h"
#include "spec/net.h"
#include "tests/support/hand_guest.h"
#include "tests/support/rig.h"

#define ALL (NETPORT_CSUM | NETPORT_TSO4 | NETPORT_TSO6 | NETPORT_ECN)

static const u8 guest_ip[4] = { 10, 9, 0, 2 }, host_ip[4] = { 10, 9, 0, 1 };
static const char *missing; /* why there is no TAP here */

static int group_setup(void **state)
{
	static char why[100];
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		snprintf(why, sizeof(why), "/dev/net/tun: %s", strerror(errno));
	else if (unshare(CLONE_NEWNET) < 0)
		snprintf(why, sizeof(why), "no network namespace: %s", strerror(errno));
	if (why[0])
		missing = why;
	if (fd >= 0)
		close(fd);
	return 0;
}

static void need_tap(void)
{
	if (missing) {
		print_message("skipped: %s\n", missing);
		skip();
	}
}

static struct netport *port_new(struct loop *loop, const char *interface)
{
	struct netport_tap_config config = { .name = "net0", .interface = interface };
	char why[200] = "";
	struct netport *port = netport_tap_create(loop, &config, why, sizeof(why));

	if (!port)
		fail_msg("%s", why);
	return port;
}

/* The kernel's end is 10.9.0.1/24. */
static struct hand_guest *guest_new(void)
{
	struct hand_guest *g = calloc(1, sizeof(*g));
	struct loop *loop = loop_create();
	struct netport *port = port_new(loop, "vtest0");
	struct ifreq request = { 0 };
	struct sockaddr_in *addr = (struct sockaddr_in *)&request.ifr_addr;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	strcpy(request.ifr_name, "vtest0");
	addr->sin_family = AF_INET;
	memcpy(&addr->sin_addr, host_ip, 4);
	assert_int_equal(ioctl(fd, SIOCSIFADDR, &request), 0);
	addr->sin_addr.s_addr = htonl(0xffffff00);
	assert_int_equal(ioctl(fd, SIOCSIFNETMASK, &request), 0);
	assert_int_equal(ioctl(fd, SIOCGIFFLAGS, &request), 0);
	assert_true(request.ifr_flags & IFF_UP);
	hand_attach(g, loop, port, guest_ip, host_ip);
	assert_int_equal(ioctl(fd, SIOCGIFHWADDR, &request), 0);
	memcpy(g->host_mac, request.ifr_hwaddr.sa_data, 6);
	close(fd);
	return g;
}

static void guest_free(struct hand_guest *g)
{
	hand_forget_frames(g);
	netport_tap_destroy(g->port);
	loop_destroy(g->loop);
	free(g);
}

static u32 host_addr(void)
{
	u32 addr;

	memcpy(&addr, host_ip, 4);
	return addr;
}

static void arp_is_answered_by_the_kernel(void **state)
{
	struct hand_guest *g;
	const u8 *frame;
	size_t n;

	need_tap();
	g = guest_new();
	assert_string_equal(netport_tap_interface(g->port), "vtest0");
	hand_send_arp(g, 1, host_ip);
	do
		frame = hand_next(g, &n);
	while (frame && (be16_at(frame + 12) != ETH_TYPE_ARP || be16_at(frame + 20) != 2));
	assert_non_null(frame);
	assert_memory_equal(frame, g->mac, 6);
	assert_memory_equal(frame + 28, host_ip, 4);
	assert_true(g->n_batches > 0);
	guest_free(g);
}

static void send_of_64_kib_with_offloads_reaches_a_socket(void **state)
{
	static u8 data[58000], got[58000], frame[60000];
	struct hand_tcp t = { .here = 40000, .send_next = 7 };
	struct net_offload o;
	struct hand_guest *g;
	u64 seed = rig_seed();
	int listener, fd;
	size_t n;

	need_tap();
	g = guest_new();
	listener = hand_listen(host_addr(), &t.there);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (u8)rig_random(&seed);
	hand_connect(g, &t);
	fd = hand_accept(g, listener);
	n = hand_make_segment(g, &t, frame, &o, TCP_ACK | TCP_PSH, data, sizeof(data));
	assert_int_equal(o.gso_type, VIRTIO_NET_HDR_GSO_TCPV4);
	hand_send(g, &o, frame, n);
	hand_read_all(g, fd, got, sizeof(got));
	assert_memory_equal(got, data, sizeof(data));
	close(fd);
	close(listener);
	guest_free(g);
}

/* Reads until `n_bytes` of payload came; tells of the largest frame and the offloads seen. */
static void receive_stream(struct hand_guest *g, struct hand_tcp *t, size_t n_bytes,
			   size_t *largest, u8 *flags, u8 *gso_types)
{
	size_t got = 0, n;

	*largest = 0;
	*flags = *gso_types = 0;
	while (got < n_bytes) {
		const u8 *tcp = hand_next_segment(g, t, &n);
		const struct hand_frame *f = &g->frames[g->n_read - 1];

		if (f->n_bytes > *largest)
			*largest = f->n_bytes;
		*flags |= f->offload.flags;
		*gso_types |= f->offload.gso_type;
		if (!(f->offload.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
			hand_check_checksums(f->bytes, f->n_bytes);
		if (be32_at(tcp + 4) == t->receive_next) {
			got += n;
			t->receive_next += (u32)n;
		}
		hand_send_segment(g, t, TCP_ACK, NULL, 0);
		if (g->n_read == g->n_frames)
			hand_forget_frames(g);
	}
}

static void frames_brought_follow_what_the_guest_can(void **state)
{
	static const struct {
		u32 can;
		u8 flags, gso_types;
		bool large;
	} rows[] = {
		{ 0, 0, 0, false },
		{ NETPORT_CSUM, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, false },
		{ ALL, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_TCPV4, true },
		{ NETPORT_CSUM | NETPORT_ECN, VIRTIO_NET_HDR_F_NEEDS_CSUM, 0, false },
	};
	static u8 chunk[40000];

	need_tap();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct hand_guest *g = guest_new();
		struct hand_tcp t = { .here = (u16)(41000 + i), .send_next = 7 };
		int listener = hand_listen(host_addr(), &t.there), fd;
		size_t largest;
		u8 flags, gso_types;

		g->port->ops->set_offloads(g->port, rows[i].can);
		hand_connect(g, &t);
		fd = hand_accept(g, listener);
		assert_int_equal(write(fd, chunk, sizeof(chunk)), sizeof(chunk));
		receive_stream(g, &t, sizeof(chunk), &largest, &flags, &gso_types);
		assert_int_equal(flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, rows[i].flags);
		assert_int_equal(gso_types, rows[i].gso_types);
		assert_int_equal(largest > 1514, rows[i].large);
		close(fd);
		close(listener);
		guest_free(g);
	}
}

static void refused_frame_is_kept_and_comes_first(void **state)
{
	static const struct net_offload none;
	struct hand_guest *g;
	u8 frame[60];
	u32 seen = 0;

	need_tap();
	g = guest_new();
	g->refuse = true;
	for (u8 k = 0; k < 5; k++) {
		/* From five addresses, so that the answers can be told apart. */
		hand_make_arp(g, frame, 1, host_ip);
		frame[31] = (u8)(100 + k);
		hand_send(g, &none, frame, sizeof(frame));
	}
	for (u32 k = 0; k < 10; k++)
		loop_turn(g->loop, 0);
	assert_int_equal(g->n_frames, 0);

	/* What the device does when its guest kicks. */
	g->port->ops->set_receiving(g->port, false);
	g->refuse = false;
	loop_turn(g->loop, 0);
	assert_int_equal(g->n_frames, 0);
	g->port->ops->set_receiving(g->port, true);
	assert_int_equal(g->n_frames, 1);
	while (seen < 5) {
		size_t n;
		const u8 *answer = hand_next(g, &n);

		assert_non_null(answer);
		if (be16_at(answer + 12) != ETH_TYPE_ARP || be16_at(answer + 20) != 2)
			continue;
		assert_int_equal(answer[41], 100 + seen);
		seen++;
	}
	guest_free(g);
}

static void refused_frame_does_not_spin_the_loop(void **state)
{
	struct hand_guest *g;
	u64 before;

	need_tap();
	g = guest_new();
	g->refuse = true;
	hand_send_arp(g, 1, host_ip);
	loop_turn(g->loop, 100);
	before = hand_now_ns(g);
	loop_turn(g->loop, 300);
	assert_true(hand_now_ns(g) - before >= 290 * 1000000ull);
	guest_free(g);
}

static void bad_offload_is_an_error_and_the_next_frame_goes_out(void **state)
{
	struct net_offload o = { .flags = 1, .gso_type = 0x42, .csum_start = 5000 };
	struct hand_guest *g;
	u8 frame[60];
	size_t n;

	need_tap();
	g = guest_new();
	hand_make_arp(g, frame, 1, host_ip);
	assert_int_equal(g->port->ops->send(g->port, &o, &(struct span){ frame, sizeof(frame) }, 1),
			 -EINVAL);
	hand_send_arp(g, 1, host_ip);
	assert_non_null(hand_next(g, &n));
	guest_free(g);
}

static void interface_in_use_is_said_so(void **state)
{
	struct netport_tap_config config = { .name = "net0", .interface = "vtest1" };
	struct loop *loop;
	struct netport *port;
	char why[200];

	need_tap();
	loop = loop_create();
	port = port_new(loop, "vtest1");
	assert_null(netport_tap_create(loop, &config, why, sizeof(why)));
	assert_string_equal(why, "TAP interface vtest1 is in use by another program");
	config.interface = "lo";
	assert_null(netport_tap_create(loop, &config, why, sizeof(why)));
	assert_non_null(strstr(why, "TAP interface lo: "));
	config.interface = "a-name-that-is-too-long";
	assert_null(netport_tap_create(loop, &config, why, sizeof(why)));
	assert_non_null(strstr(why, "at most 15 bytes"));
	netport_tap_destroy(port);
	loop_destroy(loop);
}

static void interface_without_name_gets_one(void **state)
{
	struct loop *loop;
	struct netport *port;

	need_tap();
	loop = loop_create();
	port = port_new(loop, NULL);
	assert_true(if_nametoindex(netport_tap_interface(port)) > 0);
	netport_tap_destroy(port);
	loop_destroy(loop);
}

static u32 n_link_changes;

static void count_link_change(void *owner)
{
	n_link_changes++;
}

static void interface_deleted_brings_the_link_down(void **state)
{
	struct hand_guest *g;
	u8 frame[60];
	u64 deadline;

	need_tap();
	g = guest_new();
	g->port->link_changed = count_link_change;
	if (system("ip link show lo >/dev/null 2>&1") != 0) {
		guest_free(g);
		print_message("skipped: no ip command to delete an interface with\n");
		skip();
	}
	assert_int_equal(system("ip link delete vtest0"), 0);
	deadline = hand_now_ns(g) + HAND_PATIENCE_NS;
	while (n_link_changes == 0 && hand_now_ns(g) < deadline)
		loop_turn(g->loop, 100);
	assert_int_equal(n_link_changes, 1);
	assert_false(g->port->link_up);
	hand_make_arp(g, frame, 1, host_ip);
	assert_int_equal(g->port->ops->send(g->port, &(struct net_offload){ 0 },
					    &(struct span){ frame, sizeof(frame) }, 1),
			 -ENODEV);
	loop_turn(g->loop, 0);
	assert_int_equal(n_link_changes, 1);
	guest_free(g);
}

/* Runs without privileges, in a child that gives them up. */
static void not_permitted_says_what_to_do(void **state)
{
	int pipes[2], status;
	char why[300] = "";
	pid_t pid;

	need_tap();
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0) {
		struct netport_tap_config config = { .name = "net0", .interface = "vtest2" };

		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(1);
		if (netport_tap_create(loop_create(), &config, why, sizeof(why)))
			_exit(2);
		_exit(write(pipes[1], why, strlen(why)) != (ssize_t)strlen(why));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_true(read(pipes[0], why, sizeof(why) - 1) > 0);
	/* Which of the two depends on the mode of /dev/net/tun. */
	assert_true(strstr(why, "run as root, or use the user-mode network") ||
		    strstr(why, "let root make it: ip tuntap add NAME mode tap user USER"));
	close(pipes[0]);
	close(pipes[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arp_is_answered_by_the_kernel),
		cmocka_unit_test(send_of_64_kib_with_offloads_reaches_a_socket),
		cmocka_unit_test(frames_brought_follow_what_the_guest_can),
		cmocka_unit_test(refused_frame_is_kept_and_comes_first),
		cmocka_unit_test(refused_frame_does_not_spin_the_loop),
		cmocka_unit_test(bad_offload_is_an_error_and_the_next_frame_goes_out),
		cmocka_unit_test(interface_in_use_is_said_so),
		cmocka_unit_test(interface_without_name_gets_one),
		cmocka_unit_test(interface_deleted_brings_the_link_down),
		cmocka_unit_test(not_permitted_says_what_to_do),
	};

	return cmocka_run_group_tests(tests, group_setup, NULL);
}
