//! `GET /metrics`: metrics for Prometheus, in the OpenMetrics text format.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use ruminate::{Batch, Device, Totals};

use crate::app::App;
use crate::error::ApiError;

/// Labels of the request counter.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Answered {
    /// Route of the endpoint.
    pub(crate) endpoint: String,
    /// Status of the answer.
    pub(crate) status: u16,
}

/// Labels of the step counter.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Steps {
    kind: &'static str,
}

/// All metrics.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) answered: Family<Answered, Counter>,
    pub(crate) connections: Gauge,
    pub(crate) cancelled: Counter,
    pub(crate) cut_off: Counter,
    pub(crate) refused: Counter,
    pub(crate) request_time: Histogram,
    pub(crate) first_token: Histogram,
    pub(crate) between_tokens: Histogram,
    totals: Mirror,
}

/// Totals of the batch, as of the last pass.
struct Mirror {
    waiting: Gauge,
    running: Gauge,
    sequences: Counter,
    prompt_tokens: Counter,
    cached_tokens: Counter,
    prefix_hits: Counter,
    tokens: Counter,
    steps: Family<Steps, Counter>,
    passes: Counter,
    rows: Counter,
    capacity: Counter,
    preempted: Counter,
    kv_bytes: Gauge<u64, AtomicU64>,
    prefix_bytes: Gauge<u64, AtomicU64>,
    device_bytes: Gauge<u64, AtomicU64>,
    device_available: Gauge<u64, AtomicU64>,
}

/// Sets a counter to a value that is counted elsewhere.
fn raise(counter: &Counter, value: u64) {
    counter.inner().store(value, Ordering::Relaxed);
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("ruminate");
        let histogram = |from: f64, count: u16| Histogram::new(exponential_buckets(from, 2.0, count));
        let made = Self {
            answered: Family::default(),
            connections: Gauge::default(),
            cancelled: Counter::default(),
            cut_off: Counter::default(),
            refused: Counter::default(),
            request_time: histogram(0.001, 20),
            first_token: histogram(0.001, 18),
            between_tokens: histogram(0.000_25, 18),
            totals: Mirror {
                waiting: Gauge::default(),
                running: Gauge::default(),
                sequences: Counter::default(),
                prompt_tokens: Counter::default(),
                cached_tokens: Counter::default(),
                prefix_hits: Counter::default(),
                tokens: Counter::default(),
                steps: Family::default(),
                passes: Counter::default(),
                rows: Counter::default(),
                capacity: Counter::default(),
                preempted: Counter::default(),
                kv_bytes: Gauge::default(),
                prefix_bytes: Gauge::default(),
                device_bytes: Gauge::default(),
                device_available: Gauge::default(),
            },
            registry: Registry::default(),
        };
        let all = &made.totals;
        registry.register("requests", "Requests answered, by endpoint and status", made.answered.clone());
        registry.register("connections", "Open connections", made.connections.clone());
        registry.register("cancelled", "Sequences cancelled because their client disconnected", made.cancelled.clone());
        registry.register("cut_off", "Clients disconnected because they did not read", made.cut_off.clone());
        registry.register("refused", "Requests refused because the queue was full", made.refused.clone());
        let unit = Unit::Seconds;
        registry.register_with_unit("request", "Time from a request to its answer", unit, made.request_time.clone());
        let help = "Time from a request to the first token of a sequence";
        registry.register_with_unit("time_to_first_token", help, Unit::Seconds, made.first_token.clone());
        let help = "Time between two tokens of a sequence";
        registry.register_with_unit("time_between_tokens", help, Unit::Seconds, made.between_tokens.clone());
        registry.register("sequences_waiting", "Sequences in the queue", all.waiting.clone());
        registry.register("sequences_running", "Sequences being computed", all.running.clone());
        registry.register("sequences", "Sequences started", all.sequences.clone());
        registry.register("prompt_tokens", "Tokens of prompts", all.prompt_tokens.clone());
        registry.register("cached_tokens", "Tokens of prompts found in the prefix cache", all.cached_tokens.clone());
        registry.register("prefix_hits", "Sequences started with pages of the prefix cache", all.prefix_hits.clone());
        registry.register("tokens", "Tokens generated", all.tokens.clone());
        registry.register("steps", "Steps of generated tokens: taken, and saved by early exits", all.steps.clone());
        registry.register("passes", "Passes over the weights of the core block", all.passes.clone());
        registry.register(
            "pass_rows",
            "Active rows, summed over passes; divided by passes: rows per pass",
            all.rows.clone(),
        );
        registry.register("pass_capacity", "Row capacity, summed over passes", all.capacity.clone());
        registry.register("preempted", "Preemptions of a sequence for lack of memory", all.preempted.clone());
        registry.register_with_unit("kv_cache", "Keys and values on the device", Unit::Bytes, all.kv_bytes.clone());
        let help = "Keys and values held by the prefix cache";
        registry.register_with_unit("prefix_cache", help, Unit::Bytes, all.prefix_bytes.clone());
        let help = "Device memory held by this process";
        registry.register_with_unit("device_memory", help, Unit::Bytes, all.device_bytes.clone());
        let help = "Free device memory, if the device reports it";
        registry.register_with_unit("device_memory_available", help, Unit::Bytes, all.device_available.clone());
        Self { registry, ..made }
    }

    /// Copies the totals of the batch.
    pub(crate) fn note(&self, batch: &Batch, device: &Device) {
        let totals = batch.totals();
        let Totals { waiting, running, sequences, passes, rows, capacity, preempted, .. } = totals;
        let Totals { prompt_tokens, cached_tokens, prefix_hits, tokens, steps, most_steps, .. } = totals;
        let Totals { kv_bytes, prefix_bytes, .. } = totals;
        let all = &self.totals;
        all.waiting.set(waiting.into());
        all.running.set(running.into());
        let counters = [
            (&all.sequences, sequences),
            (&all.prompt_tokens, prompt_tokens),
            (&all.cached_tokens, cached_tokens),
            (&all.prefix_hits, prefix_hits),
            (&all.tokens, tokens),
            (&all.passes, passes),
            (&all.rows, rows),
            (&all.capacity, capacity),
            (&all.preempted, preempted),
        ];
        counters.into_iter().for_each(|(counter, value)| raise(counter, value));
        raise(&all.steps.get_or_create(&Steps { kind: "taken" }), steps);
        raise(&all.steps.get_or_create(&Steps { kind: "saved" }), most_steps.saturating_sub(steps));
        all.kv_bytes.set(kv_bytes);
        all.prefix_bytes.set(prefix_bytes);
        all.device_bytes.set(device.counters().live_bytes);
    }
}

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/metrics", get(metrics))
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    if let Some(loaded) = app.loaded() {
        let available = loaded.model.device().memory().available;
        app.metrics.totals.device_available.set(available.unwrap_or(0));
    }
    let mut text = String::new();
    match encode(&mut text, &app.metrics.registry) {
        Ok(()) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(error) => ApiError::status(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
