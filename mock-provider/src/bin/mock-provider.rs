//! The mock provider as a process: `mock-provider [--port N]`. See the library's documentation for what it does,
//! and `POST /_control/{behaviour}` for how to tell it to do something else.

use spillway_mock_provider::Provider;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let port = match arguments.as_slice() {
        [] => Some(0),
        ["--port", port] => port.parse().ok(),
        _ => None,
    };
    let Some(port) = port else {
        eprintln!("usage: mock-provider [--port N]");
        return ExitCode::from(2);
    };
    match Provider::start_on(port) {
        Ok(provider) => {
            println!("listening on {}", provider.url());
            // It serves from a thread of its own until the process is killed.
            loop {
                std::thread::park();
            }
        }
        Err(error) => {
            eprintln!("mock-provider: cannot listen on port {port}: {error}");
            ExitCode::FAILURE
        }
    }
}
