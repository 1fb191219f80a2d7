"""A path between two addresses of one machine that delays, loses and can be cut: python3 lossy_path.py DELAY_MS LOST_OF_1000.

It makes the interface `lossy0` (10.99.0.1) in the network namespace that it runs in. What is sent to 10.99.0.2 comes
back from there, source and destination exchanged, so that both ends are on this machine and every packet passes here,
those of TCP with their own retransmissions. Commands on standard input: `cut`, `mend`, `rate BYTES_PER_SECOND` (0: no
bound). Each is answered with `ok`.
"""

import collections
import fcntl
import os
import random
import select
import struct
import subprocess
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
# What a router holds before it drops.
QUEUE_BYTES_MAX = 128 << 10


def main():
    delay, lost = float(sys.argv[1]) / 1000, int(sys.argv[2])
    dice = random.Random(0x5EED)
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", b"lossy0", IFF_TUN | IFF_NO_PI))
    for command in (
        "ip link set lo up",
        "ip address add 10.99.0.1/24 dev lossy0",
        "ip link set lossy0 mtu 1500 txqueuelen 1000 up",
    ):
        subprocess.run(command.split(), check=True)
    print("ready", flush=True)
    # One queue for each direction, told apart by the port that is well known: the lower one.
    queues = {False: collections.deque(), True: collections.deque()}
    held = {False: 0, True: 0}
    free_at = {False: 0.0, True: 0.0}
    cut, rate = False, 0
    while True:
        now = time.monotonic()
        due = min((queue[0][0] for queue in queues.values() if queue), default=now + 3600)
        readable, _, _ = select.select([tun, sys.stdin], [], [], max(0.0, due - now))
        now = time.monotonic()
        for way, queue in queues.items():
            while queue and queue[0][0] <= now:
                _, packet = queue.popleft()
                held[way] -= len(packet)
                os.write(tun, packet)
        if sys.stdin in readable:
            words = sys.stdin.readline().split()
            if not words:
                return
            if words[0] == "rate":
                rate = int(words[1])
            else:
                cut = words[0] == "cut"
            print("ok", flush=True)
        if tun not in readable:
            continue
        for _ in range(64):
            try:
                packet = os.read(tun, 2048)
            except BlockingIOError:
                break
            if packet[0] >> 4 != 4 or packet[16:20] != b"\x0a\x63\x00\x02":
                continue
            if cut or dice.randrange(1000) < lost:
                continue
            start = (packet[0] & 15) * 4
            source, destination = struct.unpack_from("!HH", packet, start)
            way = source < destination
            leaves = now
            if rate:
                if held[way] + len(packet) > QUEUE_BYTES_MAX:
                    continue
                free_at[way] = leaves = max(free_at[way], now) + len(packet) / rate
            # The sum of the checksums stays what it is when the two addresses change places.
            packet = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
            queues[way].append((leaves + delay, packet))
            held[way] += len(packet)


main()
