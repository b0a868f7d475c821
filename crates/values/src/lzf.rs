//! LZF, the compression of long strings in RDB and of the inner chunks of lists.
//!
//! A stream of two things: `000nnnnn` and n + 1 literal bytes; or `lllooooo oooooooo`, a copy of
//! l + 2 bytes from o + 1 bytes back, where l = 7 is followed by a byte that adds to it (before
//! the second offset byte). The compressor looks for matches where Redis' does, so that equal
//! strings give equal bytes.
//! Invariant: decompression ends with exactly the length it was told, or fails.

/// Bits of the table of places where three bytes were last seen.
const TABLE_BITS: u32 = 16;
const TABLE_SIZE: usize = 1 << TABLE_BITS;

/// Longest run of literals.
const LITERALS_MAX: usize = 1 << 5;
/// Offsets are below this.
const OFFSET_LIMIT: usize = 1 << 13;
/// Longest copy.
const COPY_MAX: usize = (1 << 8) + (1 << 3);
/// Shortest copy.
const COPY_MIN: usize = 3;
/// Copies of this length and more take three bytes.
const COPY_LONG: usize = 9;

/// Bytes of output that one byte of input can give, in a copy of the longest kind.
const EXPANSION_MAX: usize = COPY_MAX.div_ceil(3);

/// A compressor, kept for its table (256 KiB, made at the first use).
#[derive(Default)]
pub struct Compressor {
    table: Vec<u32>,
    /// Table entries up to here are of earlier inputs. Position p is entered as base + p, and
    /// position 0 is never found again.
    base: u32,
}

impl Compressor {
    /// A compressor without its table yet.
    pub fn new() -> Compressor {
        Compressor::default()
    }

    /// Appends the compressed input if that takes at most `limit` bytes; else appends nothing and
    /// returns false. Linear time. Inputs of 2 GiB and more are refused.
    pub fn compress(&mut self, input: &[u8], limit: usize, out: &mut Vec<u8>) -> bool {
        let Ok(len) = u32::try_from(input.len()) else { return false };
        if len == 0 || limit == 0 || len > u32::MAX / 2 {
            return false;
        }
        self.make_room(len);
        let start = out.len();
        let mut emitter = Emitter { out, start, limit, literals: 0 };
        let done = self.run(input, &mut emitter).is_some();
        if !done {
            out.truncate(start);
        }
        self.base += len;
        done
    }

    fn make_room(&mut self, len: u32) {
        if self.table.is_empty() || self.base.checked_add(len).is_none() {
            self.table.clear();
            self.table.resize(TABLE_SIZE, 0);
            self.base = 0;
        }
    }

    /// `None` when the output passes its limit.
    fn run(&mut self, input: &[u8], emitter: &mut Emitter<'_>) -> Option<()> {
        let mut places = Places { table: self.table.as_mut_slice().try_into().ok()?, base: self.base };
        emitter.open_run();
        // Literals are written when it is known how many there are.
        let (mut at, mut literals) = (0, 0);
        while let Some(&three) = input.get(at..).and_then(|rest| rest.first_chunk::<3>()) {
            let Some(earlier) = places.find_and_enter(input, at, three) else {
                at += 1;
                continue;
            };
            emitter.literals(input.get(literals..at)?)?;
            let len = match_len(input, earlier, at);
            emitter.copy(len, at - earlier - 1)?;
            at += len;
            literals = at;
            if at + 2 >= input.len() {
                break;
            }
            // The last two places inside the copy are entered, the others are not.
            for inside in [at - 2, at - 1] {
                places.enter(*input.get(inside..)?.first_chunk()?, inside);
            }
        }
        emitter.literals(input.get(literals..at)?)?;
        emitter.finish(input.get(at..)?)
    }
}

/// Where three bytes were last seen.
struct Places<'t> {
    table: &'t mut [u32; TABLE_SIZE],
    base: u32,
}

