//! A request and its calls upstream, from the attempt loop to the end of its answer.

pub mod admission;
pub mod answer;
pub mod app;
pub mod attempt;
pub mod attempts;
pub mod body;
pub mod completion;
pub mod forward;
pub mod hedge;
pub mod hold;
pub mod permits;
pub mod refusal;
pub mod request;
pub mod respond;
pub mod retry;
pub mod route;
pub mod settle;
pub mod target;
pub mod trace;
pub mod unserved;
pub mod worker;
