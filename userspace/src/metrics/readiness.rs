//! Whether the node carries traffic, and why not.

use crate::control_plane::{HostInterface, XdpState};

/// What is known of the node.
#[derive(Debug)]
pub struct Condition<'c> {
    /// The daemon was told to end.
    pub is_stopping: bool,
    /// The configuration was applied, and the program attached, once.
    pub is_set_up: bool,
    /// Interfaces that the configuration names.
    pub interfaces: &'c [String],
    /// Those that there are.
    pub host: &'c [HostInterface],
    /// Why the last write to the tables failed, if it did.
    pub stuck: Option<&'c str>,
}

/// A sentence that says why the node does not carry traffic as it should; `None`: it does.
pub fn why_not_ready(condition: &Condition<'_>) -> Option<String> {
    if condition.is_stopping {
        return Some("The daemon is stopping.".to_owned());
    }
    if !condition.is_set_up {
        return Some("The daemon is starting.".to_owned());
    }
    let state = |name: &&String| {
        let mut host = condition.host.iter();
        host.find(|one| one.is_attached() && one.name == **name)
            .map(|one| one.xdp)
    };
    let lacking = |lacks: fn(Option<XdpState>) -> bool| -> Vec<&str> {
        let names = condition.interfaces.iter();
        let names = names.filter(|name| lacks(state(name)));
        names.map(String::as_str).collect()
    };
    let missing = lacking(|state| state.is_none());
    if !missing.is_empty() {
        return Some(format!("There is no interface {}.", missing.join(", ")));
    }
    let bare = lacking(|state| state == Some(XdpState::None));
    if !bare.is_empty() {
        return Some(format!("The program is not on {}.", bare.join(", ")));
    }
    let stuck = condition.stuck?;
    Some(format!("The tables are not up to date: {stuck}."))
}
