//! Where a request goes: by the name of an upstream, by its URL, or by the API that its path and headers belong to.

use crate::dialect::{Dialect, Operation};
use crate::proxy::refusal::{Refusal, RefusalKind};
use crate::upstream::Upstream;
use http::{Method, request};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The upstream that its line asks for, if none of the configuration's routes takes it.
    pub upstream: Arc<Upstream>,
    pub line: RequestLine,
}

/// What a request's line asks for, whoever serves it.
#[derive(Clone, Debug)]
pub(crate) struct RequestLine {
    pub dialect: Dialect,
    /// What it asks for.
    pub operation: Operation,
    /// Path and query, without the name of an upstream before them.
    pub path_and_query: String,
}

impl Route {
    /// Finds the upstream: by name, when the path begins with one, else by the API that path and headers belong to. A
    /// caller that has Spillway for its proxy writes the whole URL, and means the upstream that is there; what it has
    /// signed for that host holds.
    ///
    /// A name alone is that upstream's root. Azure's own paths begin with the name of another upstream, and are kept
    /// whole.
    ///
    /// # Errors
    /// When neither tells.
    pub(crate) fn find(upstreams: &BTreeMap<String, Arc<Upstream>>, head: &request::Parts) -> Result<Route, Refusal> {
        let path = head.uri.path();
        let no_route = || Refusal::from(RefusalKind::NoSuchRoute { path: path.to_owned() });
        // A base URL that ends with a slash doubles it, which means the same.
        let path = format!("/{}", path.trim_start_matches('/'));
        let by_name = || {
            let rest = &path[1..];
            let name = rest.split('/').next().unwrap_or_default();
            Some((upstreams.get(name)?, if name == rest { "/" } else { &rest[name.len()..] }))
        };
        let of_azure = || {
            let azure = upstreams.get("azure").or_else(|| upstreams.get(Dialect::OpenAi.as_str()))?;
            path.starts_with("/openai/deployments/").then_some((azure, &*path))
        };
        let by_url = || {
            let authority = head.uri.authority()?;
            let there = |upstream: &'_ Arc<Upstream>| upstream.config.url.path_behind(authority, &path).map(str::len);
            // The shortest rest has the longest base before it.
            let (rest, upstream) =
                upstreams.values().filter_map(|of| Some((there(of)?, of))).min_by_key(|(rest, _)| *rest)?;
            Some((upstream, &path[path.len() - rest..]))
        };
        let (upstream, path) = match by_url().or_else(of_azure).or_else(by_name) {
            Some(found) => found,
            None => {
                let dialect = Dialect::recognise(&path, &head.headers).ok_or_else(no_route)?;
                (upstreams.get(dialect.as_str()).ok_or_else(no_route)?, &*path)
            }
        };
        let (dialect, operation) = upstream.config.dialect.along(path);
        let operation = if head.method == Method::POST { operation } else { Operation::PassThrough };
        let mut path_and_query = path.to_owned();
        if let Some(query) = head.uri.query() {
            path_and_query.push('?');
            path_and_query.push_str(query);
        }
        let line = RequestLine { dialect, operation, path_and_query };
        Ok(Route { upstream: Arc::clone(upstream), line })
    }
}
