//! memcached's protocol: however a stream is cut into pieces, the same commands and answers come out of it.

use larder_resp::memcached::{Parsed, Parser, Verb, decode_words};
use larder_resp::{Limits, Span};

/// What came out of a stream.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Command(Verb, Vec<Vec<u8>>),
    Answer(&'static str),
    Close(&'static str),
}

/// The first byte chooses limits, the second how many of the next bytes are lengths of pieces.
pub fn memcached(data: &[u8]) {
    let [choice, count, data @ ..] = data else { return };
    let (lengths, stream) = data.split_at(usize::from(count % 16).min(data.len()));
    let lengths: Vec<usize> = lengths.iter().map(|&length| 1 + usize::from(length)).collect();
    let bulk_bytes_max = if choice & 2 == 0 { 1 << 20 } else { 40 };
    let limits = Limits { authenticated: choice & 1 == 0, bulk_bytes_max };
    let whole = read(stream, &[stream.len().max(1)], &limits);
    assert_eq!(read(stream, &[1], &limits), whole, "byte by byte");
    if !lengths.is_empty() {
        assert_eq!(read(stream, &lengths, &limits), whole, "in pieces of {lengths:?}");
    }
}

/// Reads a stream that arrives in pieces of the given lengths, again and again.
fn read(stream: &[u8], lengths: &[usize], limits: &Limits) -> Vec<Found> {
    let (mut found, mut parser) = (Vec::new(), Parser::default());
    let (mut start, mut arrived) = (0, 0);
    let mut lengths = lengths.iter().cycle();
    while arrived < stream.len() {
        arrived = stream.len().min(arrived + lengths.next().unwrap_or(&1));
        while start < arrived {
            let (input, mut spans) = (&stream[start..arrived], vec![Span::default()]);
            match parser.parse(input, &mut spans, limits) {
                Parsed::Command { verb, consumed, is_encoded } => {
                    assert!(consumed > 0 && consumed <= input.len() && spans.len() > 1);
                    found.push(Found::Command(verb, words(&input[..consumed], &mut spans[1..], is_encoded)));
                    start += consumed;
                }
                Parsed::Answer { text, consumed } => {
                    assert!(consumed > 0 && consumed <= input.len() && spans.len() == 1);
                    found.push(Found::Answer(text));
                    start += consumed;
                }
                Parsed::Skip(consumed) => {
                    assert!(consumed > 0 && consumed <= input.len());
                    start += consumed;
                }
                Parsed::Incomplete { wanted } => {
                    assert!(wanted > input.len() && spans.len() == 1, "it asks for what it has");
                    break;
                }
                Parsed::Close(text) => {
                    found.push(Found::Close(text));
                    return found;
                }
            }
        }
    }
    found
}

/// The words of a command; a key and a value have the lengths that they may have.
fn words(bytes: &[u8], spans: &mut [Span], is_encoded: bool) -> Vec<Vec<u8>> {
    let mut decoded = Vec::new();
    let text = if is_encoded {
        decode_words(bytes, spans, &mut decoded).expect("the parser has decoded it");
        &decoded[..]
    } else {
        bytes
    };
    spans.iter().map(|span| span.of(text).to_vec()).collect()
}
