//! Files of prices, which are read again while Spillway serves.

use crate::prices::{FollowedPrices, PriceLook};
use crate::proxy::app::App;
use std::sync::Arc;
use std::time::Duration;

/// How often files of prices are looked at. A change counts at the second look that finds it.
const LOOK: Duration = Duration::from_secs(1);

/// Follows them until the process ends. Reads files, whose disks may hang, and so belongs on a thread of its own.
pub(super) async fn follow(app: Arc<App>, mut followed: FollowedPrices) {
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        match followed.look() {
            PriceLook::AsBefore => {}
            PriceLook::Changed(read) => {
                app.prices.store(Arc::new(app.prices.load().with_files(read)));
                tracing::info!("prices have changed, and are in use");
            }
            PriceLook::Bad(mistakes) => {
                tracing::error!(%mistakes, "prices have changed and cannot be used; the last ones stay in use");
            }
        }
    }
}