impl Places<'_> {
    /// Where the three bytes at `at` stood before, if within reach; remembers that they are here.
    #[inline]
    fn find_and_enter(&mut self, input: &[u8], at: usize, three: [u8; 3]) -> Option<usize> {
        let entry = self.enter(three, at);
        let earlier = entry.checked_sub(self.base).filter(|&earlier| earlier > 0)? as usize;
        let near = earlier < at && at - earlier <= OFFSET_LIMIT;
        (near && *input.get(earlier..)?.first_chunk::<3>()? == three).then_some(earlier)
    }

    /// Remembers that these bytes are at `at` and returns the entry it replaces.
    #[inline]
    fn enter(&mut self, [first, second, third]: [u8; 3], at: usize) -> u32 {
        let three = u32::from(first) << 16 | u32::from(second) << 8 | u32::from(third);
        let slot = (three >> (24 - TABLE_BITS)).wrapping_sub(three.wrapping_mul(5)) as usize % TABLE_SIZE;
        std::mem::replace(&mut self.table[slot], self.base + at as u32)
    }
}

/// Up to this length a match is looked for without regard of its bound, where that is above 16.
const UNBOUNDED_MAX: usize = 19;

/// How many bytes from `at` equal those from `earlier`, of which three are known to. The search
/// stops two bytes before the input's end unless more than 16 remained to be compared.
#[inline]
fn match_len(input: &[u8], earlier: usize, at: usize) -> usize {
    let bound = (input.len() - at - 2).min(COPY_MAX);
    let bound = if bound > 16 { bound.max(UNBOUNDED_MAX) } else { bound };
    let text = |from: usize| input.get(from..from + bound).unwrap_or_default();
    common(text(earlier), text(at)).max(COPY_MIN)
}

/// How many bytes two texts have in common at their beginning.
#[inline]
fn common(one: &[u8], other: &[u8]) -> usize {
    let (words, rest) = one.as_chunks::<8>();
    let (other_words, other_rest) = other.as_chunks::<8>();
    for (at, (word, other)) in words.iter().zip(other_words).enumerate() {
        let differs = u64::from_le_bytes(*word) ^ u64::from_le_bytes(*other);
        if differs != 0 {
            return at * 8 + differs.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8 + rest.iter().zip(other_rest).take_while(|(byte, other)| byte == other).count()
}

/// Writes runs and copies. The control byte of the run at hand is reserved before its literals.
struct Emitter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    limit: usize,
    literals: usize,
}

impl Emitter<'_> {
    fn used(&self) -> usize {
        self.out.len() - self.start
    }

    fn open_run(&mut self) {
        self.literals = 0;
        self.out.push(0);
    }

    /// Fills in the control byte of the run at hand, or takes it back if the run is empty.
    fn close_run(&mut self) {
        if self.literals == 0 {
            self.out.pop();
        } else {
            let control = self.out.len() - self.literals - 1;
            self.out[control] = (self.literals - 1) as u8;
        }
    }

    /// Writes literals. The limit is tested as if each was written alone: there must have been room before the last one.
    #[inline]
    fn literals(&mut self, literals: &[u8]) -> Option<()> {
        if literals.is_empty() {
            return Some(());
        }
        self.push_literals(literals);
        let before_last = self.used() - if self.literals == 0 { 2 } else { 1 };
        (before_last < self.limit).then_some(())
    }

    #[inline]
    fn push_literals(&mut self, mut literals: &[u8]) {
        while !literals.is_empty() {
            let (here, rest) = literals.split_at(literals.len().min(LITERALS_MAX - self.literals));
            self.out.extend_from_slice(here);
            self.literals += here.len();
            if self.literals == LITERALS_MAX {
                self.close_run();
                self.open_run();
            }
            literals = rest;
        }
    }

    fn copy(&mut self, len: usize, offset: usize) -> Option<()> {
        // The limit is tested as the format's first compressor does: room for the longest copy,
        // the next control byte and one more.
        let before = self.used() - usize::from(self.literals == 0);
        if before + 3 + 1 >= self.limit {
            return None;
        }
        self.close_run();
        let high = (offset >> 8) as u8;
        if len < COPY_LONG {
            self.out.push(high | ((len - 2) << 5) as u8);
        } else {
            self.out.extend_from_slice(&[high | 7 << 5, (len - COPY_LONG) as u8]);
        }
        self.out.push(offset as u8);
        self.open_run();
        Some(())
    }

    /// Writes the last bytes, at most two after a loop that ran to its end.
    fn finish(&mut self, rest: &[u8]) -> Option<()> {
        if self.used() + 3 > self.limit {
            return None;
        }
        self.push_literals(rest);
        self.close_run();
        Some(())
    }
}

