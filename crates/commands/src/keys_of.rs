//! Finds the keys of a command by its key specifications: for locking, COMMAND GETKEYS, access
//! control and routing.

use crate::args::Args;
use crate::spec::{Begin, Find, KeyFlags, KeySpec, Spec};
use larder_values::number;
use smallvec::SmallVec;

/// One key among the words of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyAt {
    /// Which word.
    pub index: u32,
    /// What is done with it.
    pub flags: KeyFlags,
}

/// The words do not tell the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeysError {
    /// A number of keys is no number, zero, or larger than the words that follow.
    Invalid,
}

/// The keys of a command, in the order of its key specifications.
pub fn keys_of(spec: &Spec, args: &Args<'_>) -> Result<SmallVec<[KeyAt; 4]>, KeysError> {
    let mut keys = SmallVec::new();
    for key_spec in spec.keys {
        find(key_spec, args, &mut keys)?;
    }
    Ok(keys)
}

fn find(spec: &KeySpec, args: &Args<'_>, keys: &mut SmallVec<[KeyAt; 4]>) -> Result<(), KeysError> {
    let words = args.len();
    let Some(first) = begin(spec.begin, args) else { return Ok(()) };
    if first >= words {
        return Ok(());
    }
    let (first, last, step) = match spec.find {
        Find::Range { last, step, limit } => {
            let last = if last >= 0 {
                first.checked_add(last as usize).ok_or(KeysError::Invalid)?
            } else if limit <= 1 {
                words.checked_sub(last.unsigned_abs() as usize).ok_or(KeysError::Invalid)?
            } else {
                first + (words - first) / limit as usize - 1
            };
            (first, last, step as usize)
        }
        Find::Counted { number_at, first: offset, step } => {
            let count = args
                .try_get(first + number_at as usize)
                .and_then(number::parse_i64)
                .ok_or(KeysError::Invalid)?;
            let count = usize::try_from(count).map_err(|_| KeysError::Invalid)?;
            if count == 0 {
                return Err(KeysError::Invalid);
            }
            let first = first + offset as usize;
            let span = (count - 1).checked_mul(step as usize).ok_or(KeysError::Invalid)?;
            (first, first.checked_add(span).ok_or(KeysError::Invalid)?, step as usize)
        }
        Find::Unknown => return Ok(()),
    };
    if last >= words {
        return Err(KeysError::Invalid);
    }
    keys.extend(
        (first..=last).step_by(step.max(1)).map(|index| KeyAt { index: index as u32, flags: spec.flags }),
    );
    Ok(())
}

fn begin(begin: Begin, args: &Args<'_>) -> Option<usize> {
    match begin {
        Begin::Index(index) => Some(index as usize),
        Begin::Keyword { word, from } => {
            let words = args.len();
            let matches = |index: &usize| args.get(*index).eq_ignore_ascii_case(word.as_bytes());
            let found = if from >= 0 {
                (from as usize..words).find(matches)
            } else {
                (1..=words.checked_sub(from.unsigned_abs() as usize)?).rev().find(matches)
            };
            found.map(|index| index + 1)
        }
        Begin::Unknown => None,
    }
}
