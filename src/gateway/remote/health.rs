//! How the parts are that a configuration on probation changed.
//!
//! Must not: ask anybody; the boards know.

use crate::deliver::RelayStatus;
use crate::gateway::Parts;
use crate::manage::remote::life::Health;
use crate::terminal::{LinkState, LinkStatus};

/// How a part is, by the name under which a report tells it; `None`: nobody can say.
pub(super) fn health(parts: &Parts, part: &str) -> Option<Health> {
    let (kind, name) = part.strip_suffix('\'')?.split_once(" '")?;
    match kind {
        "sink" => {
            Some(parts.gateway.relays.read().iter().find(|relay| relay.name == name).map_or(Health::Unproven, of_relay))
        }
        "terminal" | "broker" => {
            Some(parts.gateway.links.read().iter().find(|link| link.name == name).map_or(Health::Unproven, of_link))
        }
        _ => None,
    }
}

fn of_relay(relay: &RelayStatus) -> Health {
    match (&relay.error, relay.last_delivery) {
        (Some(error), _) => Health::Sick(error.clone()),
        (None, Some(_)) => Health::Well,
        (None, None) => Health::Unproven,
    }
}

fn of_link(link: &LinkStatus) -> Health {
    match &link.state {
        LinkState::Up => Health::Well,
        LinkState::Connecting => Health::Unproven,
        LinkState::Down(reason) | LinkState::Held(reason) => Health::Sick(reason.clone()),
    }
}
