//! What an answer means where the configuration says so: ordered rules, the first match wins.
//!
//! Must not: take anything for success that no rule declared as success, log, or do I/O. There is no code in the rules and
//! no regular expression: statuses, places, comparisons.
//!
//! Without any rule the table of `rules.rs` holds. With rules:
//!
//! | Answer | Meaning |
//! |---|---|
//! | `items.at` is an array in it, whatever the status | each item's own verdict |
//! | a rule matches | that rule's verdict |
//! | no rule matches, 2xx | unreadable: the bytes again, then blocked, never a success |
//! | a rule looks at the body, and there is none that can be read (empty, cut, HTML, longer than 64 KiB) | unreadable |
//! | no rule matches, any other status | as in `rules.rs` |

mod document;

mod items;

mod wait;

use reqwest::header::HeaderMap;
use serde_json::Value;

use self::document::Document;
pub(super) use self::document::text_of;
pub use self::document::{Place, Test};
pub use self::items::{Counts, Items, Key, Missing, Short};
pub(super) use self::wait::used_up;
pub use self::wait::{Unit, Wait};
use super::exchange::Answer;
use super::rules;
use crate::deliver::{Cause, Outcome, THEIRS, UNKNOWN_WORKER, Verdict, answer};
use crate::event::UtcMicros;

/// Longest part of a sink's words in a reason, characters; the rest stands in the kept answer.
const REASON_CHARS: usize = 160;

/// All answer rules of one sink.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Ordered; the first match wins.
    pub answers: Vec<Rule>,
    /// How the body is read.
    pub format: Format,
    /// Pointers to texts that hold JSON.
    pub unwrap: Vec<String>,
    /// Verdicts per item.
    pub items: Option<Items>,
    /// Counts instead of verdicts.
    pub counts: Option<Counts>,
    /// Where the answer says how long to wait.
    pub waits: Vec<Wait>,
}

impl Rules {
    /// Nothing is declared: the table of the plain default sink holds.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.items.is_none() && self.counts.is_none()
    }
}

/// How a body is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// As JSON.
    #[default]
    Json,
    /// As one text, which the pointer `""` names. HTML is none.
    Text,
}

/// `[[sink.answer]]`, `[[sink.items.answer]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Inclusive ranges of statuses; empty means any.
    pub status: Vec<(u16, u16)>,
    /// All of them must hold.
    pub when: Vec<(Place, Test)>,
    /// What it then means.
    pub verdict: Say,
    /// Where the sink says why.
    pub reason: Option<Place>,
    /// Where the sink says what it calls the event.
    pub remote_id: Option<Place>,
}

/// `verdict = …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    /// It arrived.
    Delivered,
    /// It had arrived before.
    Duplicate,
    /// The sink's fault: again.
    Retry,
    /// Too many at once: again, when the answer says so.
    Throttle,
    /// Not decided yet: ask again where the answer says.
    Pending,
    /// Can't be told from this answer: ask whether it is there.
    Lookup,
    /// Unacceptable.
    Reject,
    /// The worker is unknown.
    UnknownWorker,
    /// The session is over: log in again, once.
    Relogin,
    /// Our fault.
    Block,
    /// The sink is gone.
    Gone,
}

impl Say {
    /// Whether an event is done with, or the sink.
    const fn settles(self) -> bool {
        !matches!(self, Self::Retry | Self::Throttle | Self::Relogin | Self::Block | Self::Pending)
    }
}

/// The words of `verdict = …`.
pub const VERDICTS: &[(&str, Say)] = &[
    ("delivered", Say::Delivered),
    ("duplicate", Say::Duplicate),
    ("retry", Say::Retry),
    ("throttle", Say::Throttle),
    ("pending", Say::Pending),
    ("lookup", Say::Lookup),
    ("reject", Say::Reject),
    ("unknown_worker", Say::UnknownWorker),
    ("relogin", Say::Relogin),
    ("block", Say::Block),
    ("gone", Say::Gone),
];

