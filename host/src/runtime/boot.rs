//! Which start of the machine this is.

/// A name of this start of the machine, which no other has; `None` where the system gives none. macOS and Windows say
/// when they were started by their wall clock, which is set.
pub(crate) fn boot_id() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}
