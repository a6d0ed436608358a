//! Socket, connections, and the server's life from loading to shutdown.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName};
use axum::http::{HeaderValue, Method};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use ruminate::{Batch, BatchOptions, Error, GenerateOptions, Model, Sampling};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::app::{App, Loaded, Phase};
use crate::engine::{self, Command};
use crate::error::ApiError;
use crate::options::{InvalidOption, Options};
use crate::{chat, completions, gate, health, metrics, models, openapi, page, remainder, tokens};

/// Tokens of a prompt for which kernels are compiled before the first request; longer prompts take passes of this size or larger ones.
const WARM_PROMPT: u32 = 64;

/// Time after a failure in which the server still answers requests with the error.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Model to serve, with its settings.
pub struct Ready {
    /// The model.
    pub model: Model,
    /// Name of the model in requests.
    pub name: String,
    /// Batch options: how sequences share the device.
    pub batch: BatchOptions,
}

/// Error that ended a server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The model could not be loaded.
    #[error("{0}")]
    Load(E),
    /// The network threads could not be started.
    #[error("cannot start the network's threads: {0}")]
    Threads(#[source] std::io::Error),
    /// The device cannot hold the sequences, or a batch option is invalid.
    #[error("{0}")]
    Start(#[source] Error),
    /// The device failed; running requests were answered with the error.
    #[error(
        "{0}; running requests were answered with this error, and the server is shutting down so that it can be restarted"
    )]
    Device(#[source] Error),
}

/// Server with an open socket.
pub struct Server {
    app: Arc<App>,
    commands: mpsc::Receiver<Command>,
    listener: TcpListener,
    address: SocketAddr,
}

/// Handle that stops a server from another thread.
#[derive(Clone)]
pub struct Handle(Arc<App>);

impl Handle {
    /// Refuses new requests. Running ones have [`Options::drain`] to finish; then the server ends.
    pub fn drain(&self) {
        self.0.enter(Phase::Draining);
    }

    /// Whether the model is loaded, so that requests may be running.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.0.loaded().is_some()
    }
}

impl Server {
    /// Binds the address. Connections wait until [`Self::run`].
    ///
    /// # Errors
    /// [`InvalidOption`] as [`InvalidInput`](std::io::ErrorKind::InvalidInput), or the system's error.
    pub fn bind(options: Options) -> std::io::Result<Self> {
        let invalid = |error: InvalidOption| std::io::Error::new(std::io::ErrorKind::InvalidInput, error);
        options.validate().map_err(invalid)?;
        let listener = TcpListener::bind(options.address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let (sender, commands) = mpsc::channel();
        Ok(Self { app: Arc::new(App::new(options, sender)), commands, listener, address })
    }

    /// Bound address, with the actual port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Handle that stops the server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.app))
    }

    /// Serves until [`Handle::drain`]. The model is loaded and run on the calling thread; requests during loading get status 503.
    ///
    /// # Errors
    /// [`Failure`] if the server ends for another reason.
    pub fn run<E>(self, load: impl FnOnce() -> Result<Ready, E>) -> Result<(), Failure<E>> {
        let Self { app, commands, listener, .. } = self;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            // The blocking threads encode prompts. Constraints have threads of their own.
            .max_blocking_threads(4)
            .thread_name("ruminate-net")
            .enable_all()
            .build()
            .map_err(Failure::Threads)?;
        let network = runtime.spawn(serve(Arc::clone(&app), listener));
        let outcome = compute(&app, &commands, load);
        if outcome.is_err() {
            app.enter(Phase::Lost);
        }
        // The engine has ended. Dropping the receiver makes further requests fail.
        drop(commands);
        match &outcome {
            // No request has been served.
            Err(Failure::Load(_) | Failure::Start(_)) => network.abort(),
            _ => drop(runtime.block_on(network)),
        }
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }
}

/// Loads the model, and runs the engine until it is told to stop.
fn compute<E>(
    app: &Arc<App>,
    commands: &mpsc::Receiver<Command>,
    load: impl FnOnce() -> Result<Ready, E>,
) -> Result<(), Failure<E>> {
    let Ready { model, name, batch } = load().map_err(Failure::Load)?;
    let (sequences, kv_share) = (batch.sequences, batch.session.share);
    let mut answer_ends = model.tokenizer().eos().to_vec();
    if let Some(template) = model.chat() {
        // The token that the chat template writes after an answer is missing from the end tokens of some checkpoints.
        answer_ends.extend(template.end_of_answer(model.tokenizer()).map_err(Failure::Start)?);
    }
    let mut defaults = model.generate_options().map_err(Failure::Start)?;
    defaults.steps = app.options.steps;
    let mut batch = model.batch(batch).map_err(Failure::Start)?;
    if app.options.warm_up {
        warm_up(&mut batch, &defaults).map_err(Failure::Start)?;
    }
    let (context, created) = (batch.context(), crate::app::now());
    app.open(Loaded { model, name, defaults, answer_ends, context, kv_share, sequences, created });
    tracing::info!(sequences, context, "ready");
    engine::run(app, batch, commands).map_err(|error| {
        tracing::error!(%error, "the device failed");
        Failure::Device(error)
    })
}

