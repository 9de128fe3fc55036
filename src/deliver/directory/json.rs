//! People in a JSON document: the records one by one, so that a large document is never a tree in memory, and what else of
//! the document is wanted.
//!
//! Must not: quote what it read.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::people::{Breath, People};

/// What a document had.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many records.
    pub(super) records: usize,
    /// What stood at the other pointers, in their order.
    pub(super) others: Vec<Option<Value>>,
}

/// Reads one document: people from the array at `records`, and what stands at `others`.
pub(super) async fn read(
    bytes: &[u8],
    records: &str,
    others: &[&str],
    people: &mut People<'_>,
) -> Result<Found, String> {
    let (array, wanted) = (tokens(records), others.iter().map(|pointer| tokens(pointer)).collect::<Vec<_>>());
    let mut found = Found { records: 0, others: vec![None; others.len()] };
    let (mut cursor, mut path, mut breath) = (Cursor { bytes, at: 0 }, Vec::<Step>::new(), Breath::default());
    let mut seen = false;
    loop {
        // Here a value begins.
        let start = cursor.at;
        let next = cursor.peek();
        if is_at(&array, &path) && next == Some(b'[') {
            if std::mem::replace(&mut seen, true) {
                return Err(format!("two arrays at records = \"{records}\""));
            }
            found.records = elements(&mut cursor, people, &mut breath).await?;
        } else if let Some(index) = wanted.iter().position(|wanted| is_at(wanted, &path)) {
            found.others[index] = Some(cursor.value()?);
        } else if matches!(next, Some(b'{' | b'['))
            && wanted.iter().chain([&array]).any(|wanted| leads_to(wanted, &path))
        {
            path.push(Step { object: next == Some(b'{'), index: 0, name: "0".to_owned() });
            cursor.at += 1;
            if enter(&mut cursor, &mut path)? {
                continue;
            }
        } else {
            cursor.value::<IgnoredAny>()?;
        }
        breath.after(cursor.at - start).await;
        if !follow(&mut cursor, &mut path)? {
            break;
        }
    }
    if !seen {
        return Err(format!("no array at records = \"{records}\""));
    }
    Ok(found)
}

/// A member of an object or an element of an array, on the way to where we are.
struct Step {
    object: bool,
    index: usize,
    name: String,
}

fn tokens(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(crate::deliver::pointer::unescaped).collect()
}

fn is_at(pointer: &[String], path: &[Step]) -> bool {
    pointer.len() == path.len() && pointer.iter().zip(path).all(|(token, step)| *token == step.name)
}

fn leads_to(pointer: &[String], path: &[Step]) -> bool {
    pointer.len() > path.len() && pointer.iter().zip(path).all(|(token, step)| *token == step.name)
}

/// After an opening bracket: goes to the first value. False if there is none; then the bracket is closed.
fn enter(cursor: &mut Cursor<'_>, path: &mut Vec<Step>) -> Result<bool, String> {
    let Some(step) = path.last_mut() else { return Ok(false) };
    if cursor.peek() == Some(if step.object { b'}' } else { b']' }) {
        cursor.at += 1;
        path.pop();
        return Ok(false);
    }
    if step.object {
        step.name = cursor.name()?;
    }
    Ok(true)
}

/// After a value: goes to the next one, up through what ends here. False at the end of the document.
fn follow(cursor: &mut Cursor<'_>, path: &mut Vec<Step>) -> Result<bool, String> {
    loop {
        let Some(step) = path.last_mut() else {
            return if cursor.peek().is_none() { Ok(false) } else { Err(cursor.broken()) };
        };
        match (cursor.peek(), step.object) {
            (Some(b','), object) => {
                cursor.at += 1;
                step.index += 1;
                step.name = if object { cursor.name()? } else { step.index.to_string() };
                return Ok(true);
            }
            (Some(b'}'), true) | (Some(b']'), false) => {
                cursor.at += 1;
                path.pop();
            }
            _ => return Err(cursor.broken()),
        }
    }
}

/// The array of records, from its opening bracket on.
async fn elements(cursor: &mut Cursor<'_>, people: &mut People<'_>, breath: &mut Breath) -> Result<usize, String> {
    cursor.at += 1;
    if cursor.peek() == Some(b']') {
        cursor.at += 1;
        return Ok(0);
    }
    let mut count = 0;
    loop {
        let start = cursor.at;
        let record: Value = cursor.value()?;
        people.object(|pointer| record.pointer(pointer))?;
        count += 1;
        breath.after(cursor.at - start).await;
        let end = cursor.peek();
        if !matches!(end, Some(b',' | b']')) {
            return Err(cursor.broken());
        }
        cursor.at += 1;
        if end == Some(b']') {
            return Ok(count);
        }
    }
}

