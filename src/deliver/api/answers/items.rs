//! Answers that speak of each item, or only count them.
//!
//! Must not: guess which item is meant. Where that can't be told the whole answer proves nothing.

use std::collections::HashMap;

use serde_json::Value;

use super::document::{item_holds, text_of};
use super::{Finding, Judge, Place, Rule, Say, confirmed, covers};
use crate::deliver::{Cause, Outcome, Verdict, answer};

/// `[sink.items]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Items {
    /// Pointers to the array; the first that is one counts.
    pub at: Vec<String>,
    /// Which event an item speaks of.
    pub key: Key,
    /// Rules of the items; what fits none stays pending.
    pub answers: Vec<Rule>,
    /// What it means that an event is not spoken of.
    pub missing: Missing,
}

/// Which event an item speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// The one in the same place.
    Index,
    /// The one whose sent field equals a field of the item.
    Field {
        /// Pointer into the item of the answer.
        response: String,
        /// Pointer into the item as it was sent.
        sent: String,
    },
}

/// What it means that an event is not spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// It stays pending.
    #[default]
    Retry,
    /// It arrived: the sink speaks only of trouble.
    Delivered,
    /// It was refused: the sink speaks only of successes.
    Reject,
}

/// `[sink.counts]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counts {
    /// Pointer to how many were taken.
    pub accepted: String,
    /// Pointer to how many were there already.
    pub duplicate: Option<String>,
    /// Pointer to how many were refused.
    pub rejected: Option<String>,
    /// What it means that fewer were taken than sent.
    pub short: Short,
}

/// What a count below what was sent means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Short {
    /// Nobody knows which: the batch is split.
    #[default]
    Split,
    /// The first ones were taken.
    Prefix,
}

impl Items {
    /// The items, where the answer has them.
    pub(super) fn find<'v>(&self, value: &'v Value) -> Option<&'v Vec<Value>> {
        self.at.iter().find_map(|at| value.pointer(at)?.as_array())
    }
}

impl Judge<'_> {
    /// One verdict an event.
    pub(super) fn items(&self, items: &Items, found: &[Value]) -> Finding {
        let Some(spoken) = self.assign(&items.key, found) else {
            return self.unreadable("its items do not fit what was sent", false);
        };
        let verdicts = spoken.into_iter().map(|item| match item {
            Some(item) => self.item(items, item),
            None => match items.missing {
                Missing::Retry => Verdict::Keep,
                // Silence means what is declared only where the sink has judged the batch at all.
                _ if !matches!(self.reply.status, 200..=299 | 400 | 422) => Verdict::Keep,
                Missing::Delivered => Verdict::Delivered,
                Missing::Reject => Verdict::Rejected {
                    cause: Cause::Content,
                    reason: format!("http {}: the answer does not speak of it", self.reply.status),
                    answer: self.kept(),
                },
            },
        });
        Finding::Outcome(Outcome::Settled(verdicts.collect()))
    }

    /// For each event its item; `None` if it can't be told.
    fn assign<'v>(&self, key: &Key, found: &'v [Value]) -> Option<Vec<Option<&'v Value>>> {
        match key {
            Key::Index => (found.len() == self.sent.count).then(|| found.iter().map(Some).collect()),
            Key::Field { response, sent } => {
                if self.sent.items.len() != self.sent.count || found.len() > self.sent.count {
                    return None;
                }
                // Events with the same key are spoken of in their order.
                let mut waiting: HashMap<String, Vec<usize>> = HashMap::new();
                for (index, item) in self.sent.items.iter().enumerate().rev() {
                    waiting.entry(text_of(item.pointer(sent)?)?).or_default().push(index);
                }
                let mut spoken = vec![None; self.sent.count];
                for item in found {
                    let index = waiting.get_mut(&text_of(item.pointer(response)?)?)?.pop()?;
                    *spoken.get_mut(index)? = Some(item);
                }
                Some(spoken)
            }
        }
    }

    fn item(&self, items: &Items, item: &Value) -> Verdict {
        let rule = items
            .answers
            .iter()
            .find(|rule| covers(&rule.status, self.reply.status) && item_holds(item, &rule.when, &self.reply.headers));
        let Some(rule) = rule else { return Verdict::Keep };
        let text = |place: &Place| match place {
            Place::Body(pointer) => text_of(item.pointer(pointer)?),
            Place::Header(_) => self.place(place),
        };
        let rejected = |cause: Cause| {
            let words = rule.reason.as_ref().and_then(text).map(|words| self.scrubbed(&words));
            let reason = self.refusal(cause, words.as_deref());
            Verdict::Rejected { cause, reason, answer: answer::keep(&item.to_string(), self.secrets) }
        };
        match rule.verdict {
            Say::Delivered => confirmed(false, rule.remote_id.as_ref().and_then(text)),
            Say::Duplicate => confirmed(true, rule.remote_id.as_ref().and_then(text)),
            Say::Reject => rejected(Cause::Content),
            Say::UnknownWorker => rejected(Cause::UnknownWorker),
            // Whatever else is said of one item, the event stays; configuration allows only `retry` here.
            _ => Verdict::Keep,
        }
    }

    /// Counts against what was sent.
    pub(super) fn counted(&self, counts: &Counts) -> Finding {
        let number = |pointer: &str| {
            let value = self.document.value()?.pointer(pointer)?;
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        };
        let optional = |pointer: &Option<String>| match pointer {
            Some(pointer) => match self.document.value().and_then(|value| value.pointer(pointer)) {
                None => Some(0),
                Some(_) => number(pointer),
            },
            None => Some(0),
        };
        let sent = self.sent.count;
        let (Some(accepted), Some(duplicate), Some(rejected)) =
            (number(&counts.accepted), optional(&counts.duplicate), optional(&counts.rejected))
        else {
            return self.unreadable("it has no counts where they are declared", false);
        };
        let taken = accepted.saturating_add(duplicate);
        if taken.saturating_add(rejected) > sent {
            return self.unreadable("it counts more than was sent", false);
        }
        let settled = |verdicts| Finding::Outcome(Outcome::Settled(verdicts));
        if taken == sent {
            return settled(vec![confirmed(duplicate == sent && sent > 0, None); sent]);
        }
        let reason = format!("http {}: counted as refused", self.reply.status);
        match (sent, counts.short) {
            (1, _) if rejected == 1 => {
                settled(vec![Verdict::Rejected { cause: Cause::Content, reason, answer: self.kept() }])
            }
            (1, _) => self.unreadable("it counts nothing", false),
            (_, Short::Prefix) => {
                let mut verdicts = vec![Verdict::Delivered; taken];
                verdicts.resize(sent, Verdict::Keep);
                settled(verdicts)
            }
            (_, Short::Split) => Finding::Short { reason, answer: self.kept() },
        }
    }
}
