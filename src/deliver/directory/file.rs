//! A directory from a file: CSV with a header, or JSON.
//!
//! Must not: read without bound, hold up others while it reads, or quote what it read.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::people::{Breath, People};
use super::{Error, Fields, csv, json};
use crate::journal::DirectoryEntry;

/// Largest file, bytes.
const MAX_BYTES: u64 = 64 << 20;

/// So much is read at once, bytes.
const CHUNK: usize = 64 * 1024;

/// Which file it is and when it was written.
pub(super) type Written = (u64, i64, i64, u64);

/// A file has its own ETag.
pub(super) fn written(path: &Path) -> Option<Written> {
    let meta = std::fs::metadata(path).ok()?;
    Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.len()))
}

/// Reads the source: one entry for each number and each card.
pub(super) async fn read(path: &Path, records: &str, fields: &Fields) -> Result<Vec<DirectoryEntry>, Error> {
    let bytes = bytes(path).await?;
    let mut people = People::new(fields);
    let read = if is_json(path) {
        json::read(&bytes, records, &[], &mut people).await.map(|_| ())
    } else {
        csv::read(&bytes, &mut people).await.map(|_| ())
    };
    read.map_err(|what| Error::Content(path.to_owned(), what))?;
    Ok(people.finish())
}

async fn bytes(path: &Path) -> Result<Vec<u8>, Error> {
    let io = |error: std::io::Error| Error::Io(path.to_owned(), error.to_string());
    let too_long = |length| Error::Content(path.to_owned(), format!("{length} bytes, at most {MAX_BYTES} are read"));
    let mut file = std::fs::File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    if length > MAX_BYTES {
        return Err(too_long(length));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    let (mut chunk, mut breath) = (vec![0; CHUNK], Breath::default());
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(chunk.get(..n).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(io(error)),
        }
        // It may grow while it is read.
        if bytes.len() as u64 > MAX_BYTES {
            return Err(too_long(bytes.len() as u64));
        }
        breath.after(CHUNK).await;
    }
}

/// By its name.
fn is_json(path: &Path) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pointers: bool) -> Fields {
        let name = |name: &str| if pointers { format!("/{name}") } else { name.to_owned() };
        Fields { person: Some(name("pin")), card: Some(name("card")), external_id: name("id"), name: None }
    }

    fn entries(name: &str, text: &str) -> Result<Vec<(String, String)>, String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(name);
        std::fs::write(&path, text).expect("a file");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let records = if is_json(&path) { "/data" } else { "" };
        match runtime.block_on(read(&path, records, &fields(is_json(&path)))) {
            Ok(people) => Ok(people.into_iter().map(|p| (p.key, p.external_id)).collect()),
            Err(error) => Err(error.to_string().replace(&path.display().to_string(), "FILE")),
        }
    }

    fn known(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|(k, e)| ((*k).to_owned(), (*e).to_owned())).collect())
    }

    #[test]
    fn numbers_and_cards_stand_for_the_platforms_id() {
        let csv = "\u{FEFF}id,pin,card,name\r\n E-1 ,7,0011,\"Rojas, Ana\"\r\nE-2,8,,\r\n,9,,\r\nE-4,,\r\n";
        assert_eq!(entries("people.csv", csv), known(&[("c:0011", "E-1"), ("p:7", "E-1"), ("p:8", "E-2")]));
        assert_eq!(entries("people.csv", "id;pin;card\nE-1;7;\n"), known(&[("p:7", "E-1")]));
        let json = r#"{"data":[{"id":"E-1","pin":7,"card":null},{"id":2,"pin":"8"},{"pin":"9"}]}"#;
        assert_eq!(entries("people.json", json), known(&[("p:7", "E-1"), ("p:8", "2")]));
        assert_eq!(entries("people.csv", "id,pin,card\nE-1,7,\nE-1,7,\n"), known(&[("p:7", "E-1")]));
    }

    #[test]
    fn a_number_and_a_card_of_the_same_digits_are_two_people() {
        let csv = "id,pin,card\nE-1,7,\nE-2,,7\n";
        assert_eq!(entries("people.csv", csv), known(&[("c:7", "E-2"), ("p:7", "E-1")]));
    }

    #[test]
    fn what_is_wrong_is_said_without_a_word_of_the_content() {
        let wrong = |name: &str, text: &str| entries(name, text).expect_err("refused");
        assert_eq!(wrong("p.csv", "id,pin\n"), "FILE: no column 'card' in its first line, which must be a header");
        let without_header = wrong("p.csv", "E-1,7,0011\n");
        assert!(!without_header.contains("E-1") && !without_header.contains('7'), "{without_header}");
        assert!(wrong("p.csv", "id,pin,card\nE-1,7,\nE-2,7,\n").contains("stands for two people"));
        assert_eq!(wrong("p.json", "{\"data\":[{]}"), "FILE: not valid JSON at line 1, column 11");
        assert_eq!(wrong("p.json", "[]"), "FILE: no array at records = \"/data\"");
    }

    #[tokio::test]
    async fn a_large_file_lets_others_run_while_it_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let rows = |row: &dyn Fn(usize) -> String, join: &str| (0..50_000).map(row).collect::<Vec<_>>().join(join);
        let csv = format!("id,pin,card\n{}", rows(&|n| format!("E-{n},{n},c{n}"), "\n"));
        let json = format!("{{\"data\":[{}]}}", rows(&|n| format!("{{\"id\":\"E-{n}\",\"pin\":{n}}}"), ","));
        for (name, text, people) in [("people.csv", csv, 100_000), ("people.json", json, 50_000)] {
            let path = dir.path().join(name);
            std::fs::write(&path, &text).expect("a file");
            let fields = fields(is_json(&path));
            let (done, turns) = (std::cell::Cell::new(false), std::cell::Cell::new(0));
            let reading = async {
                let read = read(&path, "/data", &fields).await;
                done.set(true);
                read
            };
            let other = async {
                while !done.get() {
                    turns.set(turns.get() + 1);
                    tokio::task::yield_now().await;
                }
            };
            let (read, ()) = tokio::join!(reading, other);
            assert_eq!(read.map(|people| people.len()), Ok(people));
            assert!(turns.get() >= text.len() / CHUNK, "{} turns in {} bytes", turns.get(), text.len());
        }
    }
}
