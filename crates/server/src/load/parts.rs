//! Long values come in parts, which workers decode side by side; who has the last one stores the value.
//!
//! Invariant: a value is stored once, when all its parts are there, whichever of them was decoded last.

use larder_commands::keys::Beside;
use larder_persist::rdb::file::{Part, ReadPart, Record};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The parts of a value that were decoded so far.
#[derive(Default)]
pub struct Parts {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// By their places; `None` for what could not be read.
    parts: BTreeMap<usize, Option<ReadPart>>,
    /// How many there are, once the last one is there.
    total: Option<usize>,
    /// The key, and where the piece with it begins in the file.
    record: Option<(Record<'static>, u64)>,
    beside: Beside,
}

/// Which part of which value a piece is.
pub struct PlaceOfPart {
    /// What it is.
    pub part: Part,
    /// Where it goes.
    pub of: Arc<Parts>,
    /// Parts before it.
    pub place: usize,
}

/// A value whose parts are all there.
pub struct Whole {
    /// Its key.
    pub record: Record<'static>,
    /// Where the piece with the key begins in the file.
    pub at: u64,
    /// What is known of the key.
    pub beside: Beside,
    /// They; `None` where one of them could not be read.
    pub parts: Option<BTreeMap<usize, ReadPart>>,
}

impl PlaceOfPart {
    /// Puts what was read of the part in its place, with the key where it has it, which begins at a place of the file. What is known of the key comes with the
    /// last part. Answers the value if that was all of it.
    pub fn fill(
        &self,
        (record, at): (Option<Record<'static>>, u64),
        read: Option<ReadPart>,
        beside: Beside,
    ) -> Option<Whole> {
        let mut state = self.of.state.lock();
        state.parts.insert(self.place, read);
        if let Some(record) = record {
            state.record = Some((record, at));
        }
        if self.part.is_last {
            (state.total, state.beside) = (Some(self.place + 1), beside);
        }
        if state.total != Some(state.parts.len()) {
            return None;
        }
        let (record, at) = state.record.take()?;
        let parts = std::mem::take(&mut state.parts);
        let parts = parts.into_iter().map(|(place, part)| part.map(|part| (place, part))).collect();
        Some(Whole { record, at, beside: state.beside, parts })
    }
}
