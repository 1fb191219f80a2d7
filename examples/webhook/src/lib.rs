//! Posts each message to an HTTP address, and sends what is answered.
//!
//! A request is not undone when the call fails, and its message comes again; so what is posted has the message's id, by which
//! the other side can know it.

use holdfast_sdk::{Error, Failure, Message, Module, Outgoing, Ports, config, http, log, metrics, outbox};
use serde::Deserialize;
use std::time::Duration;

const OUTPUT: &str = "answers";

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    /// Where to.
    url: String,
    /// How long the other side may take.
    #[serde(with = "config::duration")]
    time: Duration,
    /// The header of that name. Empty: none.
    authorization: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self { url: String::new(), time: http::TIME, authorization: String::new() }
    }
}

struct Webhook {
    settings: Settings,
}

impl Webhook {
    fn request(&self, message: &Message) -> http::Request {
        let mut request = http::Request::post(&self.settings.url).time(self.settings.time);
        let kind = message.system.content_type.as_deref().unwrap_or("application/octet-stream");
        request = request.header("content-type", kind).body(message.body.clone());
        if let Some(id) = &message.system.message_id {
            request = request.header("idempotency-key", id.as_str());
        }
        if !self.settings.authorization.is_empty() {
            request = request.header("authorization", self.settings.authorization.as_str());
        }
        request
    }
}

impl Module for Webhook {
    const OUTPUTS: Ports = &[OUTPUT];

    fn start() -> Result<Self, Error> {
        let settings: Settings = config::parse()?;
        if settings.url.is_empty() {
            return Err(Error::new(
                "configuration key \"url\": say where to post, for example \"https://api.example/alerts\"",
            ));
        }
        log::info!("posts to {}", settings.url.split('?').next().unwrap_or_default());
        Ok(Self { settings })
    }

    fn handle(&mut self, _input: &str, message: Message) -> Result<(), Failure> {
        // `?` after `send` and `success` says whether to try again: when nobody is there, and not when a message is refused.
        let answer = self.request(&message).send()?.success()?;
        metrics::count("posted", 1)?;
        if answer.body.is_empty() {
            return Ok(());
        }
        let kind = answer.headers.get("content-type").unwrap_or("application/octet-stream").to_owned();
        let mut sent = Outgoing::bytes(answer.body).content_type(kind);
        sent.system.correlation_id = message.system.message_id;
        Ok(outbox::send(OUTPUT, sent)?)
    }
}

holdfast_sdk::module!(Webhook);

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_sdk::{
        http::{HttpError, Response},
        testing::{Harness, Measured},
    };

    const URL: &str = "https://api.example/alerts?token=7";

    fn harness() -> Harness {
        Harness::new().config("url", URL)
    }

    #[test]
    fn a_message_is_posted_with_its_id_and_the_answer_is_sent_with_it() {
        let harness = harness().config("authorization", "Bearer 7").config("time", "2s");
        let harness = harness.respond("POST", URL, Ok(Response::text(201, "taken")));
        let mut module = harness.start::<Webhook>().unwrap();
        module.handle("alerts", Outgoing::json(&[1]).unwrap().message_id("m-1")).unwrap();
        let posted = module.take_requests().remove(0);
        let headers =
            ["content-type", "idempotency-key", "authorization"].map(|name| posted.headers.get(name));
        assert_eq!(headers, [Some("application/json"), Some("m-1"), Some("Bearer 7")]);
        assert_eq!((&posted.body[..], posted.time), (&b"[1]"[..], Duration::from_secs(2)));
        let sent = module.take_sent().remove(0);
        assert_eq!((sent.output.as_str(), sent.message.text().unwrap()), (OUTPUT, "taken"));
        assert_eq!(sent.message.system.correlation_id.as_deref(), Some("m-1"));
        assert_eq!(module.metric("posted"), Some(&Measured::Counter(1)));
    }

    #[test]
    fn an_empty_answer_sends_nothing() {
        let mut module = harness().respond("POST", URL, Ok(Response::empty(204))).start::<Webhook>().unwrap();
        module.handle("alerts", Outgoing::bytes(*b"\xff")).unwrap();
        assert_eq!(module.take_sent(), []);
        let posted = module.take_requests().remove(0);
        assert_eq!(posted.headers.get("content-type"), Some("application/octet-stream"));
        assert_eq!(
            (posted.headers.get("idempotency-key"), posted.headers.get("authorization")),
            (None, None)
        );
    }

    #[test]
    fn what_another_try_can_mend_is_tried_again_and_the_rest_given_up() {
        let mut module = harness().start::<Webhook>().unwrap();
        for (answer, again) in [
            (Err(HttpError::NotConnected("nobody".to_owned())), true),
            (Err(HttpError::TooSlow("2s".to_owned())), true),
            (Ok(Response::empty(503)), true),
            (Ok(Response::text(422, "no such plant")), false),
            (Err(HttpError::NotGranted("add".to_owned())), false),
        ] {
            module.respond("POST", URL, answer.clone());
            let failure = module.handle("alerts", Outgoing::text("x")).unwrap_err();
            assert_eq!(matches!(failure, Failure::Retry(_)), again, "{answer:?}: {failure}");
        }
        assert_eq!(module.metric("posted"), None);
    }

    #[test]
    fn without_an_address_it_does_not_start_and_says_what_to_set() {
        let error = Harness::new().start::<Webhook>().err().unwrap();
        assert!(error.as_str().contains("\"url\": say where"), "{error}");
        let logged = harness().start::<Webhook>().unwrap().logs()[0].text.clone();
        assert_eq!(logged, "posts to https://api.example/alerts", "what stands behind ? may be a secret");
    }
}
