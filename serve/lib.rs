//! An OpenAI-compatible server in which every request chooses its depth.
//!
//! One thread, the engine, owns a [`Batch`](ruminate::Batch) of sequences; the rest is asynchronous and communicates with it over channels. A request
//! becomes one sequence per choice. If the client disconnects, its sequences are cancelled, which frees their rows within a pass.
//!
//! | module | contents |
//! |---|---|
//! | `server` | socket, connections, time limits, draining |
//! | `engine` | thread that owns the batch |
//! | `gate` | checks before every endpoint: request id, host, origin, key, phase |
//! | `body`, `fields` | JSON bodies, and fields of other servers |
//! | `structured`, `generation`, `depth`, `sampling` | fields of a request as [`GenerateOptions`](ruminate::GenerateOptions), and the events of its sequences |
//! | `completions`, `chat`, `tokens`, `models`, `health`, `metrics`, `openapi`, `page` | one endpoint family each |
//!
//! ```no_run
//! use ruminate::{BatchOptions, Device, LoadOptions, Model};
//! use ruminate_serve::{Options, Ready, Server};
//!
//! let server = Server::bind(Options::default())?;
//! println!("http://{}", server.address());
//! let handle = server.handle(); // handle.drain(), from a signal
//! server.run(|| -> Result<Ready, ruminate::Error> {
//!     let model = Model::demo(&Device::cpu(), LoadOptions::default())?;
//!     Ok(Ready { model, name: "demo".to_owned(), batch: BatchOptions::default() })
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod app;
mod body;
mod chat;
mod completions;
mod depth;
mod engine;
mod error;
mod fields;
mod gate;
mod generation;
mod health;
mod logprobs;
mod messages;
mod metrics;
mod models;
mod openapi;
mod options;
mod page;
mod remainder;
mod sampling;
mod server;
mod stream;
mod structured;
mod tokens;
mod usage;

pub use options::{InvalidOption, Options};
pub use server::{Failure, Handle, Ready, Server};
