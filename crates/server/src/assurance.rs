//! How sure the application is of who has logged in.

/// A level of assurance, 0 to 15: by a scale of the application's own, such as the authenticator assurance
/// levels of NIST SP 800-63B. More is surer; 0 says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assurance(u8);

impl Assurance {
    /// Nothing is said.
    pub const NONE: Self = Self(0);
    /// The highest level.
    pub const MAX: Self = Self(15);

    /// A level; `None` above 15.
    pub const fn new(level: u8) -> Option<Self> {
        if level <= Self::MAX.0 {
            Some(Self(level))
        } else {
            None
        }
    }

    /// The level.
    pub const fn level(self) -> u8 {
        self.0
    }
}
