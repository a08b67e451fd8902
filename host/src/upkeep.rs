//! What is done about circuits though no request asks for it: opening those that stall, and remembering how they stand.

use crate::memory::Memory;
use crate::worker::Shared;
use std::sync::Arc;
use std::time::Duration;

/// How often circuits are looked at. A stall is measured in minutes, so a second is soon enough.
const LOOK: Duration = Duration::from_secs(1);
/// How long transitions are gathered before they are written. A process that ends within it forgets them.
const GATHER: Duration = Duration::from_millis(50);

/// Looks after the circuits for as long as the process lives. Writes to disk, and so belongs on a thread of its own.
pub async fn run(shared: Arc<Shared>, mut memory: Memory) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        // Listening begins before saving, so that nothing that happens meanwhile is missed.
        let changed = shared.circuit_changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        memory.save(&shared.upstreams);
        tokio::select! {
            () = &mut changed => tokio::time::sleep(GATHER).await,
            _ = looks.tick() => shared.upstreams.values().for_each(|upstream| {
                upstream.circuits.poll();
                upstream.lanes.tidy();
            }),
        }
    }
}
