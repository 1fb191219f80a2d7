//! A component of another world: it exports what this host does not call.

wit_bindgen::generate!({
    inline: "
        package stranger:things@1.2.3;
        world other {
            export spell: func() -> u32;
        }
    ",
    world: "other",
});

struct Magic;

impl Guest for Magic {
    fn spell() -> u32 {
        7
    }
}

export!(Magic);
