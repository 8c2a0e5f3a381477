//! How the machine is doing: the payload of `node.host.stats`.

use std::{fs, path::Path};

use serde_json::{Value, json};

/// Reads the numbers now; `None` where the system doesn't give them.
pub(crate) fn read(disk: &Path) -> Option<Value> {
    let load = load_average(&fs::read_to_string("/proc/loadavg").ok()?)?;
    let (total, free) = memory(&fs::read_to_string("/proc/meminfo").ok()?)?;
    let space = nix::sys::statvfs::statvfs(disk).ok()?;
    let block = space.fragment_size();
    Some(json!({
        "cpuCount": std::thread::available_parallelism().map_or(1, usize::from),
        "loadAverage": load,
        "memoryTotalBytes": total,
        "memoryFreeBytes": free,
        "diskTotalBytes": space.blocks().saturating_mul(block),
        "diskAvailableBytes": space.blocks_available().saturating_mul(block),
    }))
}

fn load_average(text: &str) -> Option<[f64; 3]> {
    let mut numbers = text.split_whitespace().map(|word| word.parse().ok());
    Some([numbers.next()??, numbers.next()??, numbers.next()??])
}

/// Total and available, in bytes.
fn memory(text: &str) -> Option<(u64, u64)> {
    let line = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
    };
    Some((line("MemTotal:")?, line("MemAvailable:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_files_are_understood() {
        assert_eq!(load_average("6.64 5.55 3.48 2/345 12345\n"), Some([6.64, 5.55, 3.48]));
        assert_eq!(memory("MemTotal:  2 kB\nMemFree: 9 kB\nMemAvailable:  1 kB\n"), Some((2048, 1024)));
        assert_eq!(memory("MemTotal: ?\n"), None);
        let now = read(Path::new("/")).unwrap();
        assert!(now["memoryTotalBytes"].as_u64() > now["memoryFreeBytes"].as_u64());
        assert!(now["diskTotalBytes"].as_u64().unwrap() > 0);
    }
}
