//! The number of a queue: drawn once and kept in its folder, so that a store can tell who goes on with this queue from who has
//! another of the same name.

use crate::disk::Disk;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The file's name in the queue's folder.
const NAME: &str = "number";

/// The number of the queue in a folder. It is on disk when this returns.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) fn of(folder: &Path, disk: &dyn Disk) -> Result<u64, String> {
    let path = folder.join(NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => match u64::from_str_radix(text.trim(), 16) {
            Ok(number) => return Ok(number),
            // Nothing of the queue is lost with it.
            Err(_) => tracing::warn!("{} holds no number, and is written anew", path.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
    }
    draw(folder, disk).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn draw(folder: &Path, disk: &dyn Disk) -> io::Result<u64> {
    let mut bytes = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let number = u64::from_le_bytes(bytes);
    let new = folder.join("number.new");
    let mut file = disk.open(&new)?;
    file.cut(0)?;
    file.append(format!("{number:016x}\n").as_bytes())?;
    file.sync()?;
    disk.rename(&new, &folder.join(NAME))?;
    disk.sync_folder(folder)?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Files;

    #[test]
    fn a_queue_keeps_its_number_and_no_other_has_it() {
        let folders = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
        let numbers = folders.each_ref().map(|folder| of(folder.path(), &Files));
        assert!(numbers[0].is_ok() && numbers[0] != numbers[1]);
        assert_eq!(of(folders[0].path(), &Files), numbers[0]);
        std::fs::write(folders[0].path().join(NAME), "x").expect("it is ours");
        let drawn = of(folders[0].path(), &Files);
        assert!(drawn.is_ok() && drawn != numbers[0] && of(folders[0].path(), &Files) == drawn);
    }
}
