//! What tokens cost: prices by model and day, from the operator's files and from a table that comes along.
//!
//! All money is whole numbers. A price is in micro-dollars per million tokens, which is pico-dollars a token; a product
//! with tokens is in pico-dollars and kept in `u128`. A model whose price nobody here knows is unpriced, and never free.

mod built_in;
mod date;
mod files;
mod litellm;
mod money;
mod names;
mod own;
mod price;
mod source;
mod table;
mod vendor;

pub use date::Date;
pub(crate) use files::{FollowedPrices, PriceFiles, PriceLook};
pub use money::Dollars;
pub(crate) use price::OwnedQuote;
pub use price::{Factor, Price, Quote, Rates};
pub use source::Source;
pub(crate) use table::{Prices, Terms};
pub(crate) use vendor::vendor;
