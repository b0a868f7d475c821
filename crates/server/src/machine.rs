//! How much memory there is: what the machine has, or what its container may use.

use std::path::{Path, PathBuf};

/// The memory that this process may use, in bytes; 0 where nothing tells.
pub fn memory_bytes() -> u64 {
    memory_bytes_under(Path::new("/"))
}

/// The same with all files under another root.
fn memory_bytes_under(root: &Path) -> u64 {
    let limits = groups(root).into_iter().filter_map(|file| read_number(&file));
    limits.chain(machine_bytes(root)).min().unwrap_or(0)
}

/// What the machine has.
fn machine_bytes(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The files that may hold a limit of the control group this process is in, and of those around it.
fn groups(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let mount = root.join(mount);
        // Inside of a container the path may be that of the machine, and only the mount itself be there.
        let group = mount.join(path.trim_start_matches('/'));
        files.extend(group.ancestors().take_while(|at| at.starts_with(&mount)).map(|at| at.join(file)));
    }
    files
}

/// A limit; none for `max`, and for a number that means none.
fn read_number(file: &Path) -> Option<u64> {
    const NO_LIMIT: u64 = 1 << 62;
    std::fs::read_to_string(file).ok()?.trim().parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
            std::fs::write(path, text).expect("a file");
        }
        memory_bytes_under(root.path())
    }

    #[test]
    fn the_smallest_limit_counts() {
        let total = ("proc/meminfo", "MemFree: 1 kB\nMemTotal:    1000000 kB\n");
        assert_eq!(machine(&[total]), 1_024_000_000);
        assert_eq!(machine(&[]), 0);
        let group = ("proc/self/cgroup", "0::/a/b\n");
        assert_eq!(machine(&[total, group, ("sys/fs/cgroup/a/b/memory.max", "max\n")]), 1_024_000_000);
        assert_eq!(machine(&[total, group, ("sys/fs/cgroup/a/b/memory.max", "64000000\n")]), 64_000_000);
        let around = ("sys/fs/cgroup/a/memory.max", "32000000\n");
        let inside = ("sys/fs/cgroup/a/b/memory.max", "64000000\n");
        assert_eq!(machine(&[total, group, around, inside]), 32_000_000);
        assert_eq!(machine(&[total, group, ("sys/fs/cgroup/memory.max", "16000000\n")]), 16_000_000);
        let old = ("proc/self/cgroup", "4:cpu,cpuacct:/x\n3:memory:/x\n");
        let file = "sys/fs/cgroup/memory/x/memory.limit_in_bytes";
        assert_eq!(machine(&[total, old, (file, "48000000\n")]), 48_000_000);
        assert_eq!(machine(&[total, old, (file, "9223372036854771712\n")]), 1_024_000_000);
    }
}
