//! Names that become records: two of one name, and names that cannot be labels.

use std::collections::HashMap;

use super::Check;
use crate::config::values::text::{DNS_LABEL_RULE, is_dns_label};

pub(super) fn check(check: &Check<'_>) {
    let mut owners: HashMap<String, (String, usize)> = HashMap::new();
    if check.draft.dns.is_some() {
        for frontend in check
            .draft
            .frontends
            .iter()
            .filter(|frontend| !frontend.value.has_prefix())
        {
            let (name, place) = (&frontend.value.name, &frontend.place);
            if is_dns_label(name) {
                owners.insert(name.to_lowercase(), (place.path.clone(), place.line));
            } else {
                let message = format!(
                    "with [dns] a frontend becomes <name>.<zone>: a label {DNS_LABEL_RULE}"
                );
                check
                    .source
                    .error(place.at("name"), "a name that the DNS can have", message);
            }
        }
    }
    for public_ip in &check.draft.public_ips {
        let Some(label) = &public_ip.value.dns_label else {
            continue;
        };
        let place = &public_ip.place;
        if let Some((owner, line)) = owners.get(label) {
            let message = format!("{owner} (line {line}) has this name in the zone already");
            let expected = "a label that nothing else has";
            check.source.error(place.at("dns_label"), expected, message);
        } else {
            owners.insert(label.clone(), (place.path.clone(), place.line));
        }
    }
}
