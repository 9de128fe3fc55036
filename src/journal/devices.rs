//! Small state of terminals: the devices behind them, the clients of our own broker.
//!
//! Must not: grow with traffic; there is one row per device and per client (I10).

use rusqlite::params;

use super::error::Error;
use super::schema::{db, un};
use super::state::Tx;
use super::types::{ClientSession, DeviceState, SourceId};
use super::view::View;
use crate::event::{Source, UtcMicros};

/// Devices kept; beyond it the ones that were silent longest go.
const DEVICES_KEPT: i64 = 20_000;

/// Registers a terminal, or finds it again.
pub(super) fn source(tx: &Tx<'_>, source: &Source) -> Result<SourceId, Error> {
    let Source { tenant, site_id, gateway_id, terminal_id, protocol, zone } = source;
    let key = params![tenant, site_id, gateway_id, terminal_id, protocol, zone];
    tx.conn.execute(
        "INSERT OR IGNORE INTO source(tenant, site, gateway, terminal, protocol, zone) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        key,
    )?;
    let id = tx.conn.query_row(
        "SELECT id FROM source WHERE tenant = ?1 AND site = ?2 AND gateway = ?3 AND terminal = ?4 AND protocol = ?5
         AND zone = ?6",
        key,
        |row| row.get(0),
    )?;
    Ok(SourceId(id))
}

/// Keeps device states.
pub(super) fn keep(tx: &Tx<'_>, devices: &[DeviceState]) -> Result<(), Error> {
    let mut put = tx.conn.prepare_cached(
        "INSERT OR REPLACE INTO device(source, device_key, last_heard, last_native_seq, epoch, gaps)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for device in devices {
        put.execute(params![
            device.source.0,
            device.device_key,
            device.last_heard.0,
            device.last_native_seq.map(db),
            device.epoch,
            db(device.gaps)
        ])?;
    }
    let count: i64 = tx.conn.prepare_cached("SELECT count(*) FROM device")?.query_row([], |row| row.get(0))?;
    if count > DEVICES_KEPT {
        tx.conn
            .prepare_cached(
                "DELETE FROM device WHERE (source, device_key) IN
                 (SELECT source, device_key FROM device ORDER BY last_heard LIMIT ?1)",
            )?
            .execute([count - DEVICES_KEPT])?;
    }
    Ok(())
}

/// All device states.
pub(super) fn list(view: &View) -> Result<Vec<DeviceState>, Error> {
    let mut rows = view
        .conn()?
        .prepare_cached("SELECT source, device_key, last_heard, last_native_seq, epoch, gaps FROM device")?;
    let rows = rows.query_map([], |row| {
        Ok(DeviceState {
            source: SourceId(row.get(0)?),
            device_key: row.get(1)?,
            last_heard: UtcMicros(row.get(2)?),
            last_native_seq: row.get::<_, Option<i64>>(3)?.map(un),
            epoch: row.get(4)?,
            gaps: un(row.get(5)?),
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Keeps or forgets a client of our own broker.
pub(super) fn keep_session(tx: &Tx<'_>, client_id: &str, session: Option<&ClientSession>) -> Result<(), Error> {
    match session {
        None => tx.conn.execute("DELETE FROM session WHERE client_id = ?1", [client_id])?,
        Some(session) => {
            let subscriptions = serde_json::to_string(&session.subscriptions)
                .map_err(|error| Error::Io(format!("a subscription can't be written: {error}")))?;
            tx.conn.execute(
                "INSERT OR REPLACE INTO session(client_id, subscriptions) VALUES (?1, ?2)",
                params![client_id, subscriptions],
            )?
        }
    };
    Ok(())
}

/// The clients of our own broker.
pub(super) fn sessions(view: &View) -> Result<Vec<ClientSession>, Error> {
    let mut rows = view.conn()?.prepare_cached("SELECT client_id, subscriptions FROM session ORDER BY client_id")?;
    let mut rows = rows.query([])?;
    let mut sessions = Vec::new();
    while let Some(row) = rows.next()? {
        let text: String = row.get(1)?;
        let subscriptions = serde_json::from_str(&text)
            .map_err(|error| Error::Corrupt(format!("the subscriptions of a client can't be read: {error}")))?;
        sessions.push(ClientSession { client_id: row.get(0)?, subscriptions });
    }
    Ok(sessions)
}
