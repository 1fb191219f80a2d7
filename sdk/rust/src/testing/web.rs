//! HTTP without a network: what other machines answer to a module under test, and what it answers itself.

use super::{Harness, Running};
use crate::{
    Module,
    http::{Handler, HttpError, Incoming, Request, Response, Target},
    imports,
};
use std::collections::BTreeMap;

/// What a request is answered with.
type Answer = Result<Response, HttpError>;

/// Everything that can be reached.
#[derive(Debug, Default)]
pub struct Web {
    /// By method and URL.
    answers: BTreeMap<(String, String), Answer>,
    requests: Vec<Request>,
}

impl Web {
    pub fn send(&mut self, request: &Request, target: &Target) -> Answer {
        self.requests.push(request.clone());
        let key = (request.method.to_string(), request.url.clone());
        let response = self.answers.get(&key).cloned().unwrap_or_else(|| Err(target.not_granted()))?;
        match response.body.len() > request.body_bytes_max {
            true => Err(target.too_large(request.body_bytes_max)),
            false => Ok(response),
        }
    }

    fn respond(&mut self, method: &str, url: &str, answer: Answer) {
        self.answers.insert((method.to_owned(), url.to_owned()), answer);
    }
}

impl Harness {
    /// Sets what another machine answers to a request for exactly this URL, or how it fails. One that is not set is not granted.
    #[must_use]
    pub fn respond(mut self, method: &str, url: &str, answer: Answer) -> Self {
        self.world.web.respond(method, url, answer);
        self
    }
}

impl<M: Module> Running<M> {
    /// Sets from now on what [`Harness::respond`] sets at first.
    pub fn respond(&mut self, method: &str, url: &str, answer: Answer) {
        self.world.web.respond(method, url, answer);
    }

    /// The requests that the module has made, by calls that failed, too; they are taken away.
    pub fn take_requests(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.world.web.requests)
    }
}

impl<M: Module + Handler> Running<M> {
    /// Asks the module, as somebody does at the host's HTTP port. It sees what calls that succeeded have left, and leaves
    /// nothing itself but lines in its log and metrics.
    pub fn ask(&mut self, request: Incoming) -> Response {
        let mut world = std::mem::take(&mut self.world);
        world.answers_request = true;
        let (response, world) = imports::within(world, || crate::http::answer::<M>(request));
        self.world = world;
        self.world.answers_request = false;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, Failure, Message, Outgoing, outbox, state, twins};

    /// Fetches what the message names, and keeps it.
    struct Fetcher;

    impl Module for Fetcher {
        fn start() -> Result<Self, Error> {
            Ok(Self)
        }

        fn handle(&mut self, _: &str, message: Message) -> Result<(), Failure> {
            let request = Request::get(message.text()?).body_bytes_max(10);
            Ok(state::set("page", &request.send()?.success()?.body)?)
        }
    }

    impl Handler for Fetcher {
        fn answer(request: Incoming) -> Result<Response, Failure> {
            match request.path() {
                "/page" => Ok(Response::bytes(200, state::get("page")?.unwrap_or_default())),
                "/send" => Ok(outbox::send("out", Outgoing::text("x")).map(|()| Response::empty(204))?),
                "/store" => Ok(state::set("page", b"x").map(|()| Response::empty(204))?),
                "/delete" => Ok(state::delete("page").map(|()| Response::empty(204))?),
                "/report" => Ok(twins::report(&serde_json::json!({})).map(|()| Response::empty(204))?),
                _ => Ok(Response::not_found(&request)),
            }
        }
    }

    crate::module!(Fetcher, http, batches);

    const URL: &str = "http://a.example/page";

    #[test]
    fn who_is_not_set_is_not_granted_and_who_fails_is_asked_again() {
        let mut module = Harness::new().start::<Fetcher>().unwrap();
        let refused = module.handle("in", Outgoing::text("https://a.example/x?y")).unwrap_err();
        assert!(
            matches!(&refused, Failure::Reject(why) if why.contains("[grants] hosts = [\"a.example:443\"]")),
            "{refused}"
        );
        module.respond("GET", URL, Err(HttpError::NotConnected("nobody is there".to_owned())));
        assert_eq!(module.handle("in", Outgoing::text(URL)), Err(Failure::retry("nobody is there")));
        module.respond("GET", URL, Ok(Response::empty(404)));
        assert!(matches!(module.handle("in", Outgoing::text(URL)), Err(Failure::Reject(_))));
        module.respond("GET", URL, Ok(Response::text(200, "far too long")));
        let large = module.handle("in", Outgoing::text(URL)).unwrap_err();
        assert!(matches!(&large, Failure::Reject(why) if why.contains("more than 10 bytes")), "{large}");
        module.respond("GET", URL, Ok(Response::text(200, "fine")));
        module.handle("in", Outgoing::text(URL)).unwrap();
        assert_eq!(module.state("page"), Some(&b"fine"[..]));
        assert_eq!(module.take_requests().len(), 5);
        assert!(module.handle("in", Outgoing::text("a.example")).is_err());
        assert_eq!(module.take_requests(), [], "what is no URL is asked for nowhere");
    }

    #[test]
    fn an_answer_sees_what_messages_left_and_leaves_nothing() {
        let mut module = Harness::new().state("page", "old").start::<Fetcher>().unwrap();
        assert_eq!(module.ask(Incoming::get("/page?x")), Response::bytes(200, "old"));
        for (path, status) in
            [("/send", 400), ("/store", 503), ("/delete", 503), ("/report", 503), ("/none", 404)]
        {
            let response = module.ask(Incoming::get(path));
            assert_eq!(response.status, status, "{path}: {response:?}");
        }
        assert_eq!((module.sent(), module.state("page")), (&[][..], Some(&b"old"[..])));
        module.respond("GET", URL, Ok(Response::text(200, "new")));
        module.handle("in", Outgoing::text(URL)).unwrap();
        assert_eq!(module.ask(Incoming::get("/page")).as_text().unwrap(), "new");
    }
}
