//! Reads what Linux shows of a process in `/proc`. The functions return nothing for a process that has
//! ended, and on other systems.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The unit of CPU times: `USER_HZ` is 100 on every architecture that this project is built for.
const TICK: Duration = Duration::from_millis(10);

/// The folder of a process.
pub fn folder(pid: u32) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}"))
}

/// The number in a line of the file `status`, such as `VmRSS` in KiB.
pub fn status(pid: u32, name: &str) -> Option<u64> {
    let status = fs::read_to_string(folder(pid).join("status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    value.split_whitespace().next()?.parse().ok()
}

/// User plus system time of a process.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    let fields = Stat::read(&folder(pid))?.fields;
    // `utime` and `stime` are fields 14 and 15, and the state is field 3.
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let (user, system) = (ticks.next()?.ok()?, ticks.next()?.ok()?);
    Some(TICK * (user + system))
}

/// The state of a process, such as `S` if it sleeps.
pub fn state(pid: u32) -> Option<char> {
    Stat::read(&folder(pid))?.fields.chars().next()
}

/// A thread of a process.
pub struct Thread {
    pub name: String,
    /// As in [`state`].
    pub state: char,
    pub folder: PathBuf,
}

/// The threads of a process.
pub fn threads(pid: u32) -> Vec<Thread> {
    let thread = |folder: PathBuf| {
        let Stat { name, fields } = Stat::read(&folder)?;
        Some(Thread { name, state: fields.chars().next()?, folder })
    };
    entries(&folder(pid).join("task")).into_iter().filter_map(thread).collect()
}

/// The ids of the children of a process.
pub fn children(pid: u32) -> Vec<u32> {
    let mut children = Vec::new();
    for thread in threads(pid) {
        let list = fs::read_to_string(thread.folder.join("children")).unwrap_or_default();
        children.extend(list.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    children
}

/// The paths in a folder.
pub fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The file `stat` of a process or thread.
struct Stat {
    name: String,
    /// From the state on.
    fields: String,
}

impl Stat {
    fn read(folder: &Path) -> Option<Self> {
        let stat = fs::read_to_string(folder.join("stat")).ok()?;
        // The name is in parentheses, and may contain some.
        let (before, fields) = stat.rsplit_once(") ")?;
        let (_, name) = before.split_once('(')?;
        Some(Self { name: name.to_owned(), fields: fields.to_owned() })
    }
}
