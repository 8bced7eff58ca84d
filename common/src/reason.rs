//! Every way a packet can leave the program, in one list.
//!
//! A [`Reason`] is the index of a counter, the `reason` label of a metric, a line of `forebay show
//! drops` and a line of `docs/reasons.md`. The list is the single source of all four.

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It leaves by a NIC, translated.
    Forward,
    /// It goes to the kernel of the host.
    Pass,
    /// It goes no further.
    Drop,
    /// It goes back to its sender as an answer of the node.
    Answer,
    /// It is of the node itself, and no part of the traffic.
    Own,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $label:literal, $fate:ident;)*) => {
        /// Why a packet left the program the way it did. Numbers are stable: pinned counters hold them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum Reason { $($(#[doc = $doc])+ $name = $number,)* }

        impl Reason {
            /// Every reason, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name in output and metrics.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// What becomes of the packet.
            #[inline(always)]
            pub const fn fate(self) -> Fate {
                match self { $(Self::$name => Fate::$fate,)* }
            }

            /// What it means, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc),+).trim_ascii(),)* }
            }
        }
    };
}

reasons! {
    /// Translated and sent on by a NIC.
    Forwarded = 0, "forwarded", Forward;
    /// Translated and handed to the kernel, which resolves the next hop or owns the way out.
    ForwardedByKernel = 1, "forwarded-by-kernel", Pass;
    /// ARP request or neighbour solicitation for an owned on-link address, answered.
    NeighborAnswered = 2, "neighbor-answered", Answer;
    /// An ICMP error about a translated packet, translated like it and sent on.
    IcmpTranslated = 3, "icmp-translated", Forward;
    /// Echo request to a frontend, answered.
    EchoAnswered = 4, "echo-answered", Answer;
    /// TTL or hop limit is used up; the sender was told.
    TimeExceededSent = 5, "time-exceeded-sent", Answer;
    /// Longer than the MTU of the way out; the sender was told.
    TooBigSent = 6, "too-big-sent", Answer;
    /// Echo request to a frontend none of whose members takes flows; the sender was told.
    UnreachableSent = 7, "unreachable-sent", Answer;
    /// From an instance to a destination towards which no SNAT port is free; the sender was told.
    SnatRefused = 8, "snat-refused", Answer;
    /// From an instance to the outside, in the middle of a TCP connection that the node does not know; answered by a RST.
    ResetSent = 9, "reset-sent", Answer;

    /// Neither source nor destination is a frontend or an instance.
    NotOurs = 16, "not-ours", Pass;
    /// Neither IPv4, IPv6 nor ARP.
    NotIp = 17, "not-ip", Pass;
    /// ARP or neighbour discovery that is not about an owned on-link address.
    NeighborNotOurs = 18, "neighbor-not-ours", Pass;
    /// From an instance to the virtual network, to the host itself or to a link-local or multicast address.
    InstanceLocal = 19, "instance-local", Pass;
    /// To an instance from the virtual network, or from outside while `allow_direct` is set.
    DirectAllowed = 20, "direct-allowed", Pass;
    /// The program has no settings yet.
    NotConfigured = 21, "not-configured", Pass;
    /// Shorter than its Ethernet header and tags.
    Runt = 22, "runt", Pass;
    /// To a frontend that shares the host's own address, without a rule or a flow.
    SharedToHost = 23, "shared-to-host", Pass;

    /// To a frontend, on a port without a rule.
    NoRule = 32, "no-rule", Drop;
    /// The rule's pool has no member that takes new flows.
    NoBackend = 33, "no-backend", Drop;
    /// A TCP RST to a frontend that belongs to no flow.
    NoFlow = 34, "no-flow", Drop;
    /// The flow table is full.
    FlowTableFull = 35, "flow-table-full", Drop;
    /// Another flow holds the reply tuple on every ring slot that was tried: one client port towards two frontends with one backend port.
    ReplyTupleTaken = 36, "reply-tuple-taken", Drop;
    /// The tuple is held by a flow that has just ended and is being removed.
    FlowEnding = 37, "flow-ending", Drop;
    /// From an instance to the outside without a way out.
    NoOutbound = 38, "no-outbound", Drop;
    /// From outside straight to the private address of an instance.
    DirectToInstance = 39, "direct-to-instance", Drop;
    /// To a frontend, with a source that can have no flow: not unicast, link-local, loopback, a frontend itself, or an instance that is not behind this interface.
    BadSource = 40, "bad-source", Drop;
    /// Its source opens more flows than `new_flows_per_second_per_source` allows.
    NewFlowLimit = 41, "new-flow-limit", Drop;

    /// From an instance: no SNAT port is free towards the destination.
    SnatExhausted = 42, "snat-exhausted", Drop;
    /// From an instance: none of the first thousand SNAT ports is free towards the destination; the sender's next attempt goes on from there.
    SnatSearching = 43, "snat-searching", Drop;
    /// From an instance to the outside, in the middle of a TCP connection that the node does not know.
    UnknownConnection = 44, "unknown-connection", Drop;
    /// To a SNAT port, from somebody whom its filtering does not let in.
    Unsolicited = 45, "unsolicited", Drop;

    /// Version or header length of the IP header is wrong.
    BadIpHeader = 48, "bad-ip-header", Drop;
    /// A length field contradicts the headers.
    BadLength = 49, "bad-length", Drop;
    /// The frame ends within its transport header.
    Truncated = 50, "truncated", Drop;
    /// A later fragment whose first fragment has not come, or came more than two seconds ago.
    FragmentWithoutFirst = 51, "fragment-without-first", Drop;
    /// More than eight IPv6 extension headers, or a routing header that is not used up, in a packet to a frontend.
    ExtensionHeader = 52, "extension-header", Drop;
    /// A protocol to a frontend that no rule can carry.
    Protocol = 53, "protocol", Drop;
    /// A neighbour solicitation for an owned address in a form that the node does not answer.
    NeighborUnanswerable = 54, "neighbor-unanswerable", Drop;
    /// A fragment that overlaps one that came before it.
    FragmentOverlap = 55, "fragment-overlap", Drop;
    /// A first fragment without the whole TCP or UDP header.
    FragmentTiny = 56, "fragment-tiny", Drop;
    /// Echo request to a frontend that has no rule, or whose `ping` is off.
    EchoUnanswered = 57, "echo-unanswered", Drop;
    /// An ICMP error that quotes too little, or a packet that this node never sent on.
    IcmpQuote = 58, "icmp-quote", Drop;
    /// An answer that was not given because its asker got too many.
    AnswerLimit = 59, "answer-limit", Drop;

    /// TTL or hop limit is used up.
    HopsExceeded = 64, "hops-exceeded", Drop;
    /// Longer than the MTU of the way out.
    TooBig = 65, "too-big", Drop;
    /// The host has no route to the destination, or is the destination itself.
    NoRoute = 66, "no-route", Drop;
    /// VLAN tagged in a way that the host has no device for, and the way out is another NIC.
    VlanCrossing = 67, "vlan-crossing", Drop;
    /// The neighbour on the way out is not resolved, and the kernel would send redirects if it were asked to.
    NeighborUnknown = 68, "neighbor-unknown", Drop;
    /// The frame has no room for the headers that must be added.
    NoRoom = 69, "no-room", Drop;
    /// A part of the program that the packet needs is not loaded.
    NotLoaded = 70, "not-loaded", Drop;

    /// A trial of a rule by the node itself, or the answer to one, which is caught.
    Trial = 71, "trial", Own;
}

/// Number of counters: reasons are below it.
pub const REASON_SLOTS: u32 = 128;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_labels_are_unique_and_fit_the_counters() {
        let numbers: BTreeSet<u32> = Reason::ALL.iter().map(|r| *r as u32).collect();
        let labels: BTreeSet<&str> = Reason::ALL.iter().map(|r| r.label()).collect();
        assert_eq!(numbers.len(), Reason::ALL.len());
        assert_eq!(labels.len(), Reason::ALL.len());
        assert!(numbers.iter().all(|n| *n < REASON_SLOTS));
    }

    #[test]
    fn labels_are_kebab_case_and_meanings_are_sentences() {
        for reason in Reason::ALL {
            let label = reason.label();
            assert!(
                label
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                "{label}"
            );
            assert!(
                reason.meaning().ends_with('.'),
                "{label}: {}",
                reason.meaning()
            );
            assert!(!reason.meaning().starts_with(' '), "{label}");
        }
    }
}
