//! Where a message enters, is decided, recorded and handed on.
