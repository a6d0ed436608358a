//! A server whose device hangs ends like one whose device is lost.

use std::time::Duration;

use ruminate::{Device, Error, engine};
use ruminate_serve::Failure;
use ruminate_tests::{device, trial};
use serde_json::json;

use crate::http::{LONG, Running, batch, options};

/// Shorter than any work.
const LIMIT: Duration = Duration::from_micros(50);

/// Lavapipe without threads computes in the call that submits, so no host ever waits for it.
fn computes_while_submitting() -> Option<String> {
    let name = device().map(|device| device.name().to_owned()).unwrap_or_default();
    let alone = std::env::var("LP_NUM_THREADS").is_ok_and(|threads| threads == "0");
    (alone && name.contains("llvmpipe")).then(|| "the driver computes in the call that submits".to_owned())
}

#[trial(device, needs(computes_while_submitting))]
fn device_that_hangs_fails_requests_and_ends_the_server(device: &Device) {
    let server = Running::on(device, options(), batch());
    let client = server.client.clone();
    client.complete("a", &json!({ "max_tokens": 1 })).good();
    device.set_timeout(Some(LIMIT));
    let (message, _, code) = client.complete(LONG, &json!({ "max_tokens": 50, "steps": 32 })).refused(503);
    assert_eq!(code, "device_failed");
    assert!(message.contains("the device did not answer for 50µs"), "{message}");
    let health = client.get("/health");
    assert_eq!((health.status, health.json()), (503, json!({ "status": "device failed" })));
    let outcome = server.outcome();
    let hung = matches!(outcome, Err(Failure::Device(Error::Engine(engine::Error::Timeout { limit: LIMIT }))));
    assert!(hung, "{outcome:?}");
}

/// The server's heartbeat read exceeds the limit.
#[trial(device, full)]
fn idle_server_notices_a_device_that_hangs(device: &Device) {
    let server = Running::on(device, options(), batch());
    device.set_timeout(Some(LIMIT));
    let outcome = server.outcome();
    assert!(matches!(outcome, Err(Failure::Device(_))), "{outcome:?}");
}
