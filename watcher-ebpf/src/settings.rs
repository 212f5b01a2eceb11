//! The read-only global and its fields. Reads are volatile so that the compiler cannot fold the placeholder in; the
//! verifier then sees the loaded constants and removes what they switch off.

use watcher_ebpf::config::{Config, NamePattern};

/// Replaced by the daemon before load, see [`watcher_ebpf::names::CONFIG`].
#[unsafe(no_mangle)]
pub static CONFIG: Config = ZERO;

// SAFETY: Config is Pod (bytemuck), so all zeroes is a value.
const ZERO: Config = unsafe { core::mem::zeroed() };

/// Reads one field of [`CONFIG`].
macro_rules! setting {
    ($($part:tt)+) => { $crate::settings::read(&raw const $crate::settings::CONFIG.$($part)+) };
}
pub(crate) use setting;

#[doc(hidden)]
#[inline(always)]
pub fn read<T: Copy>(field: *const T) -> T {
    // SAFETY: only `setting` calls this, with a field of a static; a volatile read of plain data asks for no more.
    unsafe { core::ptr::read_volatile(field) }
}

/// The `i`th name of the scope.
#[inline(always)]
pub fn name(i: usize) -> NamePattern {
    NamePattern { name: setting!(names[i].name), mask: setting!(names[i].mask), sapi: setting!(names[i].sapi) }
}
