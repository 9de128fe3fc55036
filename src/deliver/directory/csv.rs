//! People in CSV with a header (RFC 4180).
//!
//! Must not: quote what it read.

use super::people::{Breath, People};

/// Reads one document; answers how many rows it has.
pub(super) async fn read(bytes: &[u8], people: &mut People<'_>) -> Result<usize, String> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    // What spreadsheets of the region write.
    let first = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
    let count = |of: u8| first.iter().filter(|b| **b == of).count();
    let delimiter = if count(b';') > count(b',') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).from_reader(bytes);
    let headers = reader.headers().map_err(|e| broken(&e))?.clone();
    let column = |name: &str| {
        let found = headers.iter().position(|header| header.trim() == name);
        found.ok_or_else(|| {
            // What stands there instead may be the first person of a file without a header.
            format!("no column '{name}' in its first line, which must be a header")
        })
    };
    let maybe = |name: &Option<String>| name.as_deref().map(column).transpose();
    let fields = people.fields;
    let (external_id, person, card) = (column(&fields.external_id)?, maybe(&fields.person)?, maybe(&fields.card)?);
    let name = maybe(&fields.name)?;
    let (mut rows, mut row, mut breath) = (0, csv::StringRecord::new(), Breath::default());
    while reader.read_record(&mut row).map_err(|e| broken(&e))? {
        let cell = |at: Option<usize>| at.and_then(|at| row.get(at));
        people.add(cell(person), cell(card), row.get(external_id), cell(name))?;
        rows += 1;
        breath.after(row.as_slice().len()).await;
    }
    Ok(rows)
}

fn broken(error: &csv::Error) -> String {
    match error.position() {
        Some(at) => format!("line {} is no CSV in UTF-8", at.line()),
        None => "not CSV in UTF-8".to_owned(),
    }
}
