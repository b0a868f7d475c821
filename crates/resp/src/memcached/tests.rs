//! The parser, however its bytes arrive. Read next: `mod.rs`.

use super::*;
use proptest::prelude::*;

/// What came of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Command(Verb, Vec<Vec<u8>>),
    Answer(&'static str),
    End(&'static str),
}

/// What comes of bytes that arrive in pieces of these lengths, over and over.
fn found(bytes: &[u8], pieces: &[usize]) -> Vec<Found> {
    let limits = Limits { bulk_bytes_max: 64, authenticated: true };
    let (mut parser, mut all, mut buffer) = (Parser::default(), Vec::new(), Vec::new());
    let (mut left, mut pieces) = (bytes, pieces.iter().cycle());
    while !left.is_empty() {
        let (piece, rest) = left.split_at((*pieces.next().unwrap()).clamp(1, left.len()));
        buffer.extend_from_slice(piece);
        left = rest;
        loop {
            let mut spans = vec![Span::default()];
            match parser.parse(&buffer, &mut spans, &limits) {
                Parsed::Command { verb, consumed, is_encoded } => {
                    let (mut words, mut bytes) = (spans.split_off(1), buffer[..consumed].to_vec());
                    if is_encoded {
                        let mut out = Vec::new();
                        decode_words(&bytes, &mut words, &mut out).unwrap();
                        bytes = out;
                    }
                    let words = words.iter().map(|word| word.of(&bytes).to_vec()).collect();
                    all.push(Found::Command(verb, words));
                    assert!(!parser.in_request() || verb == Verb::TooLarge);
                    buffer.drain(..consumed);
                }
                Parsed::Answer { text, consumed } => {
                    all.push(Found::Answer(text));
                    buffer.drain(..consumed);
                }
                Parsed::Skip(consumed) => {
                    assert!(consumed > 0);
                    buffer.drain(..consumed);
                }
                Parsed::Incomplete { wanted } => {
                    assert_eq!(spans.len(), 1);
                    assert!(wanted > buffer.len(), "{wanted} {}", buffer.len());
                    break;
                }
                Parsed::Close(text) => {
                    all.push(Found::End(text));
                    return all;
                }
            }
        }
    }
    all
}

fn one(text: &str) -> Found {
    let all = found(text.as_bytes(), &[usize::MAX]);
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

fn command(verb: Verb, words: &str) -> Found {
    Found::Command(verb, words.split(' ').map(|word| word.as_bytes().to_vec()).collect())
}

#[test]
fn words_come_in_an_order_of_our_own() {
    for (text, verb, words) in [
        ("get a\r\n", Verb::Get, "get a"),
        ("  gets  a \n", Verb::Get, "gets a"),
        ("get a b\r\n", Verb::GetMany, "get a b"),
        ("gat 10 a\r\n", Verb::Gat, "gat 10 a"),
        ("gats -1 a b\r\n", Verb::GatMany, "gats -1 a b"),
        ("set k 5 60 3\r\nabc\r\n", Verb::Set, "set k abc 5 60"),
        ("add k 5 60 3 foo\r\na\nc\r\n", Verb::Add, "add k a\nc 5 60"),
        ("set k 5 60 3 noreply\r\nabc\r\n", Verb::Set, "set k abc 5 60 noreply"),
        ("cas k 5 60 1 99 noreply\r\na\r\n", Verb::Cas, "cas k a 5 60 99 noreply"),
        ("set k 5 60 100\r\n", Verb::TooLarge, "set k"),
        ("incr k 5 foo\r\n", Verb::Incr, "incr k 5"),
        ("decr k 5 noreply\r\n", Verb::Decr, "decr k 5 noreply"),
        ("delete k 0 noreply\r\n", Verb::Delete, "delete k noreply"),
        ("delete k 0\r\n", Verb::Delete, "delete k"),
        ("touch k 5\r\n", Verb::Touch, "touch k 5"),
        ("flush_all\r\n", Verb::FlushAll, "flush_all"),
        ("flush_all 5 noreply\r\n", Verb::FlushAll, "flush_all 5 noreply"),
        ("flush_all noreply\r\n", Verb::FlushAll, "flush_all noreply"),
        ("verbosity 1 noreply\r\n", Verb::Verbosity, "verbosity noreply"),
        ("mg k v O1\r\n", Verb::MetaGet, "mg k v O1"),
        ("mg k T30\r\n", Verb::MetaTouch, "mg k T30"),
        ("mg k N30 T30\r\n", Verb::MetaVivify, "mg k N30 T30"),
        ("md k I\r\n", Verb::MetaStale, "md k I"),
        ("ms k 2 F3 c\r\nab\r\n", Verb::MetaSet, "ms k ab F3 c"),
        ("ms Zm9v 2 b k\r\nab\r\n", Verb::MetaSet, "ms foo ab b k"),
        ("stats\r\n", Verb::Stats, "stats"),
        ("stats cachedump 1 100\r\n", Verb::StatsKeys, "stats cachedump 1 100"),
        ("me Zm9v b\r\n", Verb::MetaDebug, "me foo b"),
    ] {
        assert_eq!(one(text), command(verb, words), "{text:?}");
    }
}

#[test]
fn what_cannot_be_followed_is_answered() {
    let long = "k".repeat(251);
    for (text, answer) in [
        ("\r\n", "ERROR"),
        ("get\r\n", "ERROR"),
        ("GET a\r\n", "ERROR"),
        (&format!("get a {long}\r\n"), "CLIENT_ERROR bad command line format"),
        (&format!("delete {long}\r\n"), "CLIENT_ERROR bad command line format"),
        ("set a 0 0 -1\r\n", "CLIENT_ERROR bad command line format"),
        ("set a 0 0 3\r\nabcd\n", "CLIENT_ERROR bad data chunk"),
        ("add a 0 0 100\r\n", "SERVER_ERROR object too large for cache"),
        ("mg a v v\r\n", "CLIENT_ERROR duplicate flag"),
        ("md a v v\r\n", "CLIENT_ERROR invalid or duplicate flag"),
        ("mg a x\r\n", "CLIENT_ERROR invalid flag"),
        ("mg a Tx\r\n", "CLIENT_ERROR bad token in command line format"),
        ("mg a Zm9 b\r\n", "CLIENT_ERROR invalid flag"),
        ("mg Zm9 b\r\n", "CLIENT_ERROR error decoding key"),
        ("stats cachedump 1\r\n", "CLIENT_ERROR bad command line"),
        ("stats cachedump 64 0\r\n", "CLIENT_ERROR Illegal slab id"),
        ("ms a 3 Mxx\r\nabc\r\n", "CLIENT_ERROR incorrect length for M token"),
    ] {
        assert_eq!(one(text), Found::Answer(answer), "{text:?}");
    }
    for text in ["set a x 0 0 noreply\r\n", "add a 0 0 70 noreply\r\n", "incr a x noreply\r\n"] {
        assert_eq!(found(text.as_bytes(), &[usize::MAX]), [], "{text:?}");
    }
}

#[test]
fn a_line_without_an_end_is_not_read_for_ever() {
    let end = vec![Found::End("CLIENT_ERROR line too long")];
    assert_eq!(found(&[b'x'; LINE_BYTES_MAX + 1], &[999]), end);
    assert_eq!(found(&[b'x'; LINE_BYTES_MAX], &[usize::MAX]), []);
    assert_eq!(found(b"POST / HTTP/1.1\r\nset k 0 0 1\r\n1\r\n", &[7]), [Found::End("")]);
    let mut many = b"get ".repeat(KEYS_LINE_BYTES_MAX / 4);
    assert_eq!(found(&many, &[1 << 20]), []);
    many.push(b'k');
    assert_eq!(found(&many, &[1 << 20]), end);
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "get ",
        "gets ",
        "gat ",
        "set ",
        "cas ",
        "append ",
        "ms ",
        "mg ",
        "md ",
        "ma ",
        "me ",
        "mn",
        "k ",
        "key2 ",
        "0 ",
        "1 ",
        "3 ",
        "70 ",
        "-1 ",
        "noreply",
        "\r\n",
        "\r\n",
        "\r\n",
        "\n",
        "abc",
        "b ",
        "Zm9v ",
        "v ",
        "q ",
        "T3 ",
        "N1 ",
        "I ",
        "MA ",
        "O1 ",
        "set k 0 0 3\r\nabc\r\n",
        "ms k 3 T0\r\nab",
        "incr ",
        "delete ",
        "touch ",
        "flush_all ",
        "stats ",
        "cachedump ",
        "\0",
        "\u{7f}",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn however_it_is_cut_the_same_comes_out(bytes in stream(), pieces in prop::collection::vec(1usize..20, 1..8)) {
        prop_assert_eq!(found(&bytes, &pieces), found(&bytes, &[usize::MAX]));
    }
}
