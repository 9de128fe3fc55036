//! The page itself: the object of [`crate::manage::status`] as HTML. What a browser shows first is whole without a script.
//!
//! Must not: trust a text. Names and reasons come from files, devices and other people's servers; the template escapes all
//! of them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{Environment, Value as Shown};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::Error;
use super::history::{History, Of, Room};
use super::recent::Recent;
use super::wear;
use super::words::{Language, WORDS};
use crate::clock::Now;
use crate::event::{UtcMicros, json::rfc3339};

const HTML: &str = include_str!("page.html");
const CSS: &str = include_str!("page.css");
const JS: &str = include_str!("page.js");

/// Devices that are named of those that are not configured.
const STRANGERS: usize = 5;

/// What is behind us.
pub(super) struct Past<'a> {
    pub(super) history: &'a History,
    pub(super) max_bytes: u64,
    /// What this process has written, bytes; `None` where the kernel does not say.
    pub(super) written: Option<u64>,
    /// The size of the journal's disk, bytes.
    pub(super) card_bytes: Option<u64>,
}

/// The template, compiled.
pub(super) struct View(Environment<'static>);

impl View {
    pub(super) fn new() -> Result<Self, Error> {
        let mut environment = Environment::new();
        // By its name it is HTML, and everything in it is escaped.
        environment.add_template("page.html", HTML).map_err(|error| Error::Template(error.to_string()))?;
        Ok(Self(environment))
    }

    /// `Content-Security-Policy`: this style, this script, and nothing else.
    pub(super) fn policy(&self) -> String {
        let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
        format!(
            "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash(CSS),
            hash(JS)
        )
    }

    pub(super) fn render(
        &self,
        status: &Value,
        past: &Past<'_>,
        recent: &Recent<'_>,
        language: Language,
        now: Now,
    ) -> Result<String, minijinja::Error> {
        let show = Show { language, now, past };
        let sinks: Vec<Shown> = list(&status["sinks"]).map(|sink| show.sink(sink)).collect();
        let links: Vec<Shown> = list(&status["links"]).map(|link| show.link(link)).collect();
        let notes = show.notes(status);
        let (journal, file) = (show.journal(&status["journal"]), show.file(&status["configuration"]));
        let all = sinks.iter().chain(&links).chain(&notes).chain([&journal, &file]);
        let (gateway, site) = (word(&status["gateway_id"]), word(&status["site_id"]));
        let context = Shown::from_pairs([
            ("lang", Shown::from(language.code())),
            ("title", format!("{gateway} · {site}").into()),
            ("css", Shown::from_safe_string(CSS.to_owned())),
            ("js", Shown::from_safe_string(JS.to_owned())),
            ("w", Shown::from_pairs(WORDS.iter().map(|(key, ..)| (*key, Shown::from(language.word(key)))))),
            ("now", rfc3339(now.wall).as_str().into()),
            ("gateway", gateway.into()),
            ("site", site.into()),
            ("version", word(&status["version"]).into()),
            ("started", show.time(&status["started"])),
            ("health", show.health(all)),
            ("notes", notes.into()),
            ("sinks", sinks.into()),
            ("links", links.into()),
            ("recent", recent.show(&show).into()),
            ("wear", show.wear()),
            ("journal", journal),
            ("file", file),
        ]);
        self.0.get_template("page.html")?.render(context)
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

pub(super) fn object<const N: usize>(entries: [(&'static str, Shown); N]) -> Shown {
    Shown::from_pairs(entries)
}

pub(super) struct Show<'a> {
    pub(super) language: Language,
    now: Now,
    past: &'a Past<'a>,
}

impl Show<'_> {
    fn word(&self, key: &str) -> Shown {
        self.language.word(key).into()
    }

    fn number(&self, value: &Value) -> Shown {
        // What nobody could count is not none.
        value.as_u64().map_or_else(|| "–".into(), |number| self.language.number(number).into())
    }

    /// An age that the script keeps counting; nothing where there is no time.
    pub(super) fn time(&self, value: &Value) -> Shown {
        let Some(at) = value.as_str().and_then(|text| text.parse::<jiff::Timestamp>().ok()) else {
            return Shown::UNDEFINED;
        };
        let at = UtcMicros(at.as_microsecond());
        let (written, ago) = (rfc3339(at), self.language.ago((self.now.wall.0 - at.0).div_euclid(1_000_000)));
        let written = written.as_str();
        Shown::from_safe_string(format!("<time datetime=\"{written}\" title=\"{written}\">{ago}</time>"))
    }

    /// The worst of everything that is shown.
    fn health<'a>(&self, all: impl Iterator<Item = &'a Shown>) -> Shown {
        let (mut class, mut text) = ("good", "all_well");
        for shown in all {
            match shown.get_attr("class").ok().as_ref().and_then(Shown::as_str) {
                Some("bad") => (class, text) = ("bad", "act"),
                Some("warn") if class == "good" => (class, text) = ("warn", "look"),
                _ => {}
            }
        }
        object([("class", class.into()), ("text", self.word(text))])
    }

    fn sink(&self, sink: &Value) -> Shown {
        let key = word(&sink["state"]);
        let quarantined = sink["quarantined"].as_u64().unwrap_or(0);
        let ended = sink["credential"]["state"].as_str().is_some_and(|state| state == "past");
        let class = match key {
            "open" | "blocked" | "gone" | "stopped" => "bad",
            _ if ended => "bad",
            "retrying" => "warn",
            _ if quarantined > 0 || !sink["credential"]["say"].is_null() => "warn",
            _ => "good",
        };
        let advice = self.language.word(&format!("do_{key}")).to_owned();
        let mut why = Vec::new();
        let line = |text: &str, advice: &str| object([("text", text.into()), ("advice", advice.into())]);
        match sink["error"].as_str() {
            Some(error) => why.push(line(error, &advice)),
            None if key == "stopped" => why.push(line(self.language.word("sink_stopped"), &advice)),
            None => {}
        }
        why.extend(sink["waits_for"].as_str().map(|text| line(text, "")));
        why.extend(sink["credential"]["say"].as_str().map(|text| line(text, "")));
        if quarantined > 0 {
            let text = format!("{}: {}", self.language.word("quarantined"), self.language.number(quarantined));
            why.push(line(&text, self.language.word("do_quarantined")));
        }
        object([
            ("name", word(&sink["name"]).into()),
            ("key", key.into()),
            ("class", class.into()),
            ("state", self.word(&format!("sink_{key}"))),
            ("pending", self.number(&sink["pending"])),
            ("delivered", self.number(&sink["delivered"])),
            ("quarantined", self.number(&sink["quarantined"])),
            ("refused", (quarantined > 0).into()),
            ("oldest", self.time(&sink["oldest_pending"])),
            ("last", self.time(&sink["last_delivery"])),
            ("next", self.time(&sink["next_try"])),
            ("rate", self.rate(&Of::Sink(word(&sink["name"]).to_owned()))),
            ("chart", self.chart(&Of::Sink(word(&sink["name"]).to_owned()), "delivered")),
            ("why", why.into()),
        ])
    }

    fn rate(&self, of: &Of) -> Shown {
        let rate = self.past.history.rate(of, self.now.boot);
        rate.map_or_else(|| self.word("not_known"), |(count, micros)| self.language.rate(count, micros).into())
    }

    /// The clock that is worst of a link's devices, and whether somebody should set it.
    fn clock(&self, link: &Value) -> (Shown, bool) {
        let rank = |device: &Value| match device["clock"].as_str() {
            Some("wrong") => 4,
            Some("ahead") => 3,
            Some("behind") => 2,
            Some(_) => 1,
            None => 0,
        };
        let apart = |device: &Value| device["drift_ms"].as_i64().unwrap_or(0).unsigned_abs();
        let known = list(&link["devices"]).filter(|device| rank(device) > 0);
        let Some(worst) = known.max_by_key(|device| (rank(device), apart(device))) else {
            return (Shown::UNDEFINED, false);
        };
        let said = format!("clock_{}", word(&worst["clock"]));
        let said = self.language.word(&said);
        let mut text = match rank(worst) {
            2 | 3 => format!("{} {said}", Language::span(apart(worst) / 1000)),
            _ => said.to_owned(),
        };
        let key = word(&worst["key"]);
        if rank(worst) > 1 && link["devices"].as_array().is_some_and(|devices| devices.len() > 1) {
            text = format!("{key}: {text}");
        }
        (text.into(), rank(worst) > 2)
    }

    fn link(&self, link: &Value) -> Shown {
        let key = word(&link["state"]);
        let (clock, set_it) = self.clock(link);
        let class = match key {
            "down" | "held" => "bad",
            "connecting" => "warn",
            _ if set_it => "warn",
            _ => "good",
        };
        let devices = link["devices"].as_array().map_or(0, Vec::len);
        let offline = list(&link["devices"]).filter(|device| device["online"] == false).count();
        let gaps: u64 = list(&link["devices"]).filter_map(|device| device["gaps"].as_u64()).sum();
        let count = |count: usize| self.language.number(u64::try_from(count).unwrap_or(u64::MAX));
        let shown = match (devices, offline) {
            (0, _) => Shown::UNDEFINED,
            (_, 0) => count(devices).into(),
            _ => format!("{}, {} {}", count(devices), count(offline), self.language.word("offline")).into(),
        };
        let advice = self.language.word(&format!("do_link_{key}")).to_owned();
        let line = |text: &str, advice: &str| object([("text", text.into()), ("advice", advice.into())]);
        let mut why: Vec<Shown> = link["reason"].as_str().map(|text| line(text, &advice)).into_iter().collect();
        if set_it {
            why.push(line(self.language.word("set_clock"), self.language.word("do_clock")));
        }
        object([
            ("name", word(&link["name"]).into()),
            ("protocol", word(&link["protocol"]).into()),
            ("broker", (link["protocol"] == "broker").into()),
            ("key", key.into()),
            ("class", class.into()),
            ("state", self.word(&format!("link_{key}"))),
            ("heard", self.time(&link["last_heard"])),
            ("chart", self.chart(&Of::Link(word(&link["name"]).to_owned()), "heard")),
            ("events", self.number(&link["events"])),
            ("faults", self.number(&link["faults"])),
            ("duplicates", self.number(&link["duplicates"])),
            ("devices", shown),
            ("clock", clock),
            ("set_it", set_it.into()),
            ("gaps", if gaps > 0 { self.language.number(gaps).into() } else { Shown::UNDEFINED }),
            ("why", why.into()),
        ])
    }

    fn notes(&self, status: &Value) -> Vec<Shown> {
        let mut notes = Vec::new();
        let mut note = |class: &str, text: String| notes.push(object([("class", class.into()), ("text", text.into())]));
        let word_of = |key: &str| self.language.word(key).to_owned();
        if let Some(error) = status["journal"]["error"].as_str() {
            note("bad", format!("{}: {error}", word_of("journal_error")));
        }
        if status["clock_synchronised"] == false {
            note("warn", word_of("clock"));
        }
        if let Some(error) = status["directory"]["error"].as_str() {
            note("warn", format!("{}: {error}", word_of("directory_error")));
        }
        if let Some(say) = status["directory"]["credential"]["say"].as_str() {
            note("warn", say.to_owned());
        }
        let strangers: Vec<&str> =
            list(&status["unconfigured"]).map(|device| word(&device["key"])).take(STRANGERS + 1).collect();
        if !strangers.is_empty() {
            let more = if strangers.len() > STRANGERS { ", …" } else { "" };
            let named = strangers.iter().take(STRANGERS).copied().collect::<Vec<_>>().join(", ");
            // A fleet's devices need no table of their own: to know, not to act.
            note("info", format!("{}: {named}{more}", word_of("unconfigured")));
        }
        notes
    }

    fn journal(&self, journal: &Value) -> Shown {
        let max_bytes = self.past.max_bytes;
        let bytes = journal["bytes"].as_u64().unwrap_or(0);
        let class = match bytes {
            _ if !journal["error"].is_null() => "bad",
            _ if bytes > max_bytes / 10 * 9 => "bad",
            _ if bytes > max_bytes / 4 * 3 => "warn",
            _ => "good",
        };
        object([
            ("class", class.into()),
            ("events", self.number(&journal["appended"])),
            ("size", self.language.bytes(bytes).into()),
            ("bound", self.language.bytes(max_bytes).into()),
            ("left", self.room()),
        ])
    }

    fn room(&self) -> Shown {
        let days = |days: u64| format!("{} {}", self.language.number(days), self.language.word("days"));
        match self.past.history.room(self.past.max_bytes) {
            Room::Unknown => self.word("not_known"),
            Room::Days(count) | Room::MoreThan(count) if count > 3_650 => self.word("over_years"),
            Room::Days(count) => days(count).into(),
            Room::MoreThan(count) => format!("{} {}", self.language.word("more_than"), days(count)).into(),
        }
    }

    /// What is written to the journal's disk, and what that is of a card's life.
    fn wear(&self) -> Shown {
        let Some(written) = self.past.written else { return Shown::UNDEFINED };
        let a_day = self.past.history.written_a_day();
        let share = a_day.zip(self.past.card_bytes).map(|(a_day, card)| wear::a_year(a_day, card));
        let card = self.past.card_bytes.map_or_else(|| "–".to_owned(), |card| self.language.bytes(card));
        object([
            ("written", self.language.bytes(written).into()),
            ("a_day", a_day.map_or(Shown::UNDEFINED, |bytes| self.language.bytes(bytes).into())),
            (
                "share",
                share.map_or_else(
                    || self.word("not_known"),
                    |share| format!("{} {}", self.language.percent(share), self.language.word("wear_a_year")).into(),
                ),
            ),
            ("basis", self.language.word("wear_basis").replace("SIZE", &card).into()),
        ])
    }

    /// The last 24 hours of a terminal or a sink, with what its tallest bar stands for.
    fn chart(&self, of: &Of, what: &str) -> Shown {
        let title = format!("{}, {}", self.language.word("chart"), self.language.word(what));
        let Some((svg, most)) = self.past.history.chart(of, &title) else { return Shown::UNDEFINED };
        let most = format!("{} {} / 5 min", self.language.word("at_most"), self.language.number(most));
        Shown::from_safe_string(format!("{svg}<p class=\"chart\"><span>{title}</span><span>{most}</span></p>"))
    }

    fn file(&self, file: &Value) -> Shown {
        let state = word(&file["state"]);
        let remote = &file["remote"];
        let troubled = remote["error"].is_string()
            || remote["say"].is_string()
            || remote["probation"].is_object()
            || ["degraded", "needs_restart"].iter().any(|what| remote[*what].is_array());
        let class = match state {
            "refused" => "bad",
            "running" if !troubled => "good",
            _ => "warn",
        };
        let revision = remote["revision"].as_u64().map(|revision| {
            let trial = if remote["probation"].is_object() { ", on_probation" } else { "" };
            format!("{revision}{}", trial.replace("on_probation", self.language.word("on_probation")))
        });
        let said = list(&file["problems"]).chain(list(&file["needs_restart"])).chain(list(&remote["degraded"]));
        let said = said.chain(list(&remote["needs_restart"])).map(word);
        let said = said.chain(remote["error"].as_str()).chain(remote["say"].as_str()).map(str::to_owned);
        let why: Vec<Shown> = said.map(|text| object([("text", text.into())])).collect();
        object([
            ("class", class.into()),
            ("path", word(&file["file"]).into()),
            ("state", self.word(&format!("file_{state}"))),
            ("read", self.time(&file["read"])),
            ("revision", revision.map_or(Shown::UNDEFINED, Shown::from)),
            ("why", why.into()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::BootTime;
    use crate::journal::Stats;

    fn render(status: &Value, language: Language) -> String {
        let now = Now { wall: UtcMicros(1_795_478_400_000_000), boot: BootTime(0), synchronised: true };
        let past = Past { history: &History::default(), max_bytes: 1 << 30, written: Some(5), card_bytes: None };
        let recent = Recent { events: &[], sinks: &[], people: false };
        View::new().unwrap().render(status, &past, &recent, language, now).unwrap()
    }

    #[test]
    fn a_page_can_be_shown_whatever_is_missing() {
        for status in [json!({}), json!({ "sinks": [{}], "links": [{}], "journal": {}, "configuration": {} })] {
            assert!(render(&status, Language::Spanish).contains("</html>"));
        }
    }

    #[test]
    fn a_name_is_a_text_and_no_markup() {
        let status = json!({ "site_id": "<b>\"'&", "links": [{ "name": "a\" onclick=\"x", "state": "up" }] });
        let page = render(&status, Language::English);
        assert!(!page.contains("<b>\"") && !page.contains("\" onclick"), "{page}");
    }

    #[test]
    fn what_is_written_is_set_against_a_cards_life_with_what_that_is_taken_from() {
        let mut history = History::default();
        let stats = Stats { appended: 0, pruned: 0, faults: 0, blind: 0, conflicts: 0, bytes: 0, sinks: Vec::new() };
        let shown = |history: &History, written, minutes: u64| {
            let wall = UtcMicros(1_795_478_400_000_000);
            let now = Now { wall, boot: BootTime(minutes * 60_000_000), synchronised: true };
            let past = Past { history, max_bytes: 1 << 30, written, card_bytes: Some(32 << 30) };
            let recent = Recent { events: &[], sinks: &[], people: false };
            View::new().unwrap().render(&json!({ "journal": {} }), &past, &recent, Language::English, now).unwrap()
        };
        history.take(BootTime(0), &[], &stats, Some(0));
        let early = shown(&history, Some(5), 0);
        assert!(early.contains("data-field=\"written\">5 B<") && early.contains("data-field=\"wear\">not known yet<"));
        // A quarter of a GiB in six hours is a GiB a day.
        history.take(BootTime(360 * 60_000_000), &[], &stats, Some(1 << 28));
        let later = shown(&history, Some(1 << 28), 360);
        assert!(later.contains("data-field=\"wear\">1.3 % of its rated life a year (1.0 GiB a day)<"), "{later}");
        assert!(later.contains("(32.0 GiB), rated for being written full 900 times"), "{later}");
        assert!(!shown(&history, None, 360).contains("data-field=\"wear\""), "nobody counts");
    }

    #[test]
    fn the_worst_clock_of_a_fleet_is_named_and_set_right() {
        let device = |key: &str, clock: &str, ms: i64| json!({ "key": key, "clock": clock, "drift_ms": ms });
        let fleet = |devices: &[Value]| {
            let link = json!({ "name": "yard", "state": "up", "devices": devices });
            render(&json!({ "links": [link], "configuration": { "state": "running" } }), Language::Spanish)
        };
        let well = fleet(&[device("a", "good", 3), device("b", "good", -900)]);
        assert!(well.contains(">en hora<") && well.contains("card good\" id=\"link-yard"), "{well}");
        let late = fleet(&[device("a", "good", 3), device("b", "behind", -7_300_000)]);
        assert!(late.contains("b: 2 h atrasado, o sus eventos llegan tarde<"), "{late}");
        assert!(late.contains("card good\" id=\"link-yard"), "a lag proves nothing");
        let ahead = fleet(&[device("a", "ahead", 40_000), device("b", "behind", -7_300_000)]);
        assert!(ahead.contains("a: 40 s adelantado<") && ahead.contains("card warn\" id=\"link-yard"), "{ahead}");
    }

    #[test]
    fn the_worst_of_all_is_what_the_page_says_first() {
        let sink = |state: &str| json!({ "name": "vendor", "state": state, "error": "why" });
        let of = |states: &[&str]| {
            let sinks: Vec<Value> = states.iter().map(|state| sink(state)).collect();
            let file = json!({ "state": "running" });
            let page = render(&json!({ "sinks": sinks, "configuration": file }), Language::English);
            let start = page.find("id=\"health\" class=\"pill ").unwrap() + 24;
            page[start..].split('"').next().unwrap().to_owned()
        };
        assert_eq!(
            (of(&["idle"]), of(&["idle", "retrying"]), of(&["open", "retrying"])),
            ("good".into(), "warn".into(), "bad".into())
        );
    }
}
