//! A request and its calls upstream, from the attempt loop to the end of its answer.

pub(crate) mod admission;
pub(crate) mod answer;
pub(crate) mod app;
pub(crate) mod attempt;
pub(crate) mod attempts;
pub(crate) mod body;
pub(crate) mod chain;
pub(crate) mod completion;
pub(crate) mod forward;
pub(crate) mod hedge;
pub(crate) mod hold;
pub(crate) mod load_share;
pub(crate) mod makers;
pub(crate) mod permits;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod respond;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod settle;
pub(crate) mod target;
pub(crate) mod trace;
pub(crate) mod unserved;
pub(crate) mod walk;
pub(crate) mod worker;
