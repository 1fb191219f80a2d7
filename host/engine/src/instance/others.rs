//! Instances that do not handle messages: programs with a main function, and answers to HTTP requests.

use super::{Late, Parts, Purpose, cause, store, within};
use crate::load::Serves;
use crate::runtime::{Busy, Runtime};
use crate::status::now;
use hyper::{Request, Response};
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, Instant as Moment};
use tokio::sync::oneshot;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{WasiBody, WasiHttpView};

/// A program may run for ever; what it computes is slowed to its share.
const FOR_EVER: Duration = Duration::MAX;

/// Deadlines are watched while a call computes, and not while it waits: a program that sleeps lets the host sleep.
async fn awake<T>(runtime: &Runtime, call: impl Future<Output = T>) -> T {
    let mut call = pin!(call);
    poll_fn(|context| {
        let _busy: Busy = runtime.busy();
        call.as_mut().poll(context)
    })
    .await
}

/// Runs the main function to its end. Dropping this ends it.
pub(crate) async fn run_program(parts: Parts<'_>) -> Result<(), String> {
    let Parts { version, surroundings } = parts;
    let started = now();
    let limit = Duration::from_millis(version.settings.limits.start_ms.into());
    let mut store = store(parts, limit, Purpose::Program)?;
    let (waiting, meter) = (store.data().calling.waiting.clone(), store.data().meter.clone());
    let Serves::Program(indices) = &version.code.serves else {
        return Err("it has no main function".to_owned());
    };
    let instantiated = within(limit, &waiting, &meter, version.code.pre.instantiate_async(&mut store));
    let command = match awake(&surroundings.runtime, instantiated).await {
        Err(late) => return Err(late.text("instantiation", "limits.start_ms", limit)),
        Ok(Err(error)) => {
            return Err(cause(&mut store, &error, "instantiation", "limits.start_ms", limit, started));
        }
        Ok(Ok(instance)) => indices.load(&mut store, &instance).map_err(|error| format!("{error:#}"))?,
    };
    store.data_mut().deadline.set_limit(FOR_EVER);
    store.data_mut().deadline.renew();
    store.set_epoch_deadline(1);
    let ended = {
        let run = pin!(command.wasi_cli_run().call_run(&mut store));
        awake(&surroundings.runtime, super::metered(run, &meter)).await
    };
    meter.paused(Moment::now());
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(())) => {
            let words = store.data().log.book().last_words(started);
            let words = words.map_or_else(String::new, |words| format!("; its last words: {words}"));
            Err(format!("its main function has ended with a failure{words}"))
        }
        Err(error) if error.downcast_ref::<I32Exit>().is_some_and(|exit| exit.0 == 0) => Ok(()),
        Err(error) => Err(cause(&mut store, &error, "main", "limits.call_ms", limit, started)),
    }
}

/// Where the head of an answer goes.
pub(crate) type Answer = oneshot::Sender<Result<Response<HyperOutgoingBody>, ErrorCode>>;

/// Answers a request with an instance of its own. Ends when the body of the answer has been made.
pub(crate) async fn answer_request(
    parts: Parts<'_>,
    request: Request<WasiBody>,
    answer: Answer,
) -> Result<(), String> {
    let Parts { version, surroundings } = parts;
    let started = now();
    let limit = Duration::from_millis(version.settings.limits.http_ms.into());
    let mut store = store(parts, limit, Purpose::Request)?;
    let (waiting, meter) = (store.data().calling.waiting.clone(), store.data().meter.clone());
    let requests = version.code.serves.requests().ok_or("it answers no requests")?;
    meter.resumed(Moment::now());
    let call = async {
        let instance = version.code.pre.instantiate_async(&mut store).await?;
        let proxy = requests.load(&mut store, &instance)?;
        let request = store.data_mut().http().new_incoming_request(Scheme::Http, request)?;
        let answer = store.data_mut().http().new_response_outparam(answer)?;
        proxy.wasi_http_incoming_handler().call_handle(&mut store, request, answer).await
    };
    let ended = awake(&surroundings.runtime, within(limit, &waiting, &meter, call)).await;
    meter.paused(Moment::now());
    match ended {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(cause(&mut store, &error, "handle", "limits.http_ms", limit, started)),
        Err(late @ Late) => Err(late.text("handle", "limits.http_ms", limit)),
    }
}
