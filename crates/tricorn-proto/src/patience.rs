//! When something that is kept gives way to what has come in its place.

/// It does so when it was wrong four times in a row, and after each change only when it was so twice as often as before: what
/// is another each time would be kept anew all the time otherwise.
#[derive(Clone, Debug)]
pub struct Patience {
    misses: u8,
    limit: u8,
}

impl Patience {
    const FIRST: u8 = 4;
    /// Not even what has always been another is wrong more often than this.
    pub const LAST: u8 = 128;

    #[inline]
    pub fn hit(&mut self) {
        self.misses = 0;
    }

    /// Is it at its end?
    #[inline]
    pub fn miss(&mut self) -> bool {
        self.misses = self.misses.saturating_add(1);
        self.misses >= self.limit
    }

    /// Something else is kept from now on.
    #[inline]
    pub fn renew(&mut self) {
        self.misses = 0;
        self.limit = self.limit.saturating_mul(2).min(Self::LAST);
    }
}

impl Default for Patience {
    fn default() -> Self {
        Patience {
            misses: 0,
            limit: Self::FIRST,
        }
    }
}
