//! The arguments of one command: positions in the connection's read buffer, nothing copied.

use larder_resp::Span;

/// The command's words, its name first.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    request: &'a [u8],
    spans: &'a [Span],
}

impl<'a> Args<'a> {
    /// The words that `spans` name in `request`.
    #[inline]
    pub fn new(request: &'a [u8], spans: &'a [Span]) -> Self {
        Args { request, spans }
    }

    /// Number of words, the command's name included.
    #[inline]
    #[expect(clippy::len_without_is_empty, reason = "a command has at least its name")]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// The word at `index`; 0 is the command's name. Empty beyond the end: arity is checked before
    /// a command runs.
    #[inline]
    pub fn get(&self, index: usize) -> &'a [u8] {
        match self.spans.get(index) {
            Some(span) => span.of(self.request),
            None => &[],
        }
    }

    /// The word at `index`, if there is one.
    #[inline]
    pub fn try_get(&self, index: usize) -> Option<&'a [u8]> {
        self.spans.get(index).map(|span| span.of(self.request))
    }

    /// The words from `index` on.
    #[inline]
    pub fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + Clone + use<'a> {
        let (request, spans) = (self.request, self.spans.get(index..).unwrap_or_default());
        spans.iter().map(move |span| span.of(request))
    }

    /// Bytes of the request up to the end of its last word, and the end of the line behind.
    #[inline]
    pub fn wire_bytes(&self) -> usize {
        self.spans.last().map_or(0, |span| (span.start + span.len) as usize + 2)
    }

    /// The words from `index` on as a command line of their own.
    pub fn tail(&self, index: usize) -> Args<'a> {
        Args { request: self.request, spans: self.spans.get(index..).unwrap_or_default() }
    }

    /// Whether the word at `index` is `word`, in any case. `word` is given in lower case.
    #[inline]
    pub fn is(&self, index: usize, word: &[u8]) -> bool {
        self.get(index).eq_ignore_ascii_case(word)
    }
}
