//! What the templates of environs and scopes go by.
//!
//! Not the templates themselves: what is in one is its gateway's.
use std::sync::Arc;

use tricorn_engine::{Exchange, ListenerInfo};
use tricorn_proto::{Scheme, hash, same};

use super::cache::VALUE_MAX;

/// How a request came: by which listener, under which scheme.
pub struct Arrival {
    pub listener: Arc<ListenerInfo>,
    pub https: bool,
}

impl Arrival {
    pub fn of(exchange: &Exchange) -> Arrival {
        Arrival {
            listener: exchange.listener().clone(),
            https: is_https(exchange),
        }
    }

    /// Did this request come the same way?
    #[inline]
    pub fn fits(&self, exchange: &Exchange) -> bool {
        self.https == is_https(exchange) && Arc::ptr_eq(&self.listener, exchange.listener())
    }
}

fn is_https(exchange: &Exchange) -> bool {
    exchange.head().scheme == Some(Scheme::Https)
}

/// The request target whose values a template has; nothing to begin with.
#[derive(Default)]
pub struct KeptTarget {
    kept: Box<[u8]>,
    /// The last one that was another: it is kept when it comes twice in a row.
    other: usize,
}

impl KeptTarget {
    #[inline]
    pub fn is(&self, target: &[u8]) -> bool {
        same(&self.kept, target)
    }

    /// Was the last target that the template does not have the same?
    pub fn comes_again(&mut self, target: &[u8]) -> bool {
        let this = hash(target);
        target.len() <= VALUE_MAX && std::mem::replace(&mut self.other, this) == this
    }

    pub fn keep(&mut self, target: &[u8]) {
        self.kept = target.into();
    }
}
