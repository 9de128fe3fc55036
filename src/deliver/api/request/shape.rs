//! Events into a request: what `[sink.request]` and `[sink.map]` say, ready to be used.
//!
//! Must not: give other bytes for the same events, unless an event's age decides where it goes: then the request must be
//! kept before it leaves, and [`Mapper::must_be_kept`] says so.

use std::collections::{BTreeMap, HashSet};

use super::body::{Frame, cloud_event};
use super::outgoing::{Outgoing, Sent};
use super::path::{self, Path};
use super::{Body, Late, Request, Then};
use crate::clock::Now;
use crate::deliver::api::mapping::{Item, Mapping, Origin, Rule, Scalar, Single, Subject, Unmappable};
use crate::journal::Record;

/// An item larger than this is rare; batches that fit even if all were so large aren't measured, bytes. One that is too
/// large after all is refused before it leaves, and split.
const ROOMY: usize = 2 * 1024;

/// Why there is no request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::deliver::api) enum Refusal {
    /// This sink takes no corrections.
    NotApplicable,
    /// An event can't be mapped.
    Unmappable {
        /// Which.
        index: usize,
        /// Why.
        reason: String,
    },
}

/// What a sink's `[sink.request]`, `[sink.map]` and `[sink.map_correction]` make of events.
#[derive(Debug)]
pub(in crate::deliver::api) struct Mapper {
    /// `None`: the event's own JSON.
    item: Option<Item>,
    correction: Option<Item>,
    /// What a look-up is told where it isn't what stands in the body.
    asked: Option<Item>,
    body: Body,
    /// One event a request, always.
    single: bool,
    frame: Frame,
    route: Route,
    late: Option<(Late, Option<Route>)>,
    /// The vendor stamps its own time.
    stamps: bool,
    headers: Vec<(String, Single)>,
    max_workers: Option<usize>,
    max_bytes: usize,
    /// Where the id of an open record goes.
    open: Option<String>,
    base: reqwest::Url,
}

/// What the sink says beside these tables.
pub(in crate::deliver::api) struct Surroundings<'c> {
    pub(in crate::deliver::api) url: &'c reqwest::Url,
    pub(in crate::deliver::api) method: &'c str,
    pub(in crate::deliver::api) batch: usize,
    pub(in crate::deliver::api) max_bytes: usize,
    /// The requests are exits, which end an open record.
    pub(in crate::deliver::api) exit: Option<&'c Ending>,
}

/// What is different about a request that ends an open record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Where that record's id goes in the body, a JSON pointer; empty: in the path only.
    pub id_at: String,
    /// Targets of the mapping that are only asked with.
    pub ask_only: Vec<Vec<String>>,
}

impl Mapper {
    /// Prepares everything; the error says what is wrong with the configuration.
    pub(in crate::deliver::api) fn new(
        request: &Request,
        map: Option<&Mapping>,
        correction: Option<&Mapping>,
        sink: &Surroundings<'_>,
    ) -> Result<Self, String> {
        let body = match request.body {
            Body::Plain if sink.batch <= 1 => Body::Object,
            Body::Plain => Body::Array,
            other => other,
        };
        if !body.is_json() && map.is_none() {
            return Err("a form or a query needs [sink.map]".to_owned());
        }
        let single = sink.exit.is_some() || body.is_single() || (sink.batch <= 1 && body == Body::JsonRpc);
        let late = match &request.late {
            None => None,
            Some(late) => {
                let elsewhere = match &late.then {
                    Then::Reject => None,
                    Then::Elsewhere { path, method } => {
                        let path = path.as_deref().or(request.path.as_ref());
                        let method = method.as_deref().or(request.method.as_ref());
                        Some(Route::new(method, path, request, sink)?)
                    }
                };
                Some((late.clone(), elsewhere))
            }
        };
        let header = |(name, rule): &(String, Rule)| -> Result<(String, Single), String> {
            Ok((name.clone(), Single::new(&format!("header {name}"), rule)?))
        };
        let written = map.zip(sink.exit.filter(|exit| !exit.ask_only.is_empty())).map(|(map, exit)| {
            let fields = map.fields.iter().filter(|field| !exit.ask_only.contains(&field.target));
            Mapping { fields: fields.cloned().collect() }
        });
        Ok(Self {
            item: written.as_ref().or(map).map(Item::new).transpose()?,
            asked: map.filter(|_| written.is_some()).map(Item::new).transpose()?,
            correction: correction.map(Item::new).transpose()?,
            body,
            single,
            frame: Frame::new(request, body, single)?,
            route: Route::new(request.method.as_ref(), request.path.as_ref(), request, sink)?,
            late,
            headers: request.headers.iter().map(header).collect::<Result<_, String>>()?,
            max_workers: request.max_workers,
            stamps: request.stamps_server_time,
            max_bytes: sink.max_bytes,
            open: sink.exit.map(|exit| exit.id_at.clone()),
            base: sink.url.clone(),
        })
    }

