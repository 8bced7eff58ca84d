//! Header fields: alignment 1, changed through shared references.
//!
//! A frame hands out several headers that lie in one buffer, and the path reads and writes them in
//! any order, so the fields have interior mutability. In the kernel a field is one load or store of
//! its width: packet memory may be misaligned there, which the machine allows and the verifier
//! checks (`NET_IP_ALIGN`, x86-64 and arm64); on the host the bytes are copied.

use core::cell::UnsafeCell;

macro_rules! field {
    ($(#[$doc:meta])* $name:ident, $word:ty, $width:literal) => {
        $(#[$doc])*
        #[repr(transparent)]
        pub struct $name(UnsafeCell<[u8; $width]>);

        impl $name {
            /// The field, raw: bytes in memory as on the wire.
            #[inline(always)]
            pub fn get(&self) -> $word {
                #[cfg(target_arch = "bpf")]
                // SAFETY: the pointer is valid for the width of the field; one load at any alignment
                // is what the target does.
                return unsafe { *self.0.get().cast::<$word>() };
                #[cfg(not(target_arch = "bpf"))]
                // SAFETY: the pointer is valid, and no reference into the cell is ever handed out.
                return <$word>::from_ne_bytes(unsafe { *self.0.get() });
            }

            /// Replaces the field with a raw value.
            #[inline(always)]
            pub fn set(&self, value: $word) {
                #[cfg(target_arch = "bpf")]
                // SAFETY: as in `get`.
                unsafe {
                    *self.0.get().cast::<$word>() = value;
                }
                #[cfg(not(target_arch = "bpf"))]
                // SAFETY: as in `get`.
                unsafe {
                    *self.0.get() = value.to_ne_bytes();
                }
            }
        }
    };
}

field!(
    /// One byte.
    Field8, u8, 1
);
field!(
    /// Two bytes.
    Field16, u16, 2
);
field!(
    /// Four bytes.
    Field32, u32, 4
);
field!(
    /// Eight bytes.
    Field64, u64, 8
);

impl Field16 {
    /// The field in host byte order.
    #[inline(always)]
    pub fn host(&self) -> u16 {
        u16::from_be(self.get())
    }
}

/// An IPv6 address in a header.
#[repr(C)]
pub struct Field128(Field64, Field64);

impl Field128 {
    /// The address, raw.
    #[inline(always)]
    pub fn get(&self) -> [u64; 2] {
        [self.0.get(), self.1.get()]
    }

    /// Replaces the address with a raw value.
    #[inline(always)]
    pub fn set(&self, value: [u64; 2]) {
        self.0.set(value[0]);
        self.1.set(value[1]);
    }
}

/// A MAC address, raw, as the two words in which it is read and written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mac {
    /// First four octets.
    pub head: u32,
    /// Last two octets.
    pub tail: u16,
}

impl Mac {
    /// A MAC address from its octets.
    pub const fn from_octets(o: [u8; 6]) -> Self {
        Self {
            head: u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
            tail: u16::from_ne_bytes([o[4], o[5]]),
        }
    }

    /// Whether it names several stations (IEEE 802, the group bit).
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.head & u32::from_ne_bytes([1, 0, 0, 0]) != 0
    }

    /// The octets.
    pub const fn octets(self) -> [u8; 6] {
        let (h, t) = (self.head.to_ne_bytes(), self.tail.to_ne_bytes());
        [h[0], h[1], h[2], h[3], t[0], t[1]]
    }
}

/// A MAC address in a header.
#[repr(C)]
pub struct FieldMac(Field32, Field16);

impl FieldMac {
    /// The address.
    #[inline(always)]
    pub fn get(&self) -> Mac {
        Mac {
            head: self.0.get(),
            tail: self.1.get(),
        }
    }

    /// Replaces the address.
    #[inline(always)]
    pub fn set(&self, mac: Mac) {
        self.0.set(mac.head);
        self.1.set(mac.tail);
    }
}
