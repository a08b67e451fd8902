//! A thread with a bounded queue of requests, that ends when its handle is dropped.

use std::thread::{self, JoinHandle};

use tokio::sync::mpsc;

use super::failure::Failure;
use crate::spool::error::OpenError;

#[derive(Debug)]
pub(super) struct Worker<T> {
    /// `None` only while the worker is being dropped.
    queue: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread that runs `serve` on a queue of at most `waiting_max` requests.
    pub(super) fn spawn(
        name: &str,
        waiting_max: usize,
        serve: impl FnOnce(mpsc::Receiver<T>) + Send + 'static,
    ) -> Result<Self, OpenError> {
        let (sender, receiver) = mpsc::channel(waiting_max);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || serve(receiver))
            .map_err(|error| OpenError::System(format!("the thread {name}: {error}")))?;
        Ok(Self { queue: Some(sender), thread: Some(thread) })
    }

    /// Makes what hands a request over if there is a place in the queue, and does not keep the thread from ending.
    pub(super) fn nudge(&self, request: impl Fn() -> T + Send + 'static) -> Box<dyn Fn() + Send> {
        let queue = self.queue.as_ref().map(mpsc::Sender::downgrade);
        Box::new(move || {
            if let Some(queue) = queue.as_ref().and_then(mpsc::WeakSender::upgrade) {
                // A full queue is as good: any request will do.
                let _ = queue.try_send(request());
            }
        })
    }

    /// Hands a request over, waiting for a place in the queue.
    pub(super) async fn send(&self, request: T) -> Result<(), Failure> {
        match &self.queue {
            Some(queue) => queue.send(request).await.map_err(|_| Failure::stopped()),
            None => Err(Failure::stopped()),
        }
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        // Without a sender, `serve` ends after the requests that already wait.
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let name = thread.thread().name().unwrap_or_default().to_owned();
            if thread.join().is_err() {
                tracing::error!(thread = name, "a thread of the spool panicked");
            }
        }
    }
}
