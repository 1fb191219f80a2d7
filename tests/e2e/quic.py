"""MQTT 3.1.1 over QUIC with aioquic, packet by packet.

    quic.py PORT AUTHORITY one | beside | wrong

one: CONNECT, SUBSCRIBE, PUBLISH with QoS 1 and PINGREQ on one stream; prints what is answered. beside: publishes with QoS 1 on a
second stream, where the answer must come, while the session is on the first. wrong: another protocol than "mqtt", which is refused.
"""

import asyncio
import os
import struct
import sys

from aioquic.asyncio import connect
from aioquic.quic.configuration import QuicConfiguration

port, authority, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def text(value):
    data = value.encode()
    return struct.pack("!H", len(data)) + data


def packet(head, body):
    size, length = b"", len(body)
    while True:
        size += bytes([length % 128 | (128 if length > 127 else 0)])
        length //= 128
        if not length:
            return bytes([head]) + size + body


CONNECT = packet(
    0x10,
    text("MQTT") + b"\x04\xc2\x00\x3c" + text("aioquic")
    + text(os.environ["HOLDFAST_E2E_USER"]) + text(os.environ["HOLDFAST_E2E_PASSWORD"]),
)
SUBSCRIBE = packet(0x82, b"\x00\x01" + text("plant/#") + b"\x01")
LARGE = "q" * 50_000


def publish(number, body):
    return packet(0x32, text("plant/quic") + struct.pack("!H", number) + body.encode())


async def read(reader):
    head = await reader.readexactly(1)
    length, shift = 0, 0
    while True:
        byte = (await reader.readexactly(1))[0]
        length |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return head[0] >> 4, await reader.readexactly(length)


async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["h3" if what == "wrong" else "mqtt"])
    configuration.load_verify_locations(authority)
    configuration.server_name = "localhost"
    async with connect("127.0.0.1", port, configuration=configuration) as client:
        reader, writer = await client.create_stream()
        writer.write(CONNECT)
        kind, body = await read(reader)
        assert (kind, body[1]) == (2, 0), f"CONNACK {kind} {body}"
        writer.write(SUBSCRIBE)
        assert (await read(reader))[0] == 9, "no SUBACK"
        if what == "beside":
            side_reader, side_writer = await client.create_stream()
            side_writer.write(publish(7, "beside"))
            kind, body = await read(side_reader)
            assert (kind, body) == (4, b"\x00\x07"), f"no PUBACK on the second stream: {kind} {body}"
            kind, body = await read(reader)
            assert kind == 3 and body.endswith(b"beside"), f"no message on the first stream: {kind}"
            writer.write(b"\xc0\x00")
            kind, _ = await read(reader)
            assert kind in (13, 4), kind
            side_writer.write(b"\xc0\x00")
            assert await side_reader.read() == b"", "PINGREQ does not belong on a second stream"
            print("answered on the stream that asked")
            return
        writer.write(publish(2, LARGE))
        kinds = sorted([(await read(reader))[0], (await read(reader))[0]])
        assert kinds == [3, 4], f"PUBACK and the message: {kinds}"
        writer.write(b"\xc0\x00")
        assert (await read(reader))[0] == 13, "no PINGRESP"
        writer.write(b"\xe0\x00")
        print("CONNACK SUBACK PUBACK PUBLISH PINGRESP")


try:
    asyncio.run(asyncio.wait_for(main(), 30))
except ConnectionError:
    assert what == "wrong", "the connection was refused"
    print("refused")
else:
    assert what != "wrong", "another protocol was taken"