/// Compiles the kernels of most requests: greedy and sampled ones, with the model's other defaults. Defaults that do not suit the prompt of a warm-up, or that
/// cannot be combined, do not keep the server from starting: requests may replace them.
fn warm_up(batch: &mut Batch, defaults: &GenerateOptions) -> Result<(), ruminate::Error> {
    let begun = std::time::Instant::now();
    for temperature in [0.0, 1.0] {
        let sampling = Sampling { temperature, ..defaults.sampling };
        match batch.warm_up(WARM_PROMPT, &GenerateOptions { sampling, ..defaults.clone() }) {
            Err(error @ (Error::Option { .. } | Error::Range { .. } | Error::Together { .. })) => {
                tracing::warn!(%error, "requests with the defaults of the model's generation_config.json will fail");
                let plain = Sampling { temperature, ..Sampling::GREEDY };
                let steps = defaults.steps;
                batch
                    .warm_up(WARM_PROMPT, &GenerateOptions { steps, sampling: plain, ..GenerateOptions::default() })?;
            }
            outcome => outcome?,
        }
    }
    tracing::info!(milliseconds = begun.elapsed().as_millis() as u64, "kernels are compiled");
    Ok(())
}

/// Router with all endpoints.
fn router(app: &Arc<App>) -> Router {
    let routes = [
        health::routes(),
        metrics::routes(),
        models::routes(),
        completions::routes(),
        chat::routes(),
        tokens::routes(),
        openapi::routes(),
        page::routes(),
    ];
    let missing = || async { ApiError::status(StatusCode::NOT_FOUND, "unknown path; /openapi.json lists all paths") };
    let wrong = || async { ApiError::status(StatusCode::METHOD_NOT_ALLOWED, "this path does not support this method") };
    let router = routes.into_iter().fold(Router::new(), Router::merge);
    let router = router.fallback(missing).method_not_allowed_fallback(wrong);
    let router = router.layer(from_fn_with_state(Arc::clone(app), gate::key));
    let router = match cors(&app.options.origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router
        .layer(from_fn_with_state(Arc::clone(app), gate::address))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(remainder::discard))
        .layer(from_fn_with_state(Arc::clone(app), gate::record))
        .with_state(Arc::clone(app))
}

/// CORS headers for the configured origins, if any.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    let request_id = HeaderName::from_static("x-request-id");
    let layer = CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([AUTHORIZATION, CONTENT_TYPE, request_id.clone()])
        .expose_headers([request_id]);
    (!origins.is_empty()).then_some(layer)
}

/// Response after a panic in a handler. The client does not see details of the bug.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!("a request handler panicked");
    ApiError::status(StatusCode::INTERNAL_SERVER_ERROR, "internal error").into_response()
}

/// Accepts connections until the server has drained or failed.
async fn serve(app: Arc<App>, listener: TcpListener) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let graceful = GracefulShutdown::new();
    let router = router(&app);
    let places = Arc::new(Semaphore::new(app.options.connections));
    let accepting = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, or the client has already disconnected.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (app, router, watcher) = (Arc::clone(&app), router.clone(), graceful.watcher());
            tokio::spawn(async move {
                app.metrics.connections.inc();
                connection(&app, stream, router, watcher).await;
                app.metrics.connections.dec();
                drop(place);
            });
        }
    };
    let mut phase = app.phase.subscribe();
    tokio::select! {
        () = accepting => {}
        () = end(&app, &mut phase) => {}
    }
    drop(listener);
    // Answers may still be in transit.
    let _ = tokio::time::timeout(LAST_WORDS, graceful.shutdown()).await;
}

/// Serves one connection.
async fn connection(app: &App, stream: TcpStream, router: Router, watcher: hyper_util::server::graceful::Watcher) {
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(app.options.send_timeout));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(app.options.receive_timeout)
        .max_buf_size(app.options.max_header)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// Waits for the end of the server: drained, or failed and after its last answers.
async fn end(app: &App, phase: &mut tokio::sync::watch::Receiver<Phase>) {
    let Ok(now) = phase.wait_for(|phase| *phase >= Phase::Draining).await.map(|phase| *phase) else { return };
    if now == Phase::Lost {
        tokio::time::sleep(LAST_WORDS).await;
        return;
    }
    tracing::info!(seconds = app.options.drain.as_secs(), "draining");
    let finished = async {
        // All permits are available once no sequence is left.
        if let (Some(room), Some(loaded)) = (app.room.get(), app.loaded()) {
            let _ = room.acquire_many(loaded.sequences + app.options.queue).await;
        }
    };
    tokio::select! {
        () = finished => tracing::info!("all requests are finished"),
        () = tokio::time::sleep(app.options.drain) => tracing::warn!("the time for draining is over; running requests are cut off"),
        _ = phase.wait_for(|phase| *phase == Phase::Lost) => {}
    }
    let _ = app.commands.send(Command::Stop);
}
