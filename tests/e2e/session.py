"""A client of paho-mqtt with a session that is not clean, through every broken connection.

    session.py PORT VERSION publish CLIENT TOPIC QOS COUNT FILE   publishes 1 to COUNT; FILE gets each number that is acknowledged
    session.py PORT VERSION receive CLIENT FILTER QOS COUNT FILE  subscribes; FILE gets each payload that comes, until COUNT
                                                                  different ones have come, or for ever if COUNT is 0
    session.py PORT VERSION leave CLIENT FILTER QOS               subscribes and says goodbye
    session.py PORT VERSION say CLIENT TOPIC QOS TEXT             publishes one retained message
    session.py PORT VERSION will CLIENT TOPIC TEXT DELAY FILE     connects with a will; FILE is made then; stays
"""

import os
import socket
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

port, version, role, client_id = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
rest = sys.argv[5:]
five = version == "5"
WINDOW = 50

if five:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, protocol=mqtt.MQTTv5)
else:
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=False)
client.username_pw_set(os.environ["HOLDFAST_E2E_USER"], os.environ["HOLDFAST_E2E_PASSWORD"])
client.max_inflight_messages_set(WINDOW)
state = {"up": False, "presents": []}


def on_connect(client, userdata, flags, reason, properties):
    if reason.is_failure:
        return
    state["up"] = True
    state["presents"].append(flags.session_present)
    print("connected, session present:", flags.session_present, flush=True)


def on_disconnect(*_):
    state["up"] = False


client.on_connect, client.on_disconnect = on_connect, on_disconnect


def wait_for_door():
    """Waits until somebody listens. With each attempt to connect paho begins its messages anew, and at the second it no
    longer knows that the other side has taken a message of QoS 2 and asked for its release: it publishes it once more."""
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)


def connect():
    """Tries until it has connected."""
    while True:
        wait_for_door()
        try:
            if five:
                expiry = Properties(PacketTypes.CONNECT)
                expiry.SessionExpiryInterval = 3600
                client.connect("127.0.0.1", port, keepalive=30, clean_start=False, properties=expiry)
            else:
                client.connect("127.0.0.1", port, keepalive=30)
        except OSError:
            time.sleep(0.05)
            continue
        while not state["up"] and client.loop(timeout=0.05) == mqtt.MQTT_ERR_SUCCESS:
            pass
        if state["up"]:
            return
        time.sleep(0.05)


def turn():
    if client.loop(timeout=0.05) != mqtt.MQTT_ERR_SUCCESS or not state["up"]:
        state["up"] = False
        connect()


def goodbye():
    client.disconnect()
    while client.loop(timeout=0.05) == mqtt.MQTT_ERR_SUCCESS:
        pass


def subscribe(topic, qos):
    granted = []
    client.on_subscribe = lambda client, userdata, mid, reasons, properties: granted.append(reasons)
    while not granted:
        client.subscribe(topic, qos)
        end = time.monotonic() + 5
        while not granted and state["up"] and time.monotonic() < end:
            turn()
    assert not granted[0][0].is_failure, granted


if role == "publish":
    topic, qos, count, path = rest[0], int(rest[1]), int(rest[2]), rest[3]
    out = open(path, "w")
    numbers, following = {}, 1
    done = []

    def on_publish(client, userdata, mid, reason, properties):
        number = numbers.pop(mid)
        done.append(number)
        out.write(f"{number}\n")
        out.flush()

    client.on_publish = on_publish
    connect()
    while len(done) < count:
        while following <= count and len(numbers) < WINDOW and state["up"]:
            numbers[client.publish(topic, f"{following:06} " + "x" * 100, qos).mid] = following
            following += 1
        turn()
    goodbye()
elif role == "receive":
    topic, qos, count, path = rest[0], int(rest[1]), int(rest[2]), rest[3]
    out = open(path, "w")
    seen = set()

    def on_message(client, userdata, message):
        text = message.payload.decode()
        seen.add(text)
        out.write(f"{message.topic} {text.split(' ')[0]} {int(message.retain)}\n")
        out.flush()

    client.on_message = on_message
    connect()
    if not state["presents"][0]:
        subscribe(topic, qos)
    while not count or len(seen) < count:
        turn()
    # What would come twice comes now.
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        turn()
    goodbye()
elif role == "leave":
    connect()
    subscribe(rest[0], int(rest[1]))
    goodbye()
elif role == "say":
    sent = []
    client.on_publish = lambda *_: sent.append(1)
    connect()
    client.publish(rest[0], rest[2], int(rest[1]), retain=True)
    while not sent:
        turn()
    goodbye()
elif role == "will":
    topic, text, delay, path = rest[0], rest[1], int(rest[2]), rest[3]
    if five:
        properties = Properties(PacketTypes.WILLMESSAGE)
        properties.WillDelayInterval = delay
        client.will_set(topic, text, 1, properties=properties)
    else:
        client.will_set(topic, text, 1)
    connect()
    open(path, "w").close()
    # The host goes before this client does.
    while client.loop(timeout=0.05) == mqtt.MQTT_ERR_SUCCESS:
        pass
