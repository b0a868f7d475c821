//! Makes a failing sequence short: fewer commands, then fewer and shorter arguments.
//! Invariant: what it returns fails, or failed once.

use super::Request;
use super::grammar::Grammar;
use super::harm::is_harmful;
use super::judge::{Judge, Mismatch};
use std::io;

/// Drops and shortens what the difference `seen` does not need. One that does not come again is left as
/// long as it was.
pub fn shrink(
    judge: &mut Judge,
    grammar: &Grammar,
    mut sequence: Vec<Request>,
    mut seen: Mismatch,
) -> io::Result<(Vec<Request>, Mismatch)> {
    let Some(mismatch) = judge.differs(grammar, &sequence)? else {
        sequence.truncate(seen.length);
        seen.description.push_str("\nwhich does not come again when the same is asked again");
        return Ok((sequence, seen));
    };
    let mut shrunk = Shrunk { sequence, mismatch };
    shrunk.sequence.truncate(shrunk.mismatch.length);
    shrunk.drop_commands(judge, grammar)?;
    shrunk.drop_arguments(judge, grammar)?;
    shrunk.shorten_arguments(judge, grammar)?;
    shrunk.drop_commands(judge, grammar)?;
    Ok((shrunk.sequence, shrunk.mismatch))
}

struct Shrunk {
    sequence: Vec<Request>,
    mismatch: Mismatch,
}

impl Shrunk {
    /// Takes a candidate if it fails too.
    fn offer(
        &mut self,
        judge: &mut Judge,
        grammar: &Grammar,
        mut candidate: Vec<Request>,
    ) -> io::Result<bool> {
        if candidate.iter().any(is_harmful) {
            return Ok(false);
        }
        let Some(mismatch) = judge.differs(grammar, &candidate)? else { return Ok(false) };
        candidate.truncate(mismatch.length);
        *self = Self { sequence: candidate, mismatch };
        Ok(true)
    }

    fn drop_commands(&mut self, judge: &mut Judge, grammar: &Grammar) -> io::Result<()> {
        let mut chunk = self.sequence.len().div_ceil(2);
        while chunk > 0 {
            let mut start = 0;
            while start < self.sequence.len() {
                let mut candidate = self.sequence.clone();
                candidate.drain(start..(start + chunk).min(candidate.len()));
                if candidate.is_empty() || !self.offer(judge, grammar, candidate)? {
                    start += chunk;
                }
            }
            chunk /= 2;
        }
        Ok(())
    }

    fn drop_arguments(&mut self, judge: &mut Judge, grammar: &Grammar) -> io::Result<()> {
        self.change_arguments(judge, grammar, |request, at| {
            request.remove(at);
            true
        })
    }

    fn shorten_arguments(&mut self, judge: &mut Judge, grammar: &Grammar) -> io::Result<()> {
        for keep in [1, 4, 16, 50] {
            self.change_arguments(judge, grammar, |request, at| {
                // A shorter number may be a time to live that ends between two looks.
                let is_number = |argument: &[u8]| argument.iter().all(u8::is_ascii_digit);
                let is_longer =
                    request.get(at).is_some_and(|argument| argument.len() > keep && !is_number(argument));
                if !is_longer {
                    return false;
                }
                request.iter_mut().skip(at).take(1).for_each(|argument| argument.truncate(keep));
                true
            })?;
        }
        Ok(())
    }

    /// Offers a change of every argument, from the last to the first; `change` says whether it made one.
    fn change_arguments(
        &mut self,
        judge: &mut Judge,
        grammar: &Grammar,
        change: impl Fn(&mut Request, usize) -> bool,
    ) -> io::Result<()> {
        for index in (0..self.sequence.len()).rev() {
            let arguments = self.sequence.get(index).map_or(0, Vec::len);
            for at in (1..arguments).rev() {
                let mut candidate = self.sequence.clone();
                let changed =
                    candidate.get_mut(index).is_some_and(|request| at < request.len() && change(request, at));
                if changed {
                    self.offer(judge, grammar, candidate)?;
                }
            }
        }
        Ok(())
    }
}
