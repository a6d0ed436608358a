//! `ruminate pull` against a hub in this process, and models by name in the cache: what is downloaded, what is not, and what happens when
//! something goes wrong.

mod bed;
mod broken;
mod headers;
mod mirrors;
mod refused;
mod server;
mod whole;
