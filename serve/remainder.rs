//! Remainders of refused requests. A client that sends its whole body before it reads the response would not see the response if the connection were closed
//! while the body is on its way: the system would answer the rest with a reset.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

/// Maximum bytes that are discarded.
const MOST: usize = 64 << 20;

/// Maximum time to read and discard a body.
const WITHIN: Duration = Duration::from_secs(5);
/// Maximum time to wait for the next bytes.
const PAUSE: Duration = Duration::from_millis(500);

/// Place for a body whose reader has stopped.
type Left = Arc<Mutex<Option<Body>>>;

/// Body that is left to the middleware when its reader drops it.
struct Lent {
    body: Body,
    left: Left,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.body.is_end_stream() {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::mem::take(&mut self.body));
        }
    }
}

/// Reads and discards the rest of the body of a request that did not succeed, within limits of size and time.
pub(crate) async fn discard(request: Request, next: Next) -> Response {
    // Such a client sends the body only if it is asked to.
    if request.headers().contains_key(EXPECT) || request.body().is_end_stream() {
        return next.run(request).await;
    }
    let left = Left::default();
    let lent = Arc::clone(&left);
    let response = next.run(request.map(|body| Body::new(Lent { body, left: lent }))).await;
    if response.status().is_success() {
        return response;
    }
    let rest = left.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut body) = rest {
        let drain = async {
            let mut bytes = 0;
            while let Ok(Some(Ok(frame))) = tokio::time::timeout(PAUSE, body.frame()).await {
                bytes += frame.data_ref().map_or(0, Bytes::len);
                if bytes > MOST {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(WITHIN, drain).await;
    }
    response
}
