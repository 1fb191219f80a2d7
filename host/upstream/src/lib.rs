//! Read by cursor, send, wait for the acknowledgement, move the cursor.
