// A client of MQTT.js with a session that is not clean, through every broken connection, with QoS 2.
//
//     session.js PORT VERSION publish CLIENT TOPIC COUNT FILE    publishes 1 to COUNT; FILE gets each number that is acknowledged
//     session.js PORT VERSION receive CLIENT FILTER COUNT FILE   subscribes; FILE gets topic and number of each message, until
//                                                                COUNT different ones have come
"use strict";

const fs = require("node:fs");
const mqtt = require("mqtt");

const [port, version, role, clientId, topic, count, path] = process.argv.slice(2);
const WINDOW = 50;
const out = fs.openSync(path, "w");
const note = (line) => fs.writeSync(out, `${line}\n`);

const client = mqtt.connect(`mqtt://127.0.0.1:${port}`, {
    protocolVersion: version === "5" ? 5 : 4,
    clientId,
    clean: false,
    properties: version === "5" ? { sessionExpiryInterval: 3600 } : undefined,
    username: process.env.HOLDFAST_E2E_USER,
    password: process.env.HOLDFAST_E2E_PASSWORD,
    reconnectPeriod: 50,
});
// A broken connection is an event of its own; what breaks it is said here and nothing else.
client.setMaxListeners(0);
client.on("error", (error) => console.log(`error: ${error.message}`));
client.on("connect", (connack) => console.log(`connected, session present: ${connack.sessionPresent}`));

if (role === "publish") {
    let following = 1;
    let open = 0;
    let done = 0;
    const send = (number) => client.publish(topic, `${number} ${"x".repeat(100)}`, { qos: 2 }, (error) => {
        if (error?.message === "Connection closed") {
            // The library was still sending again what it had begun: it gives back what came behind that, and has sent none of it.
            client.once("connect", () => send(number));
            return;
        }
        // PUBREL was sent again, and the identifier was free already: during recovery that is no error (MQTT 5, 3.7.2.1).
        if (error && error.code !== 0x92) throw error;
        note(number);
        open -= 1;
        done += 1;
        if (done === Number(count)) client.end();
        else more();
    });
    const more = () => {
        while (following <= Number(count) && open < WINDOW) {
            open += 1;
            send(following++);
        }
    };
    client.once("connect", more);
} else {
    const seen = new Set();
    client.on("message", (name, payload) => {
        const number = payload.toString().split(" ")[0];
        note(`${name} ${number}`);
        seen.add(number);
        // What would come twice comes now. Ended in the middle of an exchange, the library throws.
        if (seen.size === Number(count)) setTimeout(() => process.exit(0), 500);
    });
    client.once("connect", () => client.subscribe(topic, { qos: 2 }, (error, granted) => {
        if (error || granted[0].qos !== 2) throw error ?? new Error(JSON.stringify(granted));
        console.log("subscribed");
    }));
}
