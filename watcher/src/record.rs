//! From bytes to records, and streams of them in files. The only module besides the sinks and the store that
//! serializes; whatever it reads may be hostile or from another version, so every reader here is total.

pub mod decode;
pub mod event;
mod frame;
pub mod input;
pub mod names;
mod reader;
#[doc(hidden)]
pub mod sample;
mod writer;

pub use decode::{DecodeError, decode};
pub use event::{Change, Comm, CountUpdate, OpenEvent, ProcessChange, ProcessKey, Record, Resolution};
pub use frame::{Body, FORMAT_VERSION, Frame, Header};
pub use input::{Counters, Growth, Input, ProcessInfo, Started, Total};
pub use reader::{ReadError, Reader};
pub use writer::{WriteError, Writer};
