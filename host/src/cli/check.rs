//! `spillway check`: whether a configuration is one.

use super::with_config;
use crate::config::Purpose;
use std::path::Path;
use std::process::ExitCode;

/// Says that it is valid, or lists every mistake in it.
pub fn run(file: Option<&Path>) -> ExitCode {
    with_config(file, Purpose::Serve, |config| {
        let (upstreams, routes, listen) = (config.upstreams.len(), config.routes.0.len(), config.server.listen);
        let routes = if routes == 1 { "1 route".to_owned() } else { format!("{routes} routes") };
        println!("The configuration is valid: {upstreams} upstreams, {routes}, listening on {listen}.");
        for doubt in config.doubts() {
            println!("Is this meant? {doubt}.");
        }
        ExitCode::SUCCESS
    })
}
