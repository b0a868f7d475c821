//! For fuzzing: whatever a server sends is refused or read, and what is told holds together.

use crate::binlog::columns::{Charset, Described, Meaning};
use crate::binlog::event::Stored;
use crate::binlog::reader::{Dependent, Place, Read, Reader, Start, Watched};
use crate::cells::{self, kind};
use crate::login::{Asked, Greeting};
use crate::message::{Body, ServerError};
use larder_source::{Named, Told};

/// Packets of the protocol: the first byte says which.
///
/// # Panics
/// Something is wrong.
pub fn fuzz_packets(data: &[u8]) {
    let Some((&which, packet)) = data.split_first() else { return };
    match which % 4 {
        0 => {
            if let Ok(greeting) = Greeting::read(packet) {
                assert!(greeting.scramble.len() <= 20);
                let _ = greeting.agreed(which & 4 != 0, which & 8 != 0);
            }
        }
        1 => drop(Asked::read(packet)),
        2 => {
            let error = ServerError::read(packet);
            let sent = String::from_utf8_lossy(packet);
            assert!(error.position(&sent).is_none_or(|at| sent.is_char_boundary(at)));
            assert!(!error.failure().text.contains('\n'));
        }
        _ => {
            // Descriptions of columns with their lengths in front, then a row.
            let mut body = Body(packet);
            let mut types = Vec::new();
            while let Ok(column) = body.counted() {
                let Ok((_, told)) = cells::read_column(column, which & 4 != 0) else { break };
                types.push(told);
            }
            if let Ok((row, _)) = cells::read_row(body.0, &types) {
                assert_eq!(row.len(), types.len());
            }
        }
    }
}

/// Events of the binlog: for each its kind, flags, length and body; their headers are made here.
///
/// # Panics
/// Something is wrong.
pub fn fuzz_binlog(data: &[u8]) {
    let watched = |table: &str, told: bool| Watched {
        schema: "shop".to_owned(),
        table: table.to_owned(),
        told: if told { vec![table.to_owned()] } else { Vec::new() },
        dependents: vec![Dependent { table: 0, at_delete: true, at_update: vec!["c0".to_owned()] }],
    };
    let start = Start {
        watched: vec![watched("users", true), watched("orders", false)],
        ignores_case: true,
        zone: Some(3600),
        has_checksums: false,
        place: Place { server: 1, file: "b".to_owned(), position: 4, stamp: None },
    };
    let mut reader = Reader::new(start);
    let mut body = Body(data);
    let mut end = 4_u32;
    while let (Ok(kind), Ok(flags), Ok(length)) = (body.u8(), body.u8(), body.u16()) {
        let length = usize::from(length).min(body.0.len());
        let Ok(content) = body.bytes(length) else { return };
        end = end.wrapping_add(length as u32 + 19);
        let mut event = vec![1, 0, 0, 0, kind, 1, 0, 0, 0];
        event.extend_from_slice(&(19 + length as u32).to_le_bytes());
        event.extend_from_slice(&end.to_le_bytes());
        event.extend_from_slice(&[flags, 0]);
        event.extend_from_slice(content);
        match reader.read(&event, &mut check) {
            Ok(Read::Describe { id, table }) => {
                assert!(reader.watched(table).is_some());
                let described = reader.stored(id).iter().enumerate().map(described).collect();
                reader.describe(id, described);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// A description that fits.
fn described((at, stored): (usize, &Stored)) -> Described {
    let meaning = match stored.kind {
        kind::TINY | kind::SHORT | kind::INT24 | kind::LONG | kind::LONGLONG => {
            Meaning::Integer { is_unsigned: at % 2 == 0 }
        }
        kind::FLOAT | kind::DOUBLE => Meaning::Real { digits: (at % 2 == 0).then_some(3) },
        kind::NEWDECIMAL => Meaning::Decimal,
        kind::STRING if at % 3 == 0 => Meaning::Uuid,
        kind::STRING if at % 3 == 1 => Meaning::Bytes { length: 7 },
        kind::STRING | kind::VARCHAR | kind::VAR_STRING => {
            let all = [Charset::Utf8, Charset::Latin1, Charset::Utf16, Charset::Utf16Le, Charset::Utf32];
            Meaning::Text(all[at % all.len()])
        }
        kind::BLOB => Meaning::Text(Charset::LikeAscii),
        kind::ENUM => Meaning::Enum(vec!["a".to_owned(), "b".to_owned()]),
        kind::SET => Meaning::Set(vec!["a".to_owned(), "b".to_owned()]),
        _ => Meaning::Other,
    };
    let described = Described { name: format!("c{at}"), meaning };
    assert!(described.fits(*stored));
    described
}

fn check(told: Told) {
    let is_whole = |row: &Option<Named>| row.as_ref().is_none_or(|row| row.names.len() == row.row.len());
    match told {
        Told::Changed(change) => {
            assert_eq!(change.table, "users");
            assert!(is_whole(&change.before) && is_whole(&change.after));
            assert!(change.before.is_some() || change.after.is_some());
        }
        Told::Reached(position) => assert!(Place::parse(&position.0).is_some(), "{position:?}"),
        Told::Emptied(table) => assert_eq!(table, "users"),
        Told::Following | Told::Gap | Told::Idle | Told::At(_) => {}
        Told::Transaction(_) | Told::Shown(_) => unreachable!("only where transactions have numbers"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Events that begin as some do: without that hardly any noise gets far.
    fn events() -> impl Strategy<Value = Vec<u8>> {
        let map = || {
            let mut body = vec![7, 0, 0, 0, 0, 0, 0, 0, 4];
            body.extend_from_slice(b"shop\0\x05users\0");
            body
        };
        let format = [&[4, 0][..], &[0; 60], &[0; 5]].concat();
        let body = prop_oneof![
            Just((15_u8, format)),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(move |rest| (19, [map(), rest].concat())),
            (23_u8..33, prop::collection::vec(any::<u8>(), 0..80))
                .prop_map(|(kind, rest)| (kind, [&[7, 0, 0, 0, 0, 0, 0, 0][..], &rest].concat())),
            (any::<u8>(), prop::collection::vec(any::<u8>(), 0..80)),
        ];
        let event = body.prop_map(|(kind, body)| {
            let mut event = vec![kind, 0];
            event.extend_from_slice(&(body.len() as u16).to_le_bytes());
            event.extend_from_slice(&body);
            event
        });
        prop::collection::vec(event, 0..12).prop_map(|events| events.concat())
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_much(packet in prop::collection::vec(any::<u8>(), 0..300), events in events()) {
            fuzz_packets(&packet);
            fuzz_binlog(&packet);
            fuzz_binlog(&events);
        }
    }
}
