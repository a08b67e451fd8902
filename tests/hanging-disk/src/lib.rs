//! Lets a disk hang under a process into which it is loaded (`LD_PRELOAD`): for as long as a file is there, whatever would
//! write to files below a folder does not come back, as with a disk that has gone away and a server that no longer answers.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![expect(unsafe_code, reason = "functions of the C library are replaced, which nothing else can do")]

use std::env;
use std::ffi::{c_int, c_long, c_void};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::thread;
use std::time::Duration;

/// The folder whose disk may hang, and the file while which it does.
const VARIABLES: [&str; 2] = ["SPILLWAY_HANGING_DISK", "SPILLWAY_HANGING_DISK_WHILE"];
/// How often it is looked whether it still hangs.
const LOOK: Duration = Duration::from_millis(5);

static DISK: LazyLock<Option<[PathBuf; 2]>> = LazyLock::new(|| {
    let [folder, while_there] = VARIABLES.map(env::var_os);
    Some([folder?.into(), while_there?.into()])
});

#[cfg(target_arch = "x86_64")]
mod number {
    pub(super) const WRITE: i64 = 1;
    pub(super) const PWRITE: i64 = 18;
    pub(super) const FSYNC: i64 = 74;
    pub(super) const FDATASYNC: i64 = 75;
    pub(super) const FTRUNCATE: i64 = 77;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub(super) const WRITE: i64 = 64;
    pub(super) const PWRITE: i64 = 68;
    pub(super) const FSYNC: i64 = 82;
    pub(super) const FDATASYNC: i64 = 83;
    pub(super) const FTRUNCATE: i64 = 46;
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Returns once the disk of an open file does not hang.
fn wait_for_disk(file: c_int) {
    let Some([folder, while_there]) = &*DISK else { return };
    let is_there = || while_there.exists();
    if is_there() && fs::read_link(format!("/proc/self/fd/{file}")).is_ok_and(|path| path.starts_with(folder)) {
        while is_there() {
            thread::sleep(LOOK);
        }
    }
}

macro_rules! wait_first {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $answer:ty = $number:ident;)*) => {$(
        /// Stands in for the C library's.
        ///
        /// # Safety
        /// As for the function that it stands in for.
        #[allow(clippy::cast_possible_truncation, reason = "what the system answers has this size")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(file: c_int $(, $argument: $kind)*) -> $answer {
            wait_for_disk(file);
            // SAFETY: the caller hands over what the system's own function wants, which sets `errno` as that does.
            unsafe { syscall(number::$number, file $(, $argument)*) as $answer }
        }
    )*};
}

wait_first! {
    write(bytes: *const c_void, count: usize) -> isize = WRITE;
    pwrite64(bytes: *const c_void, count: usize, offset: i64) -> isize = PWRITE;
    pwrite(bytes: *const c_void, count: usize, offset: i64) -> isize = PWRITE;
    ftruncate64(length: i64) -> c_int = FTRUNCATE;
    ftruncate(length: i64) -> c_int = FTRUNCATE;
    fsync() -> c_int = FSYNC;
    fdatasync() -> c_int = FDATASYNC;
}
