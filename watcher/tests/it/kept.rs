//! Servers that several trials share: started by the first that asks, stopped when the run ends.
//!
//! Each lives in a thread of its own, because the kernel's death signal (see [`crate::process::tied`]) follows the
//! thread that started the child, and the threads of the test runner come and go.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};

static KEEPERS: Mutex<Vec<(Sender<()>, JoinHandle<()>)>> = Mutex::new(Vec::new());

/// A lazily made value whose only lasting owner is its keeper thread, so that it is dropped at [`shutdown`] although
/// statics never are.
pub struct Kept<T>(OnceLock<Result<Weak<T>, String>>);

impl<T: Send + Sync + 'static> Kept<T> {
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value; the first caller makes it, and if that fails every later one gets the same error.
    pub fn get(&self, make: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Arc<T>> {
        match self.0.get_or_init(|| keep(make).map_err(|error| format!("{error:#}"))) {
            Ok(value) => value.upgrade().context("the run is over, the shared server is stopped"),
            Err(error) => Err(anyhow!("a shared server could not be started: {error}")),
        }
    }
}

fn keep<T: Send + Sync + 'static>(make: impl FnOnce() -> Result<T> + Send + 'static) -> Result<Weak<T>> {
    let (stop, stopped) = channel::<()>();
    let (report, ready) = channel();
    let thread = thread::spawn(move || match make() {
        Ok(value) => {
            let value = Arc::new(value);
            // The receiver waits for exactly this; the keeper then waits for the end of the run.
            let _ = report.send(Ok(Arc::downgrade(&value)));
            let _ = stopped.recv();
        }
        Err(error) => {
            let _ = report.send(Err(error));
        }
    });
    let value = ready.recv().context("the thread that starts a server panicked")??;
    KEEPERS.lock().map_err(|_| anyhow!("a keeper panicked"))?.push((stop, thread));
    Ok(value)
}

/// Stops everything that is kept, in the opposite order of its start.
pub fn shutdown() {
    let Ok(mut keepers) = KEEPERS.lock() else { return };
    while let Some((stop, thread)) = keepers.pop() {
        drop(stop);
        // A panic in the keeper has been printed already.
        let _ = thread.join();
    }
}
