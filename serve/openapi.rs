//! `GET /openapi.json`: what can be asked of this server, for programs.

use std::sync::Arc;

use axum::extract::State;
use axum::{Router, routing::get};
use serde_json::{Value, json};

use crate::app::App;
use crate::body::Json;

/// The description, without what depends on how the server was started.
const DOCUMENT: &str = include_str!("openapi.json");

pub(crate) fn routes() -> Router<Arc<App>> {
    Router::new().route("/openapi.json", get(describe))
}

async fn describe(State(app): State<Arc<App>>) -> Json<Value> {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let schemas = &mut document["components"]["schemas"];
    schemas["Depth"]["properties"]["steps"]["maximum"] = json!(app.max_steps());
    if app.options.api_keys.is_empty() {
        document["security"] = json!([]);
    }
    Json(document)
}
