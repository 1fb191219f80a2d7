"""A device in the dialect of IoT Hub, with a token of its own making: device.py PORT HUB DEVICE KEY SECONDS"""

import base64
import hashlib
import hmac
import sys
import threading
import time
import urllib.parse

import paho.mqtt.client as mqtt

port, hub, device, key, seconds = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5])
resource = urllib.parse.quote(f"{hub}/devices/{device}", safe="")
expiry = int(time.time()) + seconds
digest = hmac.new(base64.b64decode(key), f"{resource}\n{expiry}".encode(), hashlib.sha256).digest()
signature = urllib.parse.quote(base64.b64encode(digest), safe="")
said, answered = [], threading.Event()


def on_connect(client, userdata, flags, code):
    said.append("connected" if code == 0 else f"refused {code}")
    answered.set()


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION1, client_id=device, clean_session=True)
client.username_pw_set(
    f"{hub}/{device}/?api-version=2019-10-01",
    f"SharedAccessSignature sr={resource}&sig={signature}&se={expiry}",
)
client.on_connect = on_connect
client.connect("127.0.0.1", port)
client.loop_start()
print(said[0] if answered.wait(30) else "no answer")
client.disconnect()
