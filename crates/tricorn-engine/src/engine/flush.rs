//! Output that has waited for company leaves: that of several connections by one system call, where there is a batch for it.
use crate::batch;
use crate::connection::Fate;

use super::Inner;

impl Inner {
    pub(crate) fn flush_dirty(&mut self) {
        if self.core.dirty.is_empty() {
            return;
        }
        let mut keys = std::mem::take(&mut self.core.dirty);
        for keys in keys.chunks(batch::ROOM) {
            let table = &self.table;
            let messages = keys.iter().map(|&key| table.get(key)?.single_send());
            self.core.batch.send(messages);
            for (place, &key) in keys.iter().enumerate() {
                self.with(key, |connection, core| {
                    connection.listed = false;
                    if !connection.dirty {
                        return (Fate::Keep, ());
                    }
                    let tried = core.batch.outcome(place);
                    (connection.flush_on(core, tried), ())
                });
            }
        }
        keys.clear();
        if self.core.dirty.is_empty() {
            self.core.dirty = keys;
        }
    }
}
