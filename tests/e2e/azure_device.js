// A device that is made with the unmodified SDK of Azure IoT for Node.js (azure-iot-device). It takes the orders that
// host/gateway/tests/azure_device.py takes, and tells the same.

"use strict";

const fs = require("fs");
const readline = require("readline");
const { Client, Message } = require("azure-iot-device");
const { Mqtt, MqttWs } = require("azure-iot-device-mqtt");

const what = JSON.parse(process.argv[2]);
const tell = (kind, told = {}) => console.log(JSON.stringify({ kind, ...told }));

const own = what.x509;
// With a certificate this SDK knows no gateway, so the edge is its host.
const connection = own
    ? `HostName=${own.gateway};DeviceId=${own.device};x509=true`
    : what.connection;
const client = Client.fromConnectionString(connection, what.websockets ? MqttWs : Mqtt);
let twin;

async function connect() {
    const options = { ca: fs.readFileSync(what.authority, "utf8") };
    if (own) {
        options.cert = fs.readFileSync(own.certificate, "utf8");
        options.key = fs.readFileSync(own.key, "utf8");
    }
    await client.setOptions(options);
    client.on("disconnect", () => tell("connection", { connected: false }));
    await client.open();
    tell("connection", { connected: true });
}

async function listen() {
    client.onDeviceMethod("reboot", (request, response) => {
        tell("method", { name: request.methodName, payload: request.payload });
        response.send(200, { "you said": request.payload }, (error) => {
            if (error) tell("failed", { order: "method", error: error.name, text: String(error) });
        });
    });
    client.on("message", (message) => {
        const properties = {};
        for (const { key, value } of message.properties.propertyList) properties[key] = value;
        client.complete(message, () => {
            const body = message.data.toString();
            tell("message", { body, properties, message_id: message.messageId });
        });
    });
    twin = await client.getTwin();
    // The SDK tells what it has got already too, each time that it gets it.
    let known = twin.properties.desired.$version;
    twin.on("properties.desired", (patch) => {
        if (patch.$version <= known) return;
        known = patch.$version;
        tell("desired", { patch });
    });
    tell("listening");
}

async function send(order) {
    const message = new Message(order.body);
    for (const [key, value] of Object.entries(order.properties || {})) message.properties.add(key, value);
    if (order.content_type) message.contentType = order.content_type;
    if (order.content_encoding) message.contentEncoding = order.content_encoding;
    await client.sendEvent(message);
    tell("sent", { body: order.body });
}

function plain(properties) {
    return JSON.parse(JSON.stringify(properties));
}

async function obey(order) {
    switch (order.do) {
        case "connect": return connect();
        case "listen": return listen();
        case "send": return send(order);
        case "twin": {
            await twin.get();
            const { desired, reported } = twin.properties;
            return tell("twin", { twin: { desired: plain(desired), reported: plain(reported) } });
        }
        case "report":
            await new Promise((done, fail) => {
                twin.properties.reported.update(order.patch, (error) => (error ? fail(error) : done()));
            });
            return tell("reported", { patch: order.patch });
        case "leave":
            await client.close();
            return tell("left");
        default: throw new Error(order.do);
    }
}

(async () => {
    for await (const line of readline.createInterface({ input: process.stdin })) {
        const order = JSON.parse(line);
        try {
            await obey(order);
        } catch (error) {
            tell("failed", { order: order.do, error: error.name, text: String(error) });
        }
    }
    process.exit(0);
})();
