//! The control socket: shows and asks, decides nothing.
