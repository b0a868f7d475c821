//! Values that are read in parts, each by whichever thread has it: lists and streams, whose nodes can be read alone.
//!
//! Invariant: what parts make together is what the record would make in one piece; what only shows between nodes is looked at when all
//! are there.

use super::super::dump::Dumped;
use super::super::list::{self, DumpedChunk, DumpedList};
use super::super::{BadData, Reader};
use super::records::{Record, Records, Value};
use super::{Cut, Dialect, Part};
use larder_values::stream::{NodeReader, ReadNode, Stream};

/// A part of a value that was read.
#[derive(Debug)]
pub struct ReadPart {
    of: u8,
    nodes: Nodes,
    /// What stands behind the nodes of the last part.
    behind: Vec<u8>,
}

#[derive(Debug)]
enum Nodes {
    List(Vec<DumpedChunk>),
    Stream(Vec<ReadNode>),
}

/// Reads a part, and the key in front of it where it is the first one.
///
/// # Errors
/// Where a node is none. The key is told nevertheless.
pub fn read_part(
    piece: &[u8],
    (cut, part): (&Cut, Part),
    dialect: Dialect,
) -> (Option<Record<'static>>, Result<ReadPart, BadData>) {
    let record = match Records::new(piece, cut, dialect).next_key() {
        Ok(Some(record)) if part.is_first => Some(record.into_owned()),
        _ => None,
    };
    let nodes_at = record.as_ref().map_or(0, Record::value_at);
    let mut reader = Reader::new(piece.get(nodes_at..).unwrap_or_default());
    let read = read_nodes(&mut reader, part);
    (record, read)
}

fn read_nodes(reader: &mut Reader<'_>, part: Part) -> Result<ReadPart, BadData> {
    if part.is_first {
        reader.plain_length()?;
    }
    let bad = |_| BadData;
    let nodes = if part.of == list::TYPE_LIST_QUICKLIST_2 {
        let read = |_| list::read_chunk(reader, usize::MAX).map_err(bad);
        Nodes::List((0..part.nodes).map(read).collect::<Result<_, _>>()?)
    } else {
        let mut nodes = NodeReader::default();
        let read = |_| reader.stream_node(&mut nodes, usize::MAX).map_err(|_| BadData);
        Nodes::Stream((0..part.nodes).map(read).collect::<Result<_, _>>()?)
    };
    let behind = if part.is_last { reader.rest().to_vec() } else { Vec::new() };
    Ok(ReadPart { of: part.of, nodes, behind })
}

/// The value that parts make, which come in their order.
///
/// # Errors
/// Where they do not fit together.
pub fn join(parts: impl Iterator<Item = ReadPart>) -> Result<Value<'static>, BadData> {
    let (mut chunks, mut entries) = (Vec::new(), Vec::new());
    let mut last = None;
    for ReadPart { of, nodes, behind } in parts {
        match nodes {
            Nodes::List(nodes) => chunks.extend(nodes.into_iter().filter(|node| !node.is_empty())),
            Nodes::Stream(nodes) => entries.extend(nodes),
        }
        last = Some((of, behind));
    }
    let (of, behind) = last.ok_or(BadData)?;
    if of != list::TYPE_LIST_QUICKLIST_2 {
        let mut stream = Stream::of_nodes(entries).map_err(|_| BadData)?;
        let read = Reader::new(&behind).behind_stream_nodes(&mut stream, of, usize::MAX);
        return read.map(|()| Value::Collection(Dumped::Stream(Box::new(stream)))).map_err(|_| BadData);
    }
    if chunks.is_empty() {
        return Ok(Value::Empty);
    }
    Ok(Value::Collection(Dumped::List(DumpedList::Chunks(chunks))))
}
