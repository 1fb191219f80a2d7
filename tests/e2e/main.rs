//! The whole binary against software that nobody here wrote.
