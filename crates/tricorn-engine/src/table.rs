//! The connections of one engine, by a key that is never used twice in a row for the same place.
//!
//! Deadlines lie in an array of their own: looking through ten thousand of them touches 80 KB and no connection.
use crate::connection::Connection;

/// No deadline.
pub const NEVER: u64 = u64::MAX;

const GENERATION_BITS: u64 = 0x3fff_ffff;

#[derive(Default)]
struct Place {
    generation: u64,
    connection: Option<Box<Connection>>,
}

impl Place {
    /// Does it still belong to the connection that was given this key?
    #[inline]
    fn is_of(&self, key: u64) -> bool {
        self.generation == key >> 32
    }
}

#[derive(Default)]
pub struct Table {
    places: Vec<Place>,
    deadlines: Vec<u64>,
    free: Vec<u32>,
    len: usize,
}

impl Table {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The key the next `insert` will give.
    pub fn next_key(&mut self) -> u64 {
        let index = match self.free.last() {
            Some(&index) => index,
            None => {
                self.places.push(Place::default());
                self.deadlines.push(NEVER);
                let index = (self.places.len() - 1) as u32;
                self.free.push(index);
                index
            }
        };
        self.places[index as usize].generation << 32 | u64::from(index)
    }

    pub fn insert(&mut self, connection: Box<Connection>) {
        let index = self.free.pop().expect("next_key has reserved a place");
        debug_assert_eq!(connection.key as u32, index);
        self.deadlines[index as usize] = connection.deadline_ms;
        self.places[index as usize].connection = Some(connection);
        self.len += 1;
    }

    #[inline]
    pub fn get(&self, key: u64) -> Option<&Connection> {
        let place = self.places.get(key as u32 as usize)?;
        place.connection.as_deref().filter(|_| place.is_of(key))
    }

    #[inline]
    pub fn get_mut(&mut self, key: u64) -> Option<&mut Connection> {
        let place = self.places.get_mut(key as u32 as usize)?;
        if !place.is_of(key) {
            return None;
        }
        place.connection.as_deref_mut()
    }

    /// Copies the connection's deadline to where the sweep looks.
    #[inline]
    pub fn note_deadline(&mut self, key: u64) {
        if let Some(deadline) = self.get_mut(key).map(|connection| connection.deadline_ms) {
            self.set_deadline(key, deadline);
        }
    }

    /// As `note_deadline`, for whoever has the connection at hand.
    #[inline]
    pub fn set_deadline(&mut self, key: u64, deadline_ms: u64) {
        self.deadlines[key as u32 as usize] = deadline_ms;
    }

    pub fn remove(&mut self, key: u64) -> Option<Box<Connection>> {
        let index = key as u32 as usize;
        let place = self.places.get_mut(index)?;
        if !place.is_of(key) {
            return None;
        }
        let connection = place.connection.take()?;
        place.generation = (place.generation + 1) & GENERATION_BITS;
        self.deadlines[index] = NEVER;
        self.free.push(index as u32);
        self.len -= 1;
        Some(connection)
    }

    /// Keys of the connections whose deadline is not after `now_ms`.
    pub fn expired(&self, now_ms: u64, out: &mut Vec<u64>) {
        out.clear();
        for (index, &deadline) in self.deadlines.iter().enumerate() {
            if deadline <= now_ms && self.places[index].connection.is_some() {
                out.push(self.places[index].generation << 32 | index as u64);
            }
        }
    }

    pub fn keys(&self) -> Vec<u64> {
        let places = self.places.iter().enumerate();
        places
            .filter(|(_, place)| place.connection.is_some())
            .map(|(index, place)| place.generation << 32 | index as u64)
            .collect()
    }
}