/// What an answer was found to mean.
#[derive(Debug, PartialEq, Eq)]
pub enum Finding {
    /// That's it.
    Outcome(Outcome),
    /// It proves nothing. `foreign`: it does not look like the sink's own answer (a login page), so the request did not
    /// arrive there either.
    Unreadable {
        /// What was seen, with the first bytes, scrubbed.
        reason: String,
        /// Somebody else answered.
        foreign: bool,
    },
    /// The sink's fault, and the request may have been carried out all the same: a middleman lost the answer.
    Doubt {
        /// What was seen.
        reason: String,
        /// What the sink asked for.
        after: Option<std::time::Duration>,
    },
    /// Fewer were taken than sent, and nobody says which.
    Short {
        /// What was seen.
        reason: String,
        /// The sink's words.
        answer: String,
    },
    /// To be asked for again.
    Pending {
        /// What the sink calls it, for the address to ask at.
        id: Option<String>,
        /// `Location`.
        location: Option<String>,
    },
    /// To be looked up: found is a duplicate, absent is a rejection with these words.
    Lookup {
        /// Why it would be rejected.
        reason: String,
        /// The sink's words.
        answer: String,
    },
    /// Log in again and send once more; if that does not help, it is blocked for this reason.
    Relogin {
        /// Why.
        reason: String,
    },
}

/// What an answer is judged against.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// How many events were sent.
    pub count: usize,
    /// What was sent, item by item, in order; may be empty where no rule compares with it.
    pub items: &'a [Value],
}

/// Judges an answer. `now` stands in for an absent `Date` header, `secrets` are masked where the answer echoes them.
pub(super) fn judge(rules: &Rules, reply: &Answer, sent: Sent<'_>, now: UtcMicros, secrets: &[&str]) -> Finding {
    if rules.is_empty() {
        return Finding::Outcome(rules::judge(reply, now, secrets));
    }
    let document = Document::read(reply, rules.format, &rules.unwrap);
    let judge = Judge { rules, reply, sent, now, secrets, document: &document };
    if let Some(items) = &rules.items
        && let Some(found) = judge.document.value().and_then(|value| items.find(value))
    {
        return judge.items(items, found);
    }
    let mut blind = false;
    for rule in rules.answers.iter().filter(|rule| covers(&rule.status, reply.status)) {
        match judge.document.holds(&rule.when, &reply.headers) {
            // A rule before it might have matched, had there been a body: nothing is settled past it.
            Some(true) if blind && rule.verdict.settles() => break,
            Some(true) => return judge.apply(rule),
            Some(false) => {}
            None => blind = true,
        }
    }
    judge.unlisted(blind)
}

pub(super) fn covers(ranges: &[(u16, u16)], status: u16) -> bool {
    ranges.is_empty() || ranges.iter().any(|(from, to)| (*from..=*to).contains(&status))
}

/// One answer being judged.
struct Judge<'a> {
    rules: &'a Rules,
    reply: &'a Answer,
    sent: Sent<'a>,
    now: UtcMicros,
    secrets: &'a [&'a str],
    document: &'a Document,
}

