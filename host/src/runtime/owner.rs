//! Whoever has started this process and is to outlive it.

use std::future::pending;
use std::io;
use tokio::sync::oneshot;

/// The process at the other end of standard input, if this one is to end with it. However it ends, also without a word,
/// the system closes its end of the pipe.
pub(crate) struct Owner(Option<oneshot::Receiver<()>>);

impl Owner {
    /// There is none.
    pub(crate) fn none() -> Owner {
        Owner(None)
    }

    /// Reads standard input to its end from here on. What comes is for nobody.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub(crate) fn at_stdin() -> io::Result<Owner> {
        Owner::at(io::stdin())
    }

    fn at(mut input: impl io::Read + Send + 'static) -> io::Result<Owner> {
        let (sender, ended) = oneshot::channel();
        // A read cannot be given up, so that it has a thread of its own, which ends with the process.
        std::thread::Builder::new().name("owner".to_owned()).spawn(move || {
            // An input that breaks has ended as well.
            let _ = io::copy(&mut input, &mut io::sink());
            // Nobody hears it who has ended meanwhile.
            let _ = sender.send(());
        })?;
        Ok(Owner(Some(ended)))
    }

    /// Waits until it is gone, which is told once: from then on, and without an owner, this waits for ever.
    pub(crate) async fn is_gone(&mut self) {
        let Some(ended) = &mut self.0 else { return pending().await };
        // Without an answer, the thread that reads is gone, and with it whoever could tell.
        let _ = ended.await;
        self.0 = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::io::Write;

    #[tokio::test]
    async fn an_owner_is_gone_when_its_pipe_ends_and_that_is_told_once() {
        let (input, mut output) = io::pipe().expect("a pipe");
        let mut owner = Owner::at(input).expect("a thread");
        output.write_all(b"what it says is for nobody").expect("written");
        assert!(owner.is_gone().now_or_never().is_none());
        drop(output);
        owner.is_gone().await;
        assert!(owner.is_gone().now_or_never().is_none(), "a second time it would end what ends in order");
        assert!(Owner::none().is_gone().now_or_never().is_none());
    }
}
