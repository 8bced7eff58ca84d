//! Functions that the verifier follows once and by themselves, not once more for every way that leads to them: what
//! the compiler calls global, with numbers and pointers to plain structures for arguments (Linux 5.13).

use core::ptr::NonNull;

use forebay_common::family::{V4, V6};
use forebay_common::flow::{Flow, FlowRef};
use forebay_common::pipeline::{self, News};

use crate::kernel::FibFamily;
use crate::maps::Maps;
use crate::tables::{AllTables, FormerTables, KernelTables};

/// A family's functions. `former`: those that a program calls which has the former flow table in the place of the
/// flow table.
pub(crate) trait Apart: Sized {
    fn settle(news: &News, pair_is_at_hand: bool);
    fn record(flow: FlowRef<'_, Self>, protocol_events: u32, sequence: u32, former: bool);
    fn touch(flow: FlowRef<'_, Self>, protocol: u32, former: bool);
    fn range_of(first: u32, ranges: u32, ordinal: u32) -> u32;
}

macro_rules! apart {
    ($family:ty, $settle:ident, $record:ident, $record_former:ident, $touch:ident, $touch_former:ident, $range_of:ident) => {
        impl Apart for $family {
            #[inline(always)]
            fn settle(news: &News, pair_is_at_hand: bool) {
                let News {
                    flags,
                    sequence,
                    end,
                    acknowledgement,
                } = *news;
                $settle(
                    flags,
                    sequence,
                    end,
                    acknowledgement,
                    pair_is_at_hand.into(),
                );
            }

            #[inline(always)]
            fn record(flow: FlowRef<'_, Self>, protocol_events: u32, sequence: u32, former: bool) {
                let record = if former { $record_former } else { $record };
                record(flow.entry().as_ptr(), protocol_events, sequence);
            }

            #[inline(always)]
            fn touch(flow: FlowRef<'_, Self>, protocol: u32, former: bool) {
                let touch = if former { $touch_former } else { $touch };
                touch(flow.entry().as_ptr(), protocol);
            }

            #[inline(always)]
            fn range_of(first: u32, ranges: u32, ordinal: u32) -> u32 {
                $range_of(first, ranges, ordinal)
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $settle(
            flags: u32,
            sequence: u32,
            end: u32,
            acknowledgement: u32,
            pair_is_at_hand: u32,
        ) -> u32 {
            let news = News {
                flags,
                sequence,
                end,
                acknowledgement,
            };
            let tables = KernelTables::without_context();
            pipeline::settle::<$family, _>(&tables, &news, pair_is_at_hand != 0);
            0
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $record(
            flow: *mut Flow<$family>,
            protocol_events: u32,
            sequence: u32,
        ) -> u32 {
            record(
                &KernelTables::without_context(),
                flow,
                protocol_events,
                sequence,
            )
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $record_former(
            flow: *mut Flow<$family>,
            protocol_events: u32,
            sequence: u32,
        ) -> u32 {
            record(
                &FormerTables::without_context(),
                flow,
                protocol_events,
                sequence,
            )
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $touch(flow: *mut Flow<$family>, protocol: u32) -> u32 {
            touch(&KernelTables::without_context(), flow, protocol)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $touch_former(flow: *mut Flow<$family>, protocol: u32) -> u32 {
            touch(&FormerTables::without_context(), flow, protocol)
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $range_of(first: u32, ranges: u32, ordinal: u32) -> u32 {
            let tables = KernelTables::without_context();
            pipeline::range_of::<$family, _>(&tables, first, ranges, ordinal)
        }
    };
}

apart!(
    V4,
    settle4,
    record4,
    record_former4,
    touch4,
    touch_former4,
    range_of4
);
apart!(
    V6,
    settle6,
    record6,
    record_former6,
    touch6,
    touch_former6,
    range_of6
);

#[inline(always)]
fn record<A: Maps + FibFamily, const FORMER: bool>(
    tables: &AllTables<FORMER>,
    flow: *mut Flow<A>,
    protocol_events: u32,
    sequence: u32,
) -> u32 {
    if let Some(flow) = entry(flow) {
        pipeline::record(tables, flow, protocol_events, sequence);
    }
    0
}

#[inline(always)]
fn touch<A: Maps + FibFamily, const FORMER: bool>(
    tables: &AllTables<FORMER>,
    flow: *mut Flow<A>,
    protocol: u32,
) -> u32 {
    if let Some(flow) = entry(flow) {
        pipeline::touch(tables, flow, protocol);
    }
    0
}

/// VERIFIER: by itself, a function may be called with no pointer.
#[inline(always)]
fn entry<'t, A: Maps>(flow: *mut Flow<A>) -> Option<FlowRef<'t, A>> {
    // SAFETY: callers pass an entry of which they hold a `FlowRef`.
    NonNull::new(flow).map(|flow| unsafe { FlowRef::new(flow) })
}
