//! `GET /health`: readiness of the server.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Router, routing::get};
use serde_json::json;

use crate::app::{App, Phase};
use crate::body::Json;

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/health", get(health))
}

/// Returns 200 while requests are served; 503 while the model is loading, while the server is draining, and after the device has failed.
async fn health(State(app): State<Arc<App>>) -> Response {
    let phase = app.phase();
    let status = match phase {
        Phase::Loading => "loading",
        Phase::Ready => "ok",
        Phase::Draining => "draining",
        Phase::Lost => "device failed",
    };
    let code = if phase == Phase::Ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "status": status }))).into_response()
}
