//! TLS towards callers and operators: the certificate, its key, and what is shown of them to whoever connects.

pub(crate) mod pair;
pub(crate) mod served;