/// The input is not LZF, or not of the length told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("invalid LZF data")
    }
}

impl std::error::Error for Broken {}

/// The most bytes that an input of `packed_len` bytes can decompress to: 88 times as many.
pub fn len_max(packed_len: usize) -> usize {
    packed_len.saturating_mul(EXPANSION_MAX)
}

/// Appends the `len` bytes that `input` decompresses to; appends nothing if it does not.
///
/// Memory is taken only for a length that `len_max` allows.
pub fn decompress(input: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Broken> {
    if len > len_max(input.len()) {
        return Err(Broken);
    }
    let start = out.len();
    out.resize(start + len + SLACK, 0);
    let expanded = out.get_mut(start..).and_then(|room| expand(input, room, len));
    out.truncate(if expanded.is_some() { start + len } else { start });
    expanded.ok_or(Broken)
}

/// Bytes behind the output that may be written to and are not looked at: what is short is copied in one piece of known length.
const SLACK: usize = LITERALS_MAX;

/// Fills the first `len` bytes of `room` by runs and copies; `None` if they do not fit. Behind them is room for [`SLACK`] more.
fn expand(mut input: &[u8], room: &mut [u8], len: usize) -> Option<()> {
    let mut at = 0;
    while let Some((&control, rest)) = input.split_first() {
        let control = usize::from(control);
        if control < LITERALS_MAX {
            let run = control + 1;
            if run > len - at {
                return None;
            }
            copy_literals(rest, run, room.get_mut(at..)?)?;
            at += run;
            input = rest.get(run..)?;
            continue;
        }
        let (mut run, mut rest) = ((control >> 5) + 2, rest);
        if run == COPY_LONG {
            let (&more, after) = rest.split_first()?;
            (run, rest) = (run + usize::from(more), after);
        }
        let (&low, rest) = rest.split_first()?;
        let distance = ((control & 31) << 8) + usize::from(low) + 1;
        if run > len - at {
            return None;
        }
        copy_back(room, at, distance, run)?;
        at += run;
        input = rest;
    }
    (at == len).then_some(())
}

/// Writes the first `len` bytes of `literals`, which may have fewer, to the start of `room`.
#[inline]
fn copy_literals(literals: &[u8], len: usize, room: &mut [u8]) -> Option<()> {
    // As many as the longest run has are copied whatever is needed of it: what is behind is written over later. Close to the end
    // of the input, where so many are not there, fewer.
    copy_chunk::<LITERALS_MAX>(literals, len, room)
        .or_else(|| copy_chunk::<{ LITERALS_MAX / 2 }>(literals, len, room))
        .or_else(|| copy_chunk::<{ LITERALS_MAX / 4 }>(literals, len, room))
        .or_else(|| {
            room.get_mut(..len)?.copy_from_slice(literals.get(..len)?);
            Some(())
        })
}

/// Copies `N` bytes where `len` is no more than that, and both have so many.
#[inline(always)]
fn copy_chunk<const N: usize>(from: &[u8], len: usize, to: &mut [u8]) -> Option<()> {
    if len > N {
        return None;
    }
    *to.first_chunk_mut::<N>()? = *from.first_chunk::<N>()?;
    Some(())
}

/// Bytes that are copied at once.
const STRIDE: usize = 16;

/// Copies so many from one place to another.
#[inline(always)]
fn copy_stride(room: &mut [u8], from: usize, to: usize) -> Option<()> {
    let stride = *room.get(from..)?.first_chunk::<STRIDE>()?;
    *room.get_mut(to..)?.first_chunk_mut()? = stride;
    Some(())
}

/// Writes `len` bytes at `at` that stand `distance` before it; they may overlap what they are copied to. There is room for
/// [`SLACK`] more.
#[inline]
fn copy_back(room: &mut [u8], at: usize, distance: usize, len: usize) -> Option<()> {
    let from = at.checked_sub(distance)?;
    if distance >= STRIDE {
        // Most copies are no longer than that.
        copy_stride(room, from, at)?;
        let mut done = STRIDE;
        while done < len {
            copy_stride(room, from + done, at + done)?;
            done += STRIDE;
        }
        return Some(());
    }
    if distance == 1 {
        let stride = [*room.get(from)?; STRIDE];
        for ahead in (0..len).step_by(STRIDE) {
            *room.get_mut(at + ahead..)?.first_chunk_mut()? = stride;
        }
        return Some(());
    }
    // What has been copied repeats, so each round can copy all that stands after `from`.
    let (mut at, end) = (at, at + len);
    while at < end {
        let part = (end - at).min(at - from);
        room.copy_within(from..from + part, at);
        at += part;
    }
    Some(())
}

const _: () = assert!(STRIDE <= SLACK);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compressed(input: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        Compressor::new().compress(input, usize::MAX / 2, &mut out).then_some(out)
    }

    #[test]
    fn bytes_as_redis_writes_them() {
        assert_eq!(compressed(&[b'a'; 21]).unwrap(), b"\x01aa\xe0\n\0");
        assert_eq!(compressed(&[b'a'; 22]).unwrap(), b"\x01aa\xe0\n\0\0a");
        assert_eq!(compressed(&b"abc".repeat(20)).unwrap(), b"\x03abca\xe0-\x02\x01bc");
        assert_eq!(compressed(b""), None);
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_without_memory() {
        let mut out = Vec::new();
        assert_eq!(decompress(b"\x01aa\xe0\n\0", 1 << 40, &mut out), Err(Broken));
        assert_eq!(out.capacity(), 0);
        for len in [0, 20, 22] {
            assert_eq!(decompress(b"\x01aa\xe0\n\0", len, &mut out), Err(Broken));
        }
        // A copy from before the start, even when the output has bytes there.
        out.extend_from_slice(b"0123456789");
        assert_eq!(decompress(b"\x00a\x20\x05", 4, &mut out), Err(Broken));
        assert_eq!(out, b"0123456789");
        assert_eq!(decompress(b"\x00a\x20\x00", 4, &mut out), Ok(()));
        assert_eq!(out, b"0123456789aaaa");
    }

    /// What `compress` does, byte by byte.
    fn slow(input: &[u8], limit: usize) -> Option<Vec<u8>> {
        let (mut out, mut places) = (Vec::new(), std::collections::HashMap::new());
        let mut emitter = Emitter { out: &mut out, start: 0, limit, literals: 0 };
        let slot = |at: usize| {
            let three = input[at..at + 3].iter().fold(0_u32, |three, &byte| three << 8 | u32::from(byte));
            (three >> 8).wrapping_sub(three.wrapping_mul(5)) % (1 << 16)
        };
        if input.is_empty() || limit == 0 {
            return None;
        }
        emitter.open_run();
        let mut at = 0;
        while at + 2 < input.len() {
            let earlier =
                places.insert(slot(at), at).filter(|&earlier| earlier > 0 && at - earlier <= OFFSET_LIMIT);
            let Some(earlier) = earlier.filter(|&earlier| input[earlier..earlier + 3] == input[at..at + 3])
            else {
                if emitter.used() >= limit {
                    return None;
                }
                emitter.push_literals(&input[at..=at]);
                at += 1;
                continue;
            };
            let bound = (input.len() - at - 2).min(COPY_MAX);
            let mut len = COPY_MIN;
            while (bound > 16 && len <= 18 || len < bound) && input[earlier + len] == input[at + len] {
                len += 1;
            }
            emitter.copy(len, at - earlier - 1)?;
            at += len;
            if at + 2 >= input.len() {
                break;
            }
            places.insert(slot(at - 2), at - 2);
            places.insert(slot(at - 1), at - 1);
        }
        emitter.finish(&input[at..])?;
        Some(out)
    }

    fn repetitive() -> impl Strategy<Value = Vec<u8>> {
        let piece = proptest::collection::vec(proptest::sample::select(b"abc\0\xff".as_slice()), 1..20);
        proptest::collection::vec((piece, 1_usize..60), 0..20)
            .prop_map(|pieces| pieces.into_iter().flat_map(|(piece, times)| piece.repeat(times)).collect())
    }

    proptest! {
        #[test]
        fn comes_back_whole(inputs in proptest::collection::vec(repetitive(), 1..4)) {
            let mut compressor = Compressor::new();
            for input in &inputs {
                let mut small = Vec::new();
                if compressor.compress(input, input.len() * 2 + 10, &mut small) {
                    // An earlier input leaves no trace.
                    prop_assert_eq!(compressed(input), Some(small.clone()));
                    let mut back = Vec::new();
                    prop_assert_eq!(decompress(&small, input.len(), &mut back), Ok(()));
                    prop_assert_eq!(&back, input);
                } else {
                    prop_assert!(input.is_empty());
                }
            }
        }

        #[test]
        fn as_byte_by_byte(
            input in prop_oneof![repetitive(), proptest::collection::vec(0_u8..4, 0..300), proptest::collection::vec(any::<u8>(), 0..100)],
            limit in prop_oneof![0_usize..400, Just(100_000)],
        ) {
            let mut out = Vec::new();
            let done = Compressor::new().compress(&input, limit, &mut out);
            prop_assert_eq!(done.then_some(out), slow(&input, limit));
        }

        #[test]
        fn keeps_to_its_limit(input in repetitive(), limit in 0_usize..300) {
            let mut out = b"before".to_vec();
            let done = Compressor::new().compress(&input, limit, &mut out);
            prop_assert!(out.starts_with(b"before"));
            let added = out.len() - b"before".len();
            prop_assert!(added <= limit && done == (added > 0));
        }

        #[test]
        fn what_runs_and_copies_say_is_what_comes(
            steps in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 1..=LITERALS_MAX).prop_map(Ok),
                    (1_usize..40, 3_usize..=COPY_MAX).prop_map(Err),
                ],
                1..40,
            ),
            off in 0_usize..3,
        ) {
            let (mut packed, mut whole) = (Vec::new(), Vec::new());
            for step in steps {
                match step {
                    Ok(literals) => {
                        packed.push((literals.len() - 1) as u8);
                        packed.extend_from_slice(&literals);
                        whole.extend_from_slice(&literals);
                    }
                    Err((distance, len)) if distance <= whole.len() => {
                        let high = ((distance - 1) >> 8) as u8;
                        match len {
                            ..COPY_LONG => packed.push(high | ((len - 2) << 5) as u8),
                            _ => packed.extend_from_slice(&[high | 7 << 5, (len - COPY_LONG) as u8]),
                        }
                        packed.push((distance - 1) as u8);
                        (0..len).for_each(|_| whole.push(whole[whole.len() - distance]));
                    }
                    Err(_) => {}
                }
            }
            let (result, told): (_, &[u8]) = if off == 0 { (Ok(()), &whole) } else { (Err(Broken), &[]) };
            let mut out = b"before".to_vec();
            prop_assert_eq!(decompress(&packed, whole.len() + off, &mut out), result);
            prop_assert_eq!(out, [&b"before"[..], told].concat());
            if let Some(short) = whole.len().checked_sub(1 + off) {
                prop_assert_eq!(decompress(&packed, short, &mut Vec::new()), Err(Broken));
            }
        }

        #[test]
        fn no_bytes_panic(input in proptest::collection::vec(any::<u8>(), 0..200), len in 0_usize..2000) {
            let mut out = Vec::new();
            if decompress(&input, len, &mut out).is_ok() {
                prop_assert_eq!(out.len(), len);
            } else {
                prop_assert!(out.is_empty());
            }
        }
    }
}