impl Judge<'_> {
    fn apply(&self, rule: &Rule) -> Finding {
        let status = self.reply.status;
        let words = rule.reason.as_ref().and_then(|place| self.words_at(place));
        let said = |what: &str| match &words {
            Some(words) => format!("{what}: {}", quoted(words)),
            None => what.to_owned(),
        };
        let answered = || said(&format!("the server answered {status}"));
        match rule.verdict {
            Say::Delivered | Say::Duplicate => self.success(rule),
            Say::Retry => Finding::Outcome(Outcome::Retry {
                reason: answered(),
                after: wait::wish(self.rules, self.reply, self.now),
            }),
            Say::Throttle => {
                let after = wait::wish(self.rules, self.reply, self.now);
                let reason = said(&format!("the server asks us to wait (status {status})"));
                Finding::Outcome(Outcome::Retry { reason, after })
            }
            Say::Pending => Finding::Pending {
                id: rule.remote_id.as_ref().and_then(|place| self.place(place)),
                location: header(&self.reply.headers, "location").map(str::to_owned),
            },
            Say::Lookup => {
                Finding::Lookup { reason: self.refusal(Cause::Content, words.as_deref()), answer: self.kept() }
            }
            Say::Reject => self.refuse(Cause::Content, words.as_deref()),
            Say::UnknownWorker => self.refuse(Cause::UnknownWorker, words.as_deref()),
            Say::Relogin => Finding::Relogin { reason: answered() },
            Say::Block => Finding::Outcome(Outcome::Blocked { reason: answered() }),
            Say::Gone => Finding::Outcome(Outcome::Gone { reason: answered() }),
        }
    }

    /// A declared success still has to be an answer of the sink: whole, and readable if there is a body.
    fn success(&self, rule: &Rule) -> Finding {
        if let Some(trouble) = self.document.trouble().filter(|trouble| !trouble.is_empty_body()) {
            return self.unreadable(trouble.as_str(), trouble.is_foreign());
        }
        let duplicate = rule.verdict == Say::Duplicate;
        if let (Some(counts), false) = (&self.rules.counts, duplicate) {
            return self.counted(counts);
        }
        let remote_id = rule.remote_id.as_ref().filter(|_| self.sent.count == 1).and_then(|place| self.place(place));
        Finding::Outcome(Outcome::Settled(vec![confirmed(duplicate, remote_id); self.sent.count]))
    }

    /// The whole batch is refused: proof for a lone event, else to be split.
    fn refuse(&self, cause: Cause, words: Option<&str>) -> Finding {
        let (reason, answer) = (self.refusal(cause, words), self.kept());
        Finding::Outcome(match self.sent.count {
            1 => Outcome::Settled(vec![Verdict::Rejected { cause, reason, answer }]),
            _ => Outcome::Refused { reason, answer },
        })
    }

    fn refusal(&self, cause: Cause, words: Option<&str>) -> String {
        let status = format!("http {}", self.reply.status);
        let ours = if cause == Cause::UnknownWorker { UNKNOWN_WORKER } else { &status };
        match words {
            Some(words) => format!("{ours}: {words}"),
            None => ours.to_owned(),
        }
    }

    /// No rule matched. `blind`: one would perhaps have, had there been a body to read.
    fn unlisted(&self, blind: bool) -> Finding {
        let status = self.reply.status;
        let success = (200..300).contains(&status);
        if success && !blind && self.rules.answers.is_empty() {
            // Only items or counts are declared.
            match (self.document.trouble(), &self.rules.counts) {
                (Some(trouble), _) => return self.unreadable(trouble.as_str(), trouble.is_foreign()),
                (None, Some(counts)) => return self.counted(counts),
                (None, None) => return self.unreadable("it has no list of items where one is declared", false),
            }
        }
        let ordinary = rules::judge(self.reply, self.now, self.secrets);
        match ordinary {
            // The sink's fault is that whatever the body says.
            Outcome::Retry { reason, .. } if !success => {
                let after = wait::wish(self.rules, self.reply, self.now);
                match status {
                    500 | 502 | 504 | 520..=599 => Finding::Doubt { reason, after },
                    _ => Finding::Outcome(Outcome::Retry { reason, after }),
                }
            }
            // A page of a proxy's proves nothing of an event.
            Outcome::Refused { .. } if self.document.trouble().is_some_and(|trouble| trouble.is_foreign()) => {
                self.unreadable("it is a web page: a proxy or a login page stands between", true)
            }
            _ if blind || success => match self.document.trouble() {
                Some(trouble) => self.unreadable(trouble.as_str(), trouble.is_foreign()),
                None => self.unreadable("it fits no rule", false),
            },
            other => Finding::Outcome(other),
        }
    }

    fn unreadable(&self, what: &str, foreign: bool) -> Finding {
        let first: String = self.kept().chars().take(REASON_CHARS).collect();
        let status = self.reply.status;
        let begins = if first.is_empty() { String::new() } else { format!("; it begins with: {}", quoted(&first)) };
        Finding::Unreadable { reason: format!("the answer {status} proves nothing, {what}{begins}"), foreign }
    }

    fn kept(&self) -> String {
        answer::keep(&String::from_utf8_lossy(&self.reply.body), self.secrets)
    }

    fn place(&self, place: &Place) -> Option<String> {
        match place {
            Place::Header(name) => header(&self.reply.headers, name).map(str::to_owned),
            Place::Body(pointer) => text_of(self.document.value()?.pointer(pointer)?),
        }
        .filter(|text| !text.is_empty())
    }

    fn words_at(&self, place: &Place) -> Option<String> {
        self.place(place).map(|text| self.scrubbed(&text))
    }

    fn scrubbed(&self, text: &str) -> String {
        answer::keep(text, self.secrets).chars().take(REASON_CHARS).collect()
    }
}

fn confirmed(duplicate: bool, remote_id: Option<String>) -> Verdict {
    // An id is kept with the delivery one day: no longer than any id has a right to be.
    let remote_id = remote_id.map(|id| id.chars().take(REASON_CHARS).collect());
    Verdict::Confirmed { duplicate, remote_id }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A sink's own words within a sentence of ours, in the quotation marks at which a log line ends ([`THEIRS`]).
fn quoted(words: &str) -> String {
    format!("{THEIRS}{}»", plain(words).replace(['«', '»'], "\""))
}

/// A sink's words without longer runs of digits, which may be somebody's number (I7).
fn plain(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    let mut digits = String::new();
    for c in words.chars().chain(['\0']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() > 4 { "#" } else { &digits });
        digits.clear();
        if c != '\0' {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests;
