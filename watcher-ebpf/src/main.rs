//! The kernel programs: what runs on a failing open and on fork, exec and exit.
//!
//! One event's way: [`probes::open`] decides that an open failed in scope, [`fold`] whether it is a first sighting,
//! [`path`] and [`task`] collect what the record needs, [`emit`] sends it and counts what it cannot send.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![deny(clippy::undocumented_unsafe_blocks)]

#[cfg(target_arch = "bpf")]
mod emit;
#[cfg(target_arch = "bpf")]
mod fold;
#[cfg(target_arch = "bpf")]
mod maps;
#[cfg(target_arch = "bpf")]
mod path;
#[cfg(target_arch = "bpf")]
mod probes;
#[cfg(target_arch = "bpf")]
mod settings;
#[cfg(target_arch = "bpf")]
mod task;

/// Tracing helpers are reserved for programs under a GPL-compatible licence.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: the verifier refuses a program in which this can be reached.
    unsafe { core::hint::unreachable_unchecked() }
}

/// Only the BPF target has programs; for the host this binary is empty so that the workspace still builds whole.
#[cfg(not(target_arch = "bpf"))]
fn main() {}
