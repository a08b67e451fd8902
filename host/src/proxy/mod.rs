//! A request and its calls upstream, from the attempt loop to the end of its answer.

pub mod attempt;
pub mod attempts;
pub mod body;
pub mod call;
pub mod forward;
pub mod hedge;
pub mod hold;
pub mod permits;
pub mod refusal;
pub mod served;
pub mod settle;
pub mod trace;
pub mod unserved;
pub mod worker;
