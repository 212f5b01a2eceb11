//! Memory that the start takes and steady state does not need.

/// Gives freed memory back to the kernel. Reading the kernel's types and relocating the programs takes some 20 MB for
/// a moment, in pieces that the C library would keep in its heap for as long as the process lives.
pub fn release_unused() {
    // SAFETY: malloc_trim takes no pointer, locks the allocator itself and may be called at any time; memory that is
    // in use stays where it is.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
