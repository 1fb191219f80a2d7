//! Every bound of the gateway, with its reason.

use std::time::Duration;

/// Messages that each client may have awaited whatever the others have.
pub const FAIR_SHARE: usize = 16;

/// Bounds of the gateway. What happens at each is said beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once that have proved who they are, over all listeners. One more is refused with "server
    /// unavailable".
    pub connections_max: usize,
    /// Connections at once that have not proved it yet. One more waits, until one of them has, or the one that waited longest
    /// had two seconds for it and is closed: strangers who say nothing keep nobody out.
    pub ungreeted_max: usize,
    /// Those of them that come from one address (of IPv6: from one network of 64 bits). One more waits for one of the same
    /// address, so that one machine cannot push the others out.
    pub ungreeted_per_address_max: usize,
    /// Connections that wait so. One more takes the oldest place of the address of which most wait; where that has none, it closes
    /// who of them has waited longest.
    pub ungreeted_waiting_max: usize,
    /// Longest time to wait so, and longest time from the first byte to an answered CONNECT, proof included. Then the
    /// connection is closed.
    pub connect_time_max: Duration,
    /// Largest first packet in bytes: what a stranger can make the gateway hold. A larger CONNECT is refused.
    pub connect_bytes_max: usize,
    /// Passwords that are checked at once, one of each address. A check takes megabytes and tens of milliseconds on purpose;
    /// others wait.
    pub password_checks_max: usize,
    /// Largest packet in bytes. A larger one ends the connection with reason 0x95.
    pub packet_bytes_max: usize,
    /// Messages of one client whose record is awaited. At this bound the client is not read from; a client of version 5
    /// is told it as receive maximum.
    pub unacked_max: u16,
    /// Bytes of those messages. At this bound the client is not read from.
    pub unacked_bytes_max: usize,
    /// Messages of all clients whose record is awaited. At this bound, clients with [`FAIR_SHARE`] or more of them are
    /// not read from. It keeps the store's queue of commits from filling, which would hold the threads that serve all.
    pub awaited_max: usize,
    /// Messages of QoS 1 and 2 sent to one client and not acknowledged by it. Others wait in its queue.
    pub window_max: u16,
    /// Messages that wait for one client, or for its return. Over it, messages of QoS 0 are dropped and counted, and a
    /// client with subscriptions of QoS 1 or 2 is cut off with reason 0x97. The bound in
    /// bytes is beside it.
    pub queue_messages_max: usize,
    /// Bytes of messages that one client holds: those that wait for it or for its return, and those that were sent to it
    /// and that it has not acknowledged. One larger message is held alone. Over it, as above.
    pub queue_bytes_max: usize,
    /// Bytes of messages that all clients hold. A message counts whole for each client that it waits for: one that does
    /// not read is enough to keep it. A client holds no more than what is still free, so that clients that do not read
    /// leave room for those that do.
    pub queues_bytes_max: usize,
    /// Bytes ready to be written to one client. At this bound nothing more is taken from its queue or read from it.
    pub write_buffer_bytes_max: usize,
    /// Longest time in which a client takes no byte of what is written to it. Then it is cut off.
    pub write_stall_max: Duration,
    /// Subscriptions of one session. One more is refused with reason 0x97.
    pub subscriptions_max: usize,
    /// Messages that one client may send each second; none is no bound. At the bound the client is not read from.
    pub messages_per_second_max: Option<u32>,
    /// Bytes that one client may send each second; none is no bound. As above. One packet may be larger; then the client
    /// waits for as long as it is worth.
    pub bytes_per_second_max: Option<u64>,
    /// Topic aliases that a client of version 5 may use; each keeps one topic in memory.
    pub topic_aliases_max: u16,
    /// Topic aliases that are used towards a client of version 5, if it takes as many; each keeps one topic in memory.
    pub client_aliases_max: u16,
    /// Longest keep alive in seconds; none is no bound. A client of version 5 that asks for a longer one, or for none, is told
    /// to use this one; others keep theirs.
    pub keep_alive_max_s: Option<u16>,
    /// Sessions at once, with and without a connection. A new client is refused with "server unavailable".
    pub sessions_max: usize,
    /// Longest life of a session without a connection. A client of version 5 is told so.
    pub session_expiry_max: Duration,
    /// Retained messages. One more is handed on but not kept.
    pub retained_messages_max: usize,
    /// Bytes of retained messages. Beyond, as above.
    pub retained_bytes_max: usize,
    /// Longest time that a closing connection waits for the records of messages it has taken.
    pub settle_time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1000,
            // A burst of clients that come back at once, each a socket and some 40 KiB while it shakes hands.
            ungreeted_max: 256,
            // Half, since a whole plant may come from behind one address.
            ungreeted_per_address_max: 128,
            // With those who are served, a plant that comes back as a whole. Each is a socket and a kibibyte or two.
            ungreeted_waiting_max: 256,
            connect_time_max: Duration::from_secs(10),
            connect_bytes_max: 16 << 10,
            password_checks_max: 1,
            // IoT Hub takes 256 KiB with properties; the rest is for the topic.
            packet_bytes_max: 320 << 10,
            // Enough to fill a group of the store's committer.
            unacked_max: 1000,
            unacked_bytes_max: 4 << 20,
            // Two groups of the store's committer: one on its way to the disk, one that gathers.
            awaited_max: 2048,
            window_max: 100,
            queue_messages_max: 10_000,
            // A burst of one sender, as `unacked_bytes_max` lets it come; most of 10,000 messages of telemetry.
            queue_bytes_max: 4 << 20,
            // An eighth of the memory of a small edge of 256 MiB.
            queues_bytes_max: 32 << 20,
            write_buffer_bytes_max: 256 << 10,
            write_stall_max: Duration::from_secs(30),
            subscriptions_max: 500,
            messages_per_second_max: None,
            bytes_per_second_max: None,
            topic_aliases_max: 16,
            client_aliases_max: 16,
            keep_alive_max_s: None,
            sessions_max: 10_000,
            session_expiry_max: Duration::from_secs(24 * 3600),
            retained_messages_max: 1000,
            retained_bytes_max: 4 << 20,
            settle_time_max: Duration::from_secs(2),
        }
    }
}
