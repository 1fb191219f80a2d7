"""Publishes the numbers 1 to COUNT with QoS 1 and goes on until each is acknowledged.

    publisher.py PORT USER PASSWORD TOPIC COUNT FILE RATE

A window of messages is under way. When a connection ends, what was sent and not acknowledged is sent again over the next
one, in order, before anything new: what a device does that wants to lose nothing. Each acknowledged number is a line of ten
characters in FILE, written when the acknowledgement has come and not before. RATE is how many are new in a second; 0 is as
many as are taken.
"""

import json
import sys
import time

import paho.mqtt.client as mqtt

WINDOW = 200

port, user, password, topic = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
count, record = int(sys.argv[5]), open(sys.argv[6], "ab", buffering=0)
rate, begun = int(sys.argv[7]), time.monotonic()

waiting = []  # Sent once and not acknowledged, in order.
following = 1  # Not sent yet: this one and greater ones.


def is_due():
    return not rate or following <= (time.monotonic() - begun) * rate


class Connection:
    """One connection, with its own client: nothing of an earlier one is left in it."""

    def __init__(self):
        self.numbers = {}  # By packet id, in the order of sending.
        self.up = self.down = False
        self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id="the-publisher", protocol=mqtt.MQTTv311, clean_session=True
        )
        self.client.username_pw_set(user, password)
        self.client.max_inflight_messages_set(WINDOW)
        self.client.on_connect = self.on_connect
        self.client.on_disconnect = self.on_disconnect
        self.client.on_publish = self.on_publish

    def on_connect(self, client, userdata, flags, reason, properties):
        if reason.is_failure:
            sys.exit(f"refused: {reason}")
        print("connected", flush=True)
        self.up = True

    def on_disconnect(self, client, userdata, flags, reason, properties):
        self.down = True

    def on_publish(self, client, userdata, mid, reason, properties):
        number = self.numbers.pop(mid)
        waiting.remove(number)
        record.write(b"%9d\n" % number)

    def send(self, number):
        body = json.dumps({"number": number, "text": "x" * 64})
        self.numbers[self.client.publish(topic, body, qos=1).mid] = number

    def run(self):
        """Until everything is acknowledged (true) or the connection has ended (false)."""
        global following
        try:
            self.client.connect("127.0.0.1", port, keepalive=30)
        except OSError:
            time.sleep(0.05)
            return False
        again = list(waiting)
        while not self.down:
            if self.up:
                while again and len(self.numbers) < WINDOW:
                    self.send(again.pop(0))
                while not again and following <= count and len(waiting) < WINDOW and is_due():
                    waiting.append(following)
                    following += 1
                    self.send(waiting[-1])
                if not waiting and following > count:
                    self.client.disconnect()
                    return True
            if self.client.loop(timeout=0.05) != mqtt.MQTT_ERR_SUCCESS:
                return False
        return False


while not Connection().run():
    pass
