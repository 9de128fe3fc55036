//! A whole mapping, ready to be used: the tree of targets, written straight into the body.
//!
//! Must not: build a tree of values for each event.

use super::evaluate::{Compiled, Out};
use super::template::Templates;
use super::{Mapping, Rule, Subject, Unmappable};

/// A mapping with everything looked up.
#[derive(Debug)]
pub struct Item {
    root: Vec<Branch>,
    rules: Vec<(String, Compiled)>,
    templates: Templates,
}

/// A key, already written as `"key":`, and what stands under it.
#[derive(Debug)]
struct Branch {
    key: Vec<u8>,
    node: Node,
}

#[derive(Debug)]
enum Node {
    Rule(usize),
    Object(Vec<Branch>),
}

impl Item {
    /// Prepares a mapping; the error says what is wrong with it.
    pub fn new(mapping: &Mapping) -> Result<Self, String> {
        let mut item = Self { root: Vec::new(), rules: Vec::new(), templates: Templates::default() };
        for field in &mapping.fields {
            let name = field.target.join(".");
            let compiled = Compiled::new(&name, &field.rule, &mut item.templates)?;
            plant(&mut item.root, &field.target, item.rules.len())
                .ok_or_else(|| format!("two targets meet at '{name}'"))?;
            item.rules.push((name, compiled));
        }
        Ok(item)
    }

    /// Appends the item as one JSON object. Where that fails the buffer is as it was.
    pub fn write(&self, subject: Subject<'_>, out: &mut Vec<u8>) -> Result<(), Unmappable> {
        let start = out.len();
        let written = self.object(&self.root, subject, out);
        if written.is_err() {
            out.truncate(start);
        }
        written.map(|_| ())
    }

    /// The item as pairs of name and text, for a form or a query.
    pub fn pairs(&self, subject: Subject<'_>) -> Result<Vec<(&str, String)>, Unmappable> {
        let mut pairs = Vec::with_capacity(self.rules.len());
        for (name, rule) in &self.rules {
            if let Some(value) = rule.value(subject, &self.templates)? {
                pairs.push((name.as_str(), value.as_text().to_owned()));
            }
        }
        Ok(pairs)
    }

    /// Writes an object; true if there is anything in it.
    fn object(&self, branches: &[Branch], subject: Subject<'_>, out: &mut Vec<u8>) -> Result<bool, Unmappable> {
        out.push(b'{');
        let mut any = false;
        for branch in branches {
            let before = out.len();
            if any {
                out.push(b',');
            }
            out.extend_from_slice(&branch.key);
            let there = match &branch.node {
                Node::Object(inside) => self.object(inside, subject, out)?,
                Node::Rule(index) => self.leaf(*index, subject)?.is_some_and(|value| {
                    value.write(out);
                    true
                }),
            };
            // An optional target that is absent leaves no trace, nor does an object of nothing else.
            if there {
                any = true;
            } else {
                out.truncate(before);
            }
        }
        out.push(b'}');
        Ok(any)
    }

    fn leaf<'e>(&'e self, index: usize, subject: Subject<'e>) -> Result<Option<Out<'e>>, Unmappable> {
        match self.rules.get(index) {
            Some((_, rule)) => rule.value(subject, &self.templates),
            None => Ok(None),
        }
    }
}

/// One rule on its own, ready to be used: a header, a piece of a path.
#[derive(Debug)]
pub struct Single {
    rule: Compiled,
    templates: Templates,
}

impl Single {
    /// Prepares a rule; `target` stands in errors.
    pub fn new(target: &str, rule: &Rule) -> Result<Self, String> {
        let mut templates = Templates::default();
        Ok(Self { rule: Compiled::new(target, rule, &mut templates)?, templates })
    }

    /// The value as text; `None` where it is optional and absent.
    pub fn text(&self, subject: Subject<'_>) -> Result<Option<String>, Unmappable> {
        Ok(self.rule.value(subject, &self.templates)?.map(|value| value.as_text().to_owned()))
    }
}

/// Puts a rule into the tree; `None` where something else stands already.
fn plant(branches: &mut Vec<Branch>, target: &[String], rule: usize) -> Option<()> {
    let (first, rest) = target.split_first()?;
    let mut key = serde_json::to_vec(first).ok()?;
    key.push(b':');
    let found = branches.iter().position(|branch| branch.key == key);
    match (found, rest.is_empty()) {
        (None, true) => branches.push(Branch { key, node: Node::Rule(rule) }),
        (None, false) => {
            let mut inside = Vec::new();
            plant(&mut inside, rest, rule)?;
            branches.push(Branch { key, node: Node::Object(inside) });
        }
        (Some(at), false) => match &mut branches[at].node {
            Node::Object(inside) => plant(inside, rest, rule)?,
            Node::Rule(_) => return None,
        },
        (Some(_), true) => return None,
    }
    Some(())
}
