//! The body of the fuzz target of streams.

use super::{NodeReader, References, Stream, StreamId, Trim, TrimTo};

/// Reads any bytes as a node in Redis' form; what is accepted survives being written, trimmed and taken
/// apart.
pub(crate) fn fuzz_listpack(bytes: &[u8]) {
    let Some((head, listpack)) = bytes.split_first_chunk::<16>() else { return };
    let first = StreamId::from_bytes(*head);
    let read = |listpack: &[u8]| Stream::of_nodes(vec![NodeReader::default().read(first, listpack)?]);
    let Ok(mut stream) = read(listpack) else { return };
    stream.set_last_id(StreamId::MAX, None, None);
    stream.check();
    let mut written = Vec::new();
    stream.listpacks().for_each(|node| node.write_to(&mut written));
    let Ok(copy) = read(&written) else { panic!("what was written is not read") };
    let entries = |stream: &Stream| -> Vec<(StreamId, Vec<Vec<u8>>)> {
        let all = stream.entries(StreamId::MIN, StreamId::MAX);
        all.map(|entry| (entry.id, entry.words().map(|word| word.to_vec()).collect())).collect()
    };
    assert_eq!(entries(&copy), entries(&stream), "another stream came back");
    for (id, _) in entries(&stream).into_iter().step_by(2) {
        stream.delete(id, References::Keep);
        stream.check();
    }
    let length = TrimTo::Length(stream.len() / 2);
    stream.trim(Trim { to: length, is_approximate: false, limit: 0, references: References::Delete });
    stream.check();
}
