//! Moves the clocks under a process into which it is loaded (`LD_PRELOAD`), as the sleep of a machine and a wall clock that is
//! set do, while timers go on as they are.
//!
//! What a process asks the time of is a page of code that Linux maps into it. Some ask it through the C library, others, as
//! rustix does, by themselves; so the page itself is changed: it goes on to ask the system, and adds what a file says.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![expect(unsafe_code, reason = "code of a running process is replaced, which nothing else can do")]

use std::env;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::process;
use std::sync::OnceLock;

/// The file with two numbers of 64 bits, in nanoseconds: how far the wall clock is moved, and the counter that sleep does not
/// stop.
const VARIABLE: &str = "SPILLWAY_MOVED_CLOCK";
const NANOSECONDS: i128 = 1_000_000_000;

/// Linux's numbers of clocks.
const REALTIME: c_int = 0;
const REALTIME_COARSE: c_int = 5;
const BOOTTIME: c_int = 7;

/// The C library's flags.
const RTLD_LAZY: c_int = 1;
const RTLD_NOLOAD: c_int = 4;

const PAGE: &CStr = c"linux-vdso.so.1";

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::{CStr, c_long};

    pub(super) const SYS_CLOCK_GETTIME: c_long = 228;
    pub(super) const ENTRY: &CStr = c"__vdso_clock_gettime";
    /// A jump to the address behind it.
    pub(super) const JUMP: &[u8] = &[0xff, 0x25, 0, 0, 0, 0];
}

#[cfg(target_arch = "aarch64")]
mod machine {
    use super::{CStr, c_long};

    pub(super) const SYS_CLOCK_GETTIME: c_long = 113;
    pub(super) const ENTRY: &CStr = c"__kernel_clock_gettime";
    /// A jump to the address behind it.
    pub(super) const JUMP: &[u8] = &[0x51, 0, 0, 0x58, 0x20, 0x02, 0x1f, 0xd6];
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, symbol: *const c_char) -> *mut c_void;
}

static MOVED_BY: OnceLock<File> = OnceLock::new();

/// How far a clock is moved, in nanoseconds.
fn moved_by(clock: c_int) -> i128 {
    let offset = match clock {
        REALTIME | REALTIME_COARSE => 0,
        BOOTTIME => 8,
        _ => return 0,
    };
    let mut bytes = [0; 8];
    let read = MOVED_BY.get().map(|file| file.read_exact_at(&mut bytes, offset));
    if matches!(read, Some(Ok(()))) { i64::from_le_bytes(bytes).into() } else { 0 }
}

/// Stands in for what the page did.
extern "C" fn clock_gettime(clock: c_int, time: *mut [i64; 2]) -> c_int {
    // SAFETY: the caller hands over what the system's own function wants.
    let failed = unsafe { syscall(machine::SYS_CLOCK_GETTIME, c_long::from(clock), time) } != 0;
    if failed {
        return -1;
    }
    // SAFETY: the system has just written to it.
    let [seconds, nanoseconds] = unsafe { &mut *time };
    let moved = i128::from(*seconds) * NANOSECONDS + i128::from(*nanoseconds) + moved_by(clock);
    let parts = (i64::try_from(moved.div_euclid(NANOSECONDS)), i64::try_from(moved.rem_euclid(NANOSECONDS)));
    if let (Ok(moved_seconds), Ok(moved_nanoseconds)) = parts {
        (*seconds, *nanoseconds) = (moved_seconds, moved_nanoseconds);
    }
    0
}

/// Lets the page lead to us.
fn replace() -> io::Result<()> {
    // SAFETY: names that end, and nothing is loaded that was not.
    let entry = unsafe {
        let page = dlopen(PAGE.as_ptr(), RTLD_LAZY | RTLD_NOLOAD);
        if page.is_null() { page } else { dlsym(page, machine::ENTRY.as_ptr()) }
    };
    if entry.is_null() {
        return Err(io::Error::other("this system has no page of code that tells the time"));
    }
    let ours = clock_gettime as extern "C" fn(c_int, *mut [i64; 2]) -> c_int;
    let code = [machine::JUMP, &(ours as usize).to_le_bytes()].concat();
    // The page may not be written to, but as a debugger does, the process itself may.
    File::options().write(true).open("/proc/self/mem")?.write_all_at(&code, entry as u64)
}

extern "C" fn begin() {
    let Some(path) = env::var_os(VARIABLE) else { return };
    let begun = File::open(path).and_then(|file| {
        // This runs once.
        let _ = MOVED_BY.set(file);
        replace()
    });
    if let Err(error) = begun {
        eprintln!("the clocks cannot be moved: {error}");
        process::abort();
    }
}

#[used]
// SAFETY: the loader calls what stands here when the library is loaded.
#[unsafe(link_section = ".init_array")]
static BEGIN: extern "C" fn() = begin;
