//! The request parser: however a stream is cut into pieces, the same requests come out of it, and
//! what was encoded is what is read.

use larder_resp::{Limits, Progress, ProtocolError, RequestParser, split_words};

/// The least that `proto-max-bulk-len` can be set to, in bytes.
const BULK_BYTES_MAX_MIN: i64 = 1 << 20;

/// What came out of a stream: the requests, then what ended it.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<Vec<Vec<u8>>>,
    error: Option<ProtocolError>,
    /// Bytes that belong to no whole request.
    rest: usize,
}

/// The first byte chooses limits, the second how many of the next bytes are lengths of pieces.
pub fn request(data: &[u8]) {
    let [choice, count, data @ ..] = data else { return };
    let (lengths, stream) = data.split_at(usize::from(count % 16).min(data.len()));
    let lengths: Vec<usize> = lengths.iter().map(|&length| 1 + usize::from(length)).collect();
    let limits = Limits {
        authenticated: choice & 1 == 0,
        bulk_bytes_max: if choice & 2 == 0 { Limits::default().bulk_bytes_max } else { BULK_BYTES_MAX_MIN },
    };
    let whole = read(stream, &[stream.len().max(1)], &limits);
    assert_eq!(read(stream, &[1], &limits), whole, "byte by byte");
    if !lengths.is_empty() {
        assert_eq!(read(stream, &lengths, &limits), whole, "in pieces of {lengths:?}");
    }
    read_what_was_encoded(stream, &lengths);
}

/// Reads a stream that arrives in pieces of the given lengths, again and again.
fn read(stream: &[u8], lengths: &[usize], limits: &Limits) -> Outcome {
    let mut outcome = Outcome { requests: Vec::new(), error: None, rest: 0 };
    let (mut parser, mut spans) = (RequestParser::default(), Vec::new());
    let (mut start, mut arrived) = (0, 0);
    let mut lengths = lengths.iter().cycle();
    while arrived < stream.len() {
        arrived = stream.len().min(arrived + lengths.next().unwrap_or(&1));
        while start < arrived {
            let input = &stream[start..arrived];
            match parser.parse(input, &mut spans, limits) {
                Ok(Progress::Complete(used)) => {
                    assert!(used > 0 && used <= input.len() && !parser.in_request());
                    let words = spans.drain(..).map(|span| span.of(&input[..used]).to_vec());
                    outcome.requests.push(words.collect());
                    start += used;
                }
                Ok(Progress::Inline { line, consumed }) => {
                    assert!(line < consumed && consumed <= input.len() && spans.is_empty());
                    let Some(words) = split_words(&input[..line]) else {
                        outcome.error = Some(ProtocolError::UnbalancedQuotes);
                        return outcome;
                    };
                    outcome.requests.push(words);
                    start += consumed;
                }
                Ok(Progress::Incomplete { wanted }) => {
                    assert!(wanted > input.len(), "it asks for what it has");
                    break;
                }
                Err(error) => {
                    outcome.error = Some(error);
                    return outcome;
                }
            }
        }
    }
    outcome.rest = stream.len() - start;
    outcome
}

/// The stream cut at its zero bytes becomes words, which are sent and read again.
fn read_what_was_encoded(stream: &[u8], lengths: &[usize]) {
    let words: Vec<Vec<u8>> = stream.split(|&byte| byte == 0).map(<[u8]>::to_vec).collect();
    let requests: Vec<Vec<Vec<u8>>> = words.chunks(3).map(<[Vec<u8>]>::to_vec).collect();
    let mut encoded = Vec::new();
    for words in &requests {
        encoded.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            encoded.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            encoded.extend_from_slice(word);
            encoded.extend_from_slice(b"\r\n");
        }
    }
    let lengths = if lengths.is_empty() { &[7] } else { lengths };
    let outcome = read(&encoded, lengths, &Limits::default());
    assert_eq!(outcome, Outcome { requests, error: None, rest: 0 });
}
