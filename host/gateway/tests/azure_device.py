"""A device, or a module, that is made with the unmodified SDK of Azure IoT (azure-iot-device).

It takes orders as lines of JSON on its standard input and tells what happens as lines of JSON on its standard output,
one for each thing: `connection`, `sent`, `twin`, `reported`, `desired`, `method`, `message`, `failed`. It knows nothing of
who is at the other end.

What it is comes as one JSON argument:
  connection   connection string of a device, or absent
  module       connection string of a module, or absent (goes into EdgeHubConnectionString, as in a container)
  x509         {"certificate", "key", "device", "host", "gateway"} instead of a connection string
  authority    file with the certificate of the gateway's authority
  websockets   true for MQTT over WebSocket
  ttl_s        life of a token in seconds
"""

import json
import os
import sys
import threading
import traceback

from azure.iot.device import IoTHubDeviceClient, IoTHubModuleClient, Message, MethodResponse, X509

lock = threading.Lock()


def tell(kind, **what):
    with lock:
        print(json.dumps({"kind": kind, **what}), flush=True)


def make(what):
    common = {
        "websockets": what.get("websockets", False),
        "connection_retry_interval": 1,
        "keep_alive": what.get("keep_alive_s", 60),
    }
    if "module" in what:
        os.environ["EdgeHubConnectionString"] = what["module"]
        os.environ["EdgeModuleCACertificateFile"] = what["authority"]
        return IoTHubModuleClient.create_from_edge_environment(**common)
    with open(what["authority"]) as file:
        common["server_verification_cert"] = file.read()
    if "x509" in what:
        own = what["x509"]
        return IoTHubDeviceClient.create_from_x509_certificate(
            x509=X509(cert_file=own["certificate"], key_file=own["key"]),
            hostname=own["host"],
            device_id=own["device"],
            gateway_hostname=own["gateway"],
            **common,
        )
    return IoTHubDeviceClient.create_from_connection_string(
        what["connection"], sastoken_ttl=what.get("ttl_s", 3600), **common
    )


def tell_message(message):
    tell(
        "message",
        body=message.data.decode(),
        properties=message.custom_properties,
        input=message.input_name,
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        content_type=message.content_type,
        ack=message.ack,
    )


def listen(client):
    def on_method(request):
        tell("method", name=request.name, payload=request.payload)
        status = 500 if request.name == "fail" else 200
        answer = MethodResponse.create_from_method_request(request, status, {"you said": request.payload})
        client.send_method_response(answer)

    client.on_method_request_received = on_method
    client.on_twin_desired_properties_patch_received = lambda patch: tell("desired", patch=patch)
    client.on_message_received = tell_message


def send(client, order):
    message = Message(order["body"])
    message.custom_properties.update(order.get("properties", {}))
    for name in ("message_id", "correlation_id", "content_type", "content_encoding"):
        if name in order:
            setattr(message, name, order[name])
    if "output" in order:
        client.send_message_to_output(message, order["output"])
    else:
        client.send_message(message)
    tell("sent", body=order["body"])


def obey(client, order):
    what = order["do"]
    if what == "connect":
        client.connect()
    elif what == "listen":
        listen(client)
        tell("listening")
    elif what == "send":
        send(client, order)
    elif what == "twin":
        tell("twin", twin=client.get_twin())
    elif what == "report":
        client.patch_twin_reported_properties(order["patch"])
        tell("reported", patch=order["patch"])
    elif what == "leave":
        client.disconnect()
        tell("left")
    else:
        raise ValueError(what)


def main():
    client = make(json.loads(sys.argv[1]))
    client.on_connection_state_change = lambda: tell("connection", connected=client.connected)
    client.on_background_exception = lambda error: tell("background", error=repr(error))
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "end":
            break
        try:
            obey(client, order)
        except Exception as error:  # The test judges it.
            traceback.print_exc()
            tell("failed", order=order["do"], error=type(error).__name__, text=str(error))
    client.shutdown()
    tell("ended")


main()
