//! Memory that the bodies of a worker share, beyond what each may have for itself (`worker_buffer_memory`).
//!
//! Invariant: the shares that were given out never come to more than the budget; a share comes back when it is dropped.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

pub struct Budget {
    free: AtomicUsize,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget {
            free: AtomicUsize::new(bytes),
        })
    }

    /// `None`: there is not so much left.
    pub fn share(self: &Arc<Budget>, bytes: usize) -> Option<Share> {
        let mut share = Share {
            budget: self.clone(),
            bytes: 0,
        };
        share.grow(bytes).then_some(share)
    }
}

pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// False: there is not so much left, and the share stays as it is.
    pub fn grow(&mut self, more: usize) -> bool {
        let taken = self
            .budget
            .free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                free.checked_sub(more)
            });
        if taken.is_ok() {
            self.bytes += more;
        }
        taken.is_ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.free.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_given_than_there_is_and_what_is_dropped_comes_back() {
        let budget = Budget::new(100);
        let mut first = budget.share(60).expect("there is room");
        assert!(budget.share(41).is_none());
        assert!(first.grow(40));
        assert_eq!(first.bytes(), 100);
        assert!(!first.grow(1));
        assert_eq!(first.bytes(), 100);
        drop(first);
        assert!(budget.share(100).is_some());
    }
}
