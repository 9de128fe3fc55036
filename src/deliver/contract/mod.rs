//! What a sink would send, held against the vendor's own contract: an OpenAPI document or a JSON Schema.
//!
//! The input is what [`crate::deliver::api::preview`] shows, so that nothing is judged that would not be sent. Each
//! finding names a key of the sink's configuration and a place in the document.
//!
//! Must not: send anything, open a second file or an address that a document names, or run inside the gateway: this is a
//! tool for the desk, and `jsonschema` and the YAML reader come into the tree here and nowhere else (feature `contract`).

pub mod document;

pub mod generated;

pub mod vary;

mod answers;
mod body;
mod nearest;
mod openapi;
mod parameters;
mod place;
mod route;
mod schema;
mod security;
mod translate;
mod values;
mod yaml;

use std::collections::BTreeMap;

pub use document::Document;

use self::body::Sent;
use self::openapi::{OpenApi, Operation};
use self::place::Places;
use self::schema::{Fault, Schemas};
use self::values::Held;
use super::api::auth::Beside;
use super::api::{self, preview};
use crate::journal::Seq;

/// Why a document can't be used. Each names what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It can't be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It is too large.
    #[error("has {0} bytes; at most {most} are read", most = document::MAX_BYTES)]
    TooLarge(u64),
    /// It is neither JSON nor YAML.
    #[error("line {line}: is neither JSON nor YAML: {what}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// What the reader says.
        what: String,
    },
    /// It is Swagger 2.0.
    #[error(
        "is a Swagger 2.0 document, which is not read; convert it to OpenAPI 3.0, for example with swagger2openapi"
    )]
    Swagger,
    /// It is no OpenAPI document of a known version.
    #[error("is no OpenAPI 3.0 or 3.1 document: {0}")]
    Version(String),
    /// It refers to another document.
    #[error("{pointer}: refers to '{target}' outside of it; nothing else is read: bundle the document into one file")]
    Remote {
        /// Where.
        pointer: String,
        /// To what.
        target: String,
    },
    /// It refers to something that isn't there, or in a circle.
    #[error("{pointer}: refers to '{target}', which leads nowhere")]
    Dangling {
        /// Where.
        pointer: String,
        /// To what.
        target: String,
    },
    /// A schema in it can't be used.
    #[error("{pointer}: is no schema that can be used: {what}")]
    Schema {
        /// Where.
        pointer: String,
        /// What is wrong.
        what: String,
    },
    /// There is no such operation.
    #[error("has no operation '{0}'{1}")]
    Operation(String, String),
}

/// One thing in which configuration and contract don't meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind of thing: `path`, `method`, `security`, `content-type`, or the schema's own keyword (`required`, `type`, …).
    pub rule: String,
    /// The key below the sink's table, for example `["map", "time"]`.
    pub key: Vec<String>,
    /// Where the document says it, a JSON pointer.
    pub pointer: String,
    /// What is wrong, in words.
    pub message: String,
    /// In how many requests; 0 where it needs none to be seen.
    pub requests: usize,
    /// The events of the first one.
    pub events: Vec<Seq>,
    /// It is nothing wrong, but good to know.
    pub note: bool,
}

/// A document against which requests are checked.
pub struct Contract {
    document: Document,
    schemas: Schemas,
    /// `None`: a bare JSON Schema for the body.
    openapi: Option<OpenApi>,
    /// What was asked for by name.
    operation: Option<usize>,
}

impl Contract {
    /// An OpenAPI document; `operation` is the `operationId` to which everything must go.
    pub fn openapi(document: Document, operation: Option<&str>) -> Result<Self, Error> {
        let openapi = OpenApi::new(&document.root)?;
        let operation = operation.map(|id| openapi.named(id)).transpose()?;
        let root = translate::translated(&document.root, openapi.is_3_0);
        Ok(Self { schemas: Schemas::embedded(root), document, openapi: Some(openapi), operation })
    }

    /// A bare JSON Schema for the body of each request.
    pub fn schema(document: Document) -> Result<Self, Error> {
        let contract =
            Self { schemas: Schemas::whole(document.root.clone()), document, openapi: None, operation: None };
        contract.schemas.get("")?;
        Ok(contract)
    }

    /// Where a pointer stands in the document's text, if that is known.
    pub fn line(&self, pointer: &str) -> Option<usize> {
        self.document.line(pointer)
    }

    /// Everything in which these requests of a sink and the document don't meet, in the order of being found.
    pub fn check(&self, sink: &api::Config, requests: &[preview::Request]) -> Result<Vec<Finding>, Error> {
        let places = Places::new(sink);
        let (mut findings, mut held) = (Findings::default(), Vec::new());
        for request in requests {
            let mut found = Vec::new();
            match &self.openapi {
                None => self.bodies(&places, request, ("", ""), &mut held, &mut found)?,
                Some(openapi) => self.one(openapi, &places, request, &mut held, &mut found)?,
            }
            findings.add(found, &request.seqs);
        }
        let mut found = Vec::new();
        values::check(&self.document.root, &self.schemas, &places, &held, &mut found)?;
        findings.add(found, &[]);
        Ok(findings.in_order())
    }

