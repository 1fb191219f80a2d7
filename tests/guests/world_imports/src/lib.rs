//! A module that imports what this host does not offer.

wit_bindgen::generate!({
    inline: "
        package stranger:things@1.2.3;
        interface magic {
            wave: func();
        }
        world other {
            import magic;
        }
    ",
    world: "other",
});

use guest::{Failure, Handler, Message};

struct Guest;

impl Handler for Guest {
    fn start() -> Result<(), String> {
        stranger::things::magic::wave();
        Ok(())
    }

    fn handle(_: String, _: Message) -> Result<(), Failure> {
        Ok(())
    }

    fn stop() {}
}

guest::module!(Guest);