struct Cursor<'b> {
    bytes: &'b [u8],
    at: usize,
}

impl<'b> Cursor<'b> {
    fn rest(&self) -> &'b [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        while matches!(self.bytes.get(self.at), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.bytes.get(self.at).copied()
    }

    /// The value that begins here.
    fn value<T: Deserialize<'b>>(&mut self) -> Result<T, String> {
        let mut stream = serde_json::Deserializer::from_slice(self.rest()).into_iter::<T>();
        match stream.next() {
            Some(Ok(value)) => {
                self.at += stream.byte_offset();
                Ok(value)
            }
            Some(Err(error)) => {
                let (line, column) = self.position();
                let column = if error.line() > 1 { error.column() } else { column + error.column() };
                Err(format!("not valid JSON at line {}, column {column}", line + error.line() - 1))
            }
            None => Err(self.broken()),
        }
    }

    /// A member's name and the colon after it.
    fn name(&mut self) -> Result<String, String> {
        if self.peek() != Some(b'"') {
            return Err(self.broken());
        }
        let name = self.value()?;
        if self.peek() != Some(b':') {
            return Err(self.broken());
        }
        self.at += 1;
        Ok(name)
    }

    /// The line, counted from 1, and how many bytes of it lie behind.
    fn position(&self) -> (usize, usize) {
        let before = self.bytes.get(..self.at).unwrap_or(self.bytes);
        let line = before.iter().filter(|b| **b == b'\n').count() + 1;
        (line, before.iter().rev().take_while(|b| **b != b'\n').count())
    }

    fn broken(&self) -> String {
        let (line, column) = self.position();
        format!("not valid JSON at line {line}, column {}", column + 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Fields;
    use super::*;

    fn fields() -> Fields {
        let field = |name: &str| Some(format!("/{name}"));
        Fields { person: field("pin"), card: None, external_id: "/id".to_owned(), name: None }
    }

    fn found(text: &str, records: &str, others: &[&str]) -> Result<(Found, Vec<String>), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let fields = fields();
        let mut people = People::new(&fields);
        let found = runtime.block_on(read(text.as_bytes(), records, others, &mut people))?;
        Ok((found, people.finish().into_iter().map(|p| format!("{} {}", p.key, p.external_id)).collect()))
    }

    #[test]
    fn records_and_links_are_found_wherever_they_stand() {
        let text = r#" {"skip":[{"data":[1]},"]}"], "page": {"next":"/p?2","x":{}}, "a/b": {"~": [[], [{"id":"E-1","pin":7,"more":{"a":[1]}} , {"pin":1}]]}, "n": 2 } "#;
        let (found, people) = found(text, "/a~1b/~0/1", &["/page/next", "/n", "/none"]).expect("found");
        assert_eq!((found.records, people), (2, vec!["p:7 E-1".to_owned()]));
        assert_eq!(found.others, [Some(Value::from("/p?2")), Some(Value::from(2)), None]);
    }

    #[test]
    fn what_is_no_json_is_said_with_its_place() {
        let wrong = |text: &str| found(text, "/data", &["/next"]).expect_err("refused");
        assert_eq!(wrong("{\"data\":[{]}"), "not valid JSON at line 1, column 11");
        assert_eq!(wrong("{\"data\":[\n{},\n  {\"a\" 1}]}"), "not valid JSON at line 3, column 8");
        assert_eq!(wrong("{\"data\":[]} x"), "not valid JSON at line 1, column 13");
        assert_eq!(wrong("<html>"), "not valid JSON at line 1, column 1");
        assert_eq!(wrong(""), "not valid JSON at line 1, column 1");
        for text in ["[]", "{}", "{\"data\":{}}", "{\"data\":null}", "7", "\"data\""] {
            assert_eq!(wrong(text), "no array at records = \"/data\"", "{text}");
        }
        for text in [
            "{\"data\":[],}",
            "{\"data\":[] \"next\":1}",
            "{\"data\":[1,]}",
            "{\"data\":[1 2]}",
            "{data:[]}",
            "{\"data\" []}",
            "{\"data\":[]",
        ] {
            assert!(wrong(text).starts_with("not valid JSON"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_judged_as_the_whole_parser_judges_it(text in "[\\[\\]{}:, \"a0-]{0,24}") {
            let whole = serde_json::from_str::<Value>(&text);
            match found(&text, "/a", &["/a/0"]) {
                Ok(_) => prop_assert!(whole.is_ok()),
                Err(what) if what.starts_with("no array") => prop_assert!(whole.is_ok()),
                Err(what) if what.starts_with("two arrays") => {}
                Err(_) => prop_assert!(whole.is_err()),
            }
        }
    }
}