    /// Mapping the same event again later may give another request.
    pub(in crate::deliver::api) const fn must_be_kept(&self) -> bool {
        self.late.is_some()
    }

    /// How many of the leading events go into one request; at least one.
    pub(in crate::deliver::api) fn fit(&self, records: &[Record], corrections: bool, now: Now) -> usize {
        if self.single || records.len() < 2 {
            return records.len().min(1);
        }
        let measured = records.len().saturating_mul(ROOMY) > self.max_bytes;
        let (mut first, mut people, mut item, mut bytes) = (None, HashSet::new(), Vec::new(), 0);
        for (index, record) in records.iter().enumerate() {
            let subject = Subject::of(record, corrections, false);
            if self.late.is_some() || self.route.varies {
                let Ok(route) = self.route(subject, now) else { return index.max(1) };
                if *first.get_or_insert_with(|| route.clone()) != route {
                    return index;
                }
            }
            if let Some(most) = self.max_workers {
                let person = &record.event.reading.person;
                people.insert(person.external_id.as_ref().or(person.terminal_person_id.as_ref()));
                if people.len() > most {
                    return index.max(1);
                }
            }
            if measured {
                item.clear();
                if self.write(subject, &mut item).is_err() {
                    return index.max(1);
                }
                // The comma or line end, and the brackets around all of them.
                bytes += item.len() + 1;
                if bytes + 1 > self.max_bytes {
                    return index.max(1);
                }
            }
        }
        records.len()
    }

    /// [`Mapper::map_as`] of events that aren't late.
    #[cfg(test)]
    pub(in crate::deliver::api) fn map(
        &self,
        records: &[Record],
        corrections: bool,
        key: &str,
        now: Now,
    ) -> Result<Outgoing, Refusal> {
        self.map_as(records, (corrections, false), key, now)
    }