    fn one(
        &self,
        openapi: &OpenApi,
        places: &Places<'_>,
        request: &preview::Request,
        held: &mut Vec<Held>,
        found: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        // What stands for the id of an open record is a number at most vendors.
        let url = request.url.replace(api::request::OPEN, "1");
        let path = url.split_once("://").map_or("/", |(_, rest)| rest.find('/').map_or("/", |at| &rest[at..]));
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let wanted = self.operation.map(|index| &openapi.operations[index]);
        let reached = route::find(openapi, places, (&request.method, path), wanted, found);
        let Some((operation, path_values)) = reached else { return Ok(()) };
        security::check(&self.document.root, operation, places.sink, request, query, found)?;
        answers::check(&self.document.root, operation, places, found)?;
        let sent = parameters::Carried { path: &path_values, query, headers: &request.headers };
        parameters::check(&self.document.root, &self.schemas, operation, places, &sent, found)?;
        self.body(operation, places, request, held, found)
    }

    fn body(
        &self,
        operation: &Operation,
        places: &Places<'_>,
        request: &preview::Request,
        held: &mut Vec<Held>,
        found: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        match body::declared(&self.document.root, operation, request)? {
            body::Declared::Schema { pointer, content } => {
                self.bodies(places, request, (&pointer, &content), held, found)
            }
            body::Declared::Anything => Ok(()),
            body::Declared::Mismatch { rule, pointer, message } => {
                found.push(finding(rule, places.body(), pointer, message));
                Ok(())
            }
        }
    }

    /// Holds the body against a schema. `content` is the media type object around it.
    fn bodies(
        &self,
        places: &Places<'_>,
        request: &preview::Request,
        (pointer, content): (&str, &str),
        held: &mut Vec<Held>,
        found: &mut Vec<Finding>,
    ) -> Result<(), Error> {
        let schema = self.schemas.get(pointer)?;
        let values = match body::sent(request, &self.schemas, pointer) {
            Ok(values) => values,
            Err(what) => {
                found.push(finding("body", places.body(), content.to_owned(), what));
                return Ok(());
            }
        };
        let credential = match places.sink.auth.beside() {
            Beside::Body(at) if at.starts_with('/') => Some(at.to_owned()),
            Beside::Body(name) => Some(format!("/{}", crate::deliver::pointer::escaped(name))),
            Beside::No | Beside::Query(_) => None,
        };
        for Sent { at, mut value } in values {
            if let Some(credential) = &credential {
                // Whoever sees to that it is sent also says where it doesn't fit.
                let _ = crate::deliver::pointer::put(&mut value, credential, parameters::MASK.into());
            }
            for fault in schema.faults(&value, &self.document.root) {
                let Fault { instance, pointer, rule, message } = fault;
                let inside = format!("{at}{instance}");
                let key = match credential.as_ref() == Some(&instance) {
                    false if rule == "maxItems" && places.is_list(&inside) => vec!["batch".to_owned()],
                    false => places.of(&inside),
                    true if rule == "additionalProperties" => vec!["auth".to_owned()],
                    // Its value isn't known here.
                    true => continue,
                };
                found.push(finding(&rule, key, pointer, message));
            }
            // A full request, which the events at hand may be too few for; once for each schema.
            let known = held.iter().any(|held| held.schema == pointer);
            if let Some(full) = places.filled(&at, &value).filter(|_| !known) {
                let faults = schema.faults(&full, &self.document.root).into_iter();
                let long = |f: &Fault| f.rule == "maxItems" && places.is_list(&format!("{at}{}", f.instance));
                for Fault { pointer, rule, message, .. } in faults.filter(long) {
                    found.push(finding(&rule, vec!["batch".to_owned()], pointer, message));
                }
            }
            held.push(Held { schema: pointer.to_owned(), at, value, form: body::is_form(request) });
        }
        Ok(())
    }
}

fn finding(rule: &str, key: Vec<String>, pointer: String, message: impl Into<String>) -> Finding {
    Finding {
        rule: rule.to_owned(),
        key,
        pointer,
        message: message.into(),
        requests: 0,
        events: Vec::new(),
        note: false,
    }
}

fn note(rule: &str, key: Vec<String>, pointer: String, message: impl Into<String>) -> Finding {
    Finding { note: true, ..finding(rule, key, pointer, message) }
}

/// The same thing in many requests is one finding.
#[derive(Default)]
struct Findings {
    index: BTreeMap<(String, Vec<String>, String), usize>,
    list: Vec<Finding>,
}

impl Findings {
    fn add(&mut self, found: Vec<Finding>, events: &[Seq]) {
        let mut counted: Vec<usize> = Vec::new();
        for one in found {
            let key = (one.rule.clone(), one.key.clone(), one.pointer.clone());
            let at = *self.index.entry(key).or_insert_with(|| {
                self.list.push(Finding { events: events.to_vec(), ..one });
                self.list.len() - 1
            });
            if !counted.contains(&at) {
                counted.push(at);
                self.list[at].requests += usize::from(!events.is_empty());
            }
        }
    }

    fn in_order(self) -> Vec<Finding> {
        self.list
    }
}
