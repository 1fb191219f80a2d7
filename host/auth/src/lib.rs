//! Who is it, and may it? Deny by default.
