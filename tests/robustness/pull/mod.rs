//! `ruminate pull` against a hub in this process, and models by name in the cache.

mod bed;
mod broken;
mod headers;
mod mirrors;
mod refused;
mod server;
mod whole;
