//! PHP's own state at the moment of the failing open, where it could be read.

/// What PHP was doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhpState {
    /// `8.2.36`.
    pub version: Option<String>,
    /// The instruction, where it was an include.
    pub include: Option<IncludeKind>,
    /// Script and line of the instruction.
    pub script: Option<Vec<u8>>,
    pub line: Option<u32>,
    /// Function that was running; for an internal one the one that opened.
    pub function: Option<Vec<u8>>,
    /// Callers, innermost first.
    pub stack: Vec<Frame>,
    /// `@` or error_reporting hid the warning.
    pub silenced: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub script: Option<Vec<u8>>,
    pub line: Option<u32>,
    pub function: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncludeKind {
    Include,
    IncludeOnce,
    Require,
    RequireOnce,
}

impl IncludeKind {
    /// The value of `php.include.kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Include => "include",
            Self::IncludeOnce => "include_once",
            Self::Require => "require",
            Self::RequireOnce => "require_once",
        }
    }
}
