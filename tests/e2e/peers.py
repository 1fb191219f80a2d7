"""A paho client at an edge's gateway.

    peers.py PORT VERSION talk | leave | return [tcp | websockets [AUTHORITY]]

talk: publishes 500 messages with QoS 1 and gets them back in order. leave: opens a session that stays, subscribes, and goes.
return: comes back to it and prints the first message that waited. With an authority (a file), over TLS.
"""

import os
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
transport = sys.argv[4] if len(sys.argv) > 4 else "tcp"
authority = sys.argv[5] if len(sys.argv) > 5 else None
user, password = os.environ["HOLDFAST_E2E_USER"], os.environ["HOLDFAST_E2E_PASSWORD"]
five = version == "5"
name = f"paho-{version}-{'talk' if what == 'talk' else 'session'}"
ready, done, seen = threading.Event(), threading.Event(), []
wanted = 500 if what == "talk" else 1


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        print(f"refused: {reason}")
        os._exit(1)
    if what == "return":
        if not flags.session_present:
            print("the session is gone")
            os._exit(1)
        ready.set()
    else:
        client.subscribe("plant/#", qos=1)


def on_message(client, userdata, message):
    seen.append(message.payload.decode())
    if len(seen) == wanted:
        done.set()


options = {} if five else {"clean_session": what == "talk"}
client = mqtt.Client(
    mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5 if five else mqtt.MQTTv311,
    transport=transport, **options
)
if authority:
    client.tls_set(authority)
client.username_pw_set(user, password)
client.on_connect, client.on_message = on_connect, on_message
client.on_subscribe = lambda *_: ready.set()
if five:
    kept = Properties(PacketTypes.CONNECT)
    kept.SessionExpiryInterval = 0 if what == "talk" else 600
    client.connect("127.0.0.1", port, clean_start=what != "return", properties=kept)
else:
    client.connect("127.0.0.1", port)
client.loop_start()
assert ready.wait(30), "no subscription"
if what == "talk":
    for n in range(wanted):
        client.publish("plant/paho", f"{version} {n}", qos=1)
if what != "leave":
    assert done.wait(30), f"only {len(seen)} messages came"
if what == "talk":
    assert seen == [f"{version} {n}" for n in range(wanted)], "out of order"
    print(f"{wanted} messages in order")
if what == "return":
    print(seen[0])
client.disconnect()
client.loop_stop()
