"""Subscribes at a broker with MQTT 5 and writes down every message as a line of JSON, duplicates too.

    receiver.py PORT FILTER FILE

FILE is there from the moment when the subscription is acknowledged.
"""

import json
import os
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, topics, path = int(sys.argv[1]), sys.argv[2], sys.argv[3]
out = None


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        sys.exit(f"refused: {reason}")
    client.subscribe(topics, qos=1)


def on_subscribe(client, userdata, mid, reasons, properties):
    global out
    if any(reason.is_failure for reason in reasons):
        os._exit(1)
    out = out or open(path, "a", encoding="utf-8")


def on_message(client, userdata, message):
    own = dict(getattr(message.properties, "UserProperty", []))
    line = {
        "topic": message.topic,
        "id": own.get("holdfast-id"),
        "source": own.get("holdfast-source"),
        "payload": message.payload.decode("utf-8", "replace"),
    }
    out.write(json.dumps(line) + "\n")
    out.flush()


session = Properties(PacketTypes.CONNECT)
session.SessionExpiryInterval = 3600
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="the-receiver", protocol=mqtt.MQTTv5)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.connect("127.0.0.1", port, keepalive=60, clean_start=False, properties=session)
client.loop_forever()
