// MQTT.js at an edge's gateway.
//
//     websocket.js URL VERSION [AUTHORITY]
//
// Publishes 100 messages with QoS 1 and one large one, and gets them back in order.
const fs = require('node:fs')
const mqtt = require('mqtt')

const [url, version, authority] = process.argv.slice(2)
const bodies = Array.from({ length: 100 }, (_, n) => `${version} ${n}`).concat('w'.repeat(50_000))
const seen = []
const client = mqtt.connect(url, {
  protocolVersion: Number(version),
  username: process.env.HOLDFAST_E2E_USER,
  password: process.env.HOLDFAST_E2E_PASSWORD,
  ca: authority && fs.readFileSync(authority),
  reconnectPeriod: 0,
})
setTimeout(() => { console.error(`only ${seen.length} messages came`); process.exit(1) }, 30_000).unref()
client.on('error', error => { console.error(error); process.exit(1) })
client.on('connect', () => client.subscribe('plant/#', { qos: 1 }, error => {
  if (error) throw error
  for (const body of bodies) client.publish('plant/js', body, { qos: 1 })
}))
client.on('message', (_, payload) => {
  seen.push(payload.toString())
  if (seen.length < bodies.length) return
  if (seen.some((body, n) => body !== bodies[n])) throw new Error('out of order')
  console.log(`${seen.length} messages in order`)
  client.end()
})
