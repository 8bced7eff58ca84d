//! What a key of the file turned out to hold, and the ways to go on from there.

/// What a key turned out to hold.
#[derive(Debug)]
pub(super) enum Field<T> {
    Absent,
    /// Already reported.
    Invalid,
    Present(T),
}

impl<T> Field<T> {
    /// The value, or the default even when an unusable value was reported: for keys that no
    /// other check looks at.
    pub(super) fn or(self, default: T) -> T {
        self.present().unwrap_or(default)
    }

    /// [`Field::or`] with a default that is made when needed.
    pub(super) fn or_else(self, default: impl FnOnce() -> T) -> T {
        self.present().unwrap_or_else(default)
    }

    /// The value or, only when the key is absent, the default.
    pub(super) fn or_default(self, default: T) -> Option<T> {
        match self {
            Field::Absent => Some(default),
            Field::Invalid => None,
            Field::Present(value) => Some(value),
        }
    }

    /// The value or that there is none; `None` when an unusable one was reported.
    pub(super) fn optional(self) -> Option<Option<T>> {
        match self {
            Field::Absent => Some(None),
            Field::Invalid => None,
            Field::Present(value) => Some(Some(value)),
        }
    }

    /// The value, if there is a usable one.
    pub(super) fn present(self) -> Option<T> {
        match self {
            Field::Present(value) => Some(value),
            Field::Absent | Field::Invalid => None,
        }
    }
}
