//! Whether it is worth trying to compress a text: by how those of about its length fared lately.
//!
//! A text that does not compress costs as much as one that does, a few nanoseconds a byte, and keys of one length are mostly of one kind.
//! So where many in a row were tried in vain only some of the next ones are.

/// Texts in a row that are tried in vain before others are left out.
const PATIENCE: u8 = 32;
/// How many are left out then for each that is tried.
const LEFT_OUT: u8 = 7;
/// Lengths from 2^n up to 2^(n + 1) fare together; longer ones with the last.
const CLASSES: usize = 24;

/// See there.
#[derive(Debug, Default)]
pub(super) struct Luck([Class; CLASSES]);

#[derive(Debug, Default, Clone, Copy)]
struct Class {
    in_vain: u8,
    left_out: u8,
}

impl Luck {
    /// Whether a text of this length is to be tried.
    pub(super) fn is_worth_it(&mut self, len: usize) -> bool {
        let class = self.class(len);
        if class.in_vain < PATIENCE || class.left_out == LEFT_OUT {
            class.left_out = 0;
            return true;
        }
        class.left_out += 1;
        false
    }

    /// How one of this length fared.
    pub(super) fn tell(&mut self, len: usize, pays: bool) {
        let class = self.class(len);
        class.in_vain = if pays { 0 } else { class.in_vain.saturating_add(1) };
    }

    fn class(&mut self, len: usize) -> &mut Class {
        &mut self.0[(len.max(1).ilog2() as usize).min(CLASSES - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_left_out_only_behind_many_that_were_tried_in_vain_and_until_one_pays() {
        let mut luck = Luck::default();
        let tried = |luck: &mut Luck, len: usize, pays: bool, texts: usize| {
            let tries = (0..texts).filter(|_| {
                let tries = luck.is_worth_it(len);
                if tries {
                    luck.tell(len, pays);
                }
                tries
            });
            tries.count()
        };
        let patience = usize::from(PATIENCE);
        assert_eq!(tried(&mut luck, 1000, false, patience + 80), patience + 10);
        assert_eq!(tried(&mut luck, 100, true, 50), 50, "others fare for themselves");
        // One in eight is tried still; from the first that pays all are again.
        assert_eq!(tried(&mut luck, 1000, true, 8 + 50), 51);
        assert_eq!(tried(&mut luck, usize::MAX, false, 1000), patience + (1000 - patience) / 8);
        assert!(luck.is_worth_it(0));
    }
}
