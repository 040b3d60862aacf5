//! Signals to a process by its number. Windows knows only the kill.

#[cfg(unix)]
pub use rustix::process::Signal;

/// The signals that tests send. On Windows, tests with others than `KILL` are ignored.
#[cfg(windows)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signal(u8);

#[cfg(windows)]
impl Signal {
    pub const HUP: Self = Self(1);
    pub const INT: Self = Self(2);
    pub const KILL: Self = Self(9);
    pub const TERM: Self = Self(15);
}

/// How Tilt ends a sidecar. Windows kills it.
pub const STOP: Signal = if cfg!(windows) { Signal::KILL } else { Signal::TERM };

#[cfg(unix)]
pub(super) fn send_signal(pid: u32, signal: Signal) -> std::io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    Ok(rustix::process::kill_process(pid.expect("a process id"), signal)?)
}

#[cfg(windows)]
pub(super) fn send_signal(pid: u32, signal: Signal) -> winsafe::SysResult<()> {
    assert_eq!(signal, Signal::KILL, "Windows has no signals");
    winsafe::HPROCESS::OpenProcess(winsafe::co::PROCESS::TERMINATE, false, pid)?.TerminateProcess(1)
}

/// True if the process exists and is not a zombie.
#[cfg(unix)]
pub fn is_alive(pid: &str) -> bool {
    let number = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    let state = fakes::proc::state(number.as_raw_pid().cast_unsigned());
    rustix::process::test_kill_process(number).is_ok() && state != Some('Z')
}

/// True if the process exists. One that has exited stays openable while a handle of it is open.
#[cfg(windows)]
pub fn is_alive(pid: &str) -> bool {
    use winsafe::{HPROCESS, co};
    let pid = pid.trim().parse().expect("a process id");
    HPROCESS::OpenProcess(co::PROCESS::SYNCHRONIZE, false, pid)
        .is_ok_and(|process| process.WaitForSingleObject(Some(0)) == Ok(co::WAIT::TIMEOUT))
}
