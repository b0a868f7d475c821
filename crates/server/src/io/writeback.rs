//! Asks the system to begin writing a part of a file to disk, and to forget it once it is there.
//!
//! Whoever forces a file to disk puts together in the kernel whatever of it is not being written yet. No other thread of the same core
//! goes first meanwhile, where the kernel lets nobody in before that is done: a third of a millisecond for 4 MiB. Begun in small parts it
//! is done in small parts, and forcing only waits.
//!
//! What was written stays in memory for whoever reads it next. Of a file that is as large as the data that is a second copy of them, which
//! counts against a container's limit, and for which the kernel looks for free memory where commands run: so it is forgotten as it is written.

#![expect(unsafe_code, reason = "sync_file_range has no safe wrapper in the crates that we use")]

use std::num::NonZeroU64;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Has the system begin to write so many bytes from `offset` on, and waits for nothing. It promises nothing either, and does nothing on
/// file systems that do not know it: what must survive a power cut is forced to disk as before.
pub fn begin(file: BorrowedFd<'_>, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else { return };
    // SAFETY: no memory is handed over, and the descriptor is open as long as it is borrowed.
    let _ = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Has the system forget so many bytes from `offset` on, as far as they are on disk: whole pages, which are read from there then. It may
/// do nothing; what has not been forced to disk stays.
pub fn forget(file: BorrowedFd<'_>, offset: u64, bytes: u64) {
    let Some(bytes) = NonZeroU64::new(bytes) else { return };
    let _ = rustix::fs::fadvise(file, offset, Some(bytes), rustix::fs::Advice::DontNeed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _, Write as _};
    use std::os::fd::AsFd as _;

    #[test]
    fn what_is_begun_stays_as_it_is_and_nonsense_does_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 10_000]).unwrap();
        for (offset, bytes) in
            [(0, 4096), (4096, 5904), (0, 0), (1 << 40, 1 << 40), (u64::MAX, 1), (1, u64::MAX)]
        {
            begin(file.as_fd(), offset, bytes);
            forget(file.as_fd(), offset, bytes);
        }
        file.sync_data().unwrap();
        forget(file.as_fd(), 0, 10_000);
        let (_, end) = std::io::pipe().unwrap();
        begin(end.as_fd(), 0, 1);
        forget(end.as_fd(), 0, 1);
        let mut read = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut read).unwrap();
        assert_eq!(read, [7; 10_000]);
    }
}
