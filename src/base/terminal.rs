//! The terminal on stdout.

/// The size of the terminal on stdout, in columns and lines. `None` if stdout is not a terminal, or
/// does not know its size.
#[cfg(unix)]
pub fn size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    let (columns, lines) = (usize::from(size.ws_col), usize::from(size.ws_row));
    (columns > 0 && lines > 0).then_some((columns, lines))
}

/// Unknown on this system.
#[cfg(not(unix))]
pub fn size() -> Option<(usize, usize)> {
    None
}