    /// The request for these events, of which [`Mapper::fit`] has said that they go together; they are corrections, or leave
    /// late.
    pub(in crate::deliver::api) fn map_as(
        &self,
        records: &[Record],
        (corrections, late_ones): (bool, bool),
        key: &str,
        now: Now,
    ) -> Result<Outgoing, Refusal> {
        let subject_of = |record| Subject::of(record, corrections, late_ones);
        if corrections && self.item.is_some() && self.correction.is_none() {
            return Err(Refusal::NotApplicable);
        }
        let failed = |index: usize| move |unmappable: Unmappable| Refusal::Unmappable { index, reason: unmappable.0 };
        let Some(leading) = records.first().map(&subject_of) else {
            return Err(Refusal::NotApplicable);
        };
        if let Some((Late { max_age, then: Then::Reject }, _)) = &self.late
            && let Some(index) = records.iter().position(|record| late(self.late.as_ref(), &record.event, now))
        {
            let why = if self.stamps { "; the vendor would stamp it with its own time" } else { "" };
            let reason = format!("older than max_age_seconds ({}) when it was to be sent{why}", max_age.as_secs());
            return Err(Refusal::Unmappable { index, reason });
        }
        let (method, path) = self.route(leading, now).map_err(failed(0))?;
        let mut outgoing = Outgoing {
            method,
            content_type: self.body.content_type().unwrap_or_default().to_owned(),
            ends: self.open.clone(),
            ..Outgoing::default()
        };
        for (name, value) in &self.headers {
            let Some(value) = value.text(leading).map_err(failed(0))? else { continue };
            if !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
                let reason = format!("cannot map 'header {name}': a header holds printable ASCII only");
                return Err(Refusal::Unmappable { index: 0, reason });
            }
            outgoing.headers.push((name.clone(), value));
        }
        let mut query = String::new();
        if self.body.is_json() {
            self.frame.open(key, &mut outgoing.body);
            for (index, record) in records.iter().enumerate() {
                if index > 0 {
                    self.frame.next(&mut outgoing.body);
                }
                let start = outgoing.body.len();
                self.write(subject_of(record), &mut outgoing.body).map_err(failed(index))?;
                outgoing.sent.push(match &self.asked {
                    None => Sent::Within(start..outgoing.body.len()),
                    Some(asked) => {
                        let mut json = Vec::new();
                        asked.write(subject_of(record), &mut json).map_err(failed(index))?;
                        Sent::Apart(json)
                    }
                });
            }
            self.frame.close(&mut outgoing.body);
        } else {
            let item = self.chosen(corrections);
            let pairs = item.map(|item| item.pairs(leading)).transpose().map_err(failed(0))?.unwrap_or_default();
            let form = self.body == Body::Form;
            let text = path::pairs(&pairs, form);
            if form {
                outgoing.body = text.into_bytes();
            } else {
                query = text;
            }
            let mut json = Vec::new();
            match &self.asked {
                Some(asked) => asked.write(leading, &mut json),
                None => self.write(leading, &mut json),
            }
            .map_err(failed(0))?;
            outgoing.sent.push(Sent::Apart(json));
        }
        outgoing.path_and_query = path::join(&self.base, &path, &query);
        Ok(outgoing)
    }

    fn chosen(&self, corrections: bool) -> Option<&Item> {
        if corrections { self.correction.as_ref() } else { self.item.as_ref() }
    }

    /// One item as it stands in the body.
    fn write(&self, subject: Subject<'_>, out: &mut Vec<u8>) -> Result<(), Unmappable> {
        let cloud = self.body == Body::CloudEvents;
        if cloud {
            cloud_event(subject, out);
        }
        match self.chosen(subject.correction) {
            Some(item) => item.write(subject, out)?,
            None => subject.write(out),
        }
        if cloud {
            out.push(b'}');
        }
        Ok(())
    }

    fn route(&self, subject: Subject<'_>, now: Now) -> Result<(String, String), Unmappable> {
        match &self.late {
            Some((_, Some(elsewhere))) if late(self.late.as_ref(), subject.event, now) => elsewhere.of(subject),
            _ => self.route.of(subject),
        }
    }
}

/// A clock that isn't right calls nothing late.
fn late(late: Option<&(Late, Option<Route>)>, event: &crate::event::Event, now: Now) -> bool {
    let Some((Late { max_age, .. }, _)) = late else { return false };
    let age = u128::try_from(i128::from(now.wall.0) - i128::from(event.times.event.0)).unwrap_or(0);
    now.synchronised && age > max_age.as_micros()
}

/// Method and path, by an event's values.
#[derive(Debug)]
struct Route {
    method: Single,
    path: Option<Single>,
    /// The paths that `path` can give.
    paths: BTreeMap<String, Path>,
    varies: bool,
}

impl Route {
    fn new(
        method: Option<&Rule>,
        path: Option<&Rule>,
        request: &Request,
        sink: &Surroundings<'_>,
    ) -> Result<Self, String> {
        let default = Rule::plain(Origin::Constant(Scalar::Text(sink.method.to_owned())));
        let method = method.unwrap_or(&default);
        let constant = |rule: &Rule| matches!(rule.origin, Origin::Constant(_));
        let mut paths = BTreeMap::new();
        for value in path.map(Rule::values).unwrap_or(Some(Vec::new())).ok_or("a path by value needs a map")? {
            let text = value.as_text();
            paths.insert(text.to_owned(), Path::new(text, &request.params, sink.exit.is_some())?);
        }
        let varies = !constant(method) || path.is_some_and(|path| !constant(path)) || paths.values().any(Path::varies);
        Ok(Self {
            method: Single::new("request.method", method)?,
            path: path.map(|path| Single::new("request.path", path)).transpose()?,
            paths,
            varies,
        })
    }

    fn of(&self, subject: Subject<'_>) -> Result<(String, String), Unmappable> {
        let absent = || Unmappable("cannot map 'request.path': the event gives none".to_owned());
        let method = self.method.text(subject)?.ok_or_else(absent)?;
        let mut path = String::new();
        if let Some(chosen) = &self.path {
            let chosen = chosen.text(subject)?.ok_or_else(absent)?;
            self.paths.get(&chosen).ok_or_else(absent)?.write(subject, &mut path)?;
        }
        Ok((method, path))
    }
}
