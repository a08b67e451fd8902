//! One write on its way through the writer: what it does, who waits for it, and what undoes it.

use tokio::sync::oneshot;

use super::failure::Failure;
use super::writer::Store;

/// What an operation does to the spool's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Brings a job in; refused while the disk is full.
    Admission,
    /// Moves jobs on; always served, since it is what makes room.
    Settlement,
}

/// One write, with the place for its answer inside.
pub(super) struct Operation {
    pub(super) kind: Kind,
    pub(super) bytes: usize,
    pub(super) task: Box<dyn Task>,
}

impl std::fmt::Debug for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operation").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// How an operation went, apart from its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    /// For a reason of its own.
    Failed,
    /// There was no space left, on the disk or within the page limit.
    NoSpace,
    /// The disk failed.
    Io,
}

/// An operation without its type.
pub(super) trait Task: Send {
    /// Nobody waits for it any more, and nobody needs it done.
    fn is_abandoned(&self) -> bool;
    /// Runs and keeps the result. Called again after its transaction was rolled back.
    fn run(&mut self, store: &Store) -> Fate;
    /// Answers with the result. Returns what undoes it if nobody was there to take it.
    fn answer(self: Box<Self>) -> Option<Operation>;
    /// Answers with a failure, whatever the result was.
    fn refuse(self: Box<Self>, failure: Failure);
}

struct Reply<T, W, U> {
    work: W,
    /// `None` for what stands even if nobody hears of it.
    undo: Option<U>,
    result: Option<Result<T, Failure>>,
    /// `None` for what the writer does on its own account.
    waiting: Option<oneshot::Sender<Result<T, Failure>>>,
}

impl<T, W, U> Task for Reply<T, W, U>
where
    T: Send,
    W: FnMut(&Store) -> Result<T, Failure> + Send,
    U: FnOnce(T) -> Option<Operation> + Send,
{
    fn is_abandoned(&self) -> bool {
        let unheard = |waiting: &oneshot::Sender<_>| waiting.is_closed();
        self.undo.is_some() && self.waiting.as_ref().is_some_and(unheard)
    }

    fn run(&mut self, store: &Store) -> Fate {
        let result = (self.work)(store);
        let fate = match &result {
            Ok(_) => Fate::Done,
            Err(failure) if failure.is_no_space() => Fate::NoSpace,
            Err(failure) if failure.is_io() => Fate::Io,
            Err(_) => Fate::Failed,
        };
        if let Err(failure) = &result
            && failure.is_damage()
        {
            store.standing.is_damaged(failure.to_string());
        }
        self.result = Some(result);
        fate
    }

    fn answer(self: Box<Self>) -> Option<Operation> {
        let result = self.result?;
        let Some(waiting) = self.waiting else {
            if let Err(failure) = result {
                tracing::warn!(?failure, "cannot undo what was done for a caller that left");
            }
            return None;
        };
        match waiting.send(result) {
            Err(Ok(unheard)) => (self.undo?)(unheard),
            Ok(()) | Err(Err(_)) => None,
        }
    }

    fn refuse(self: Box<Self>, failure: Failure) {
        // Keeping the failure as the result leaves one place that answers; a failure has no undo.
        let mut task = self;
        task.result = Some(Err(failure));
        task.answer();
    }
}

impl Operation {
    /// An operation that stands also if its caller has gone meanwhile.
    pub(super) fn new<T: Send + 'static>(
        kind: Kind,
        bytes: usize,
        work: impl FnMut(&Store) -> Result<T, Failure> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, Failure>>) {
        Self::with_undo(kind, bytes, work, None::<fn(T) -> Option<Self>>)
    }

    /// An operation that is left out if its caller has gone meanwhile, and undone if nobody takes its
    /// answer.
    pub(super) fn undoable<T: Clone + Send + 'static>(
        kind: Kind,
        bytes: usize,
        work: impl FnMut(&Store) -> Result<T, Failure> + Send + 'static,
        undo: impl Fn(&Store, T) -> Result<(), Failure> + Send + 'static,
    ) -> (Self, oneshot::Receiver<Result<T, Failure>>) {
        let undo = |unheard: T| {
            let task = Box::new(Reply {
                work: move |store: &Store| undo(store, unheard.clone()),
                undo: None::<fn(()) -> Option<Self>>,
                result: None,
                waiting: None,
            });
            Some(Self { kind: Kind::Settlement, bytes: 0, task })
        };
        Self::with_undo(kind, bytes, work, Some(undo))
    }

    fn with_undo<T: Send + 'static>(
        kind: Kind,
        bytes: usize,
        work: impl FnMut(&Store) -> Result<T, Failure> + Send + 'static,
        undo: Option<impl FnOnce(T) -> Option<Self> + Send + 'static>,
    ) -> (Self, oneshot::Receiver<Result<T, Failure>>) {
        let (waiting, answer) = oneshot::channel();
        let task = Box::new(Reply { work, undo, result: None, waiting: Some(waiting) });
        (Self { kind, bytes, task }, answer)
    }
}
