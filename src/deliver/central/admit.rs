//! Admits a gateway: a login of its own that may write as this gateway and as no other.
//!
//! Must not: send a password in readable form (a server may log statements), or widen or narrow a role that is there and may do
//! more than a gateway's login.

use crate::deliver::Error;

/// A gateway to be admitted.
#[derive(Debug, Clone)]
pub struct Admission<'a> {
    /// `[gateway] id`.
    pub gateway_id: &'a str,
    /// `[gateway] tenant`.
    pub tenant: &'a str,
    /// The role it logs in as.
    pub login: &'a str,
    /// The password to be set; `None`: it stays as it is.
    pub password: Option<&'a str>,
}

/// Longest name of a role, bytes (`NAMEDATALEN` − 1 of PostgreSQL as it is built everywhere).
const MAX_ROLE: usize = 63;

/// Longest `[gateway] id` and `tenant`, bytes.
const MAX_NAME: usize = 128;

/// The script: may be run again, to set another password or to let one login write as several gateways.
pub fn admit(admission: &Admission<'_>) -> Result<String, Error> {
    let gateway = literal(admission.gateway_id, MAX_NAME)?;
    let tenant = literal(admission.tenant, MAX_NAME)?;
    let login = literal(admission.login, MAX_ROLE)?;
    let password = match admission.password {
        // A salted hash as the server itself would store it (RFC 5803).
        Some(password) => {
            let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
            format!("\n    EXECUTE format('ALTER ROLE %I PASSWORD %L', wanted, '{verifier}');")
        }
        None => String::new(),
    };
    Ok(format!(
        "BEGIN;

DO $$
DECLARE
    wanted constant text := {login};
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted) THEN
        EXECUTE format('CREATE ROLE %I LOGIN', wanted);
    END IF;
    IF pg_has_role(wanted, 'portero_gateway', 'MEMBER') OR EXISTS (
        SELECT FROM pg_catalog.pg_roles
        WHERE rolname = wanted AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication)
    ) THEN
        RAISE EXCEPTION 'role % may do more than the login of one gateway: choose another one with --login', wanted;
    END IF;{password}
    EXECUTE format('GRANT portero_login TO %I', wanted);
END
$$;

INSERT INTO portero.login (tenant, login, gateway_id) VALUES ({tenant}, {login}, {gateway}) ON CONFLICT DO NOTHING;

COMMIT;
"
    ))
}

/// A name as a literal. A dollar sign could end the block that it stands in.
fn literal(name: &str, most: usize) -> Result<String, Error> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '$';
    if name.is_empty() || name.len() > most || name.contains(bad) {
        return Err(Error::Name(format!("{name:?}"), most));
    }
    // E'' whatever `standard_conforming_strings` says.
    Ok(format!("E'{}'", name.replace('\\', "\\\\").replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_a_name_and_a_password_is_not_readable() {
        let admission = Admission { gateway_id: "gw'1", tenant: "a\\b", login: "gw-1", password: Some("geheim") };
        let script = admit(&admission).expect("usable names");
        assert!(script.contains("(E'a\\\\b', E'gw-1', E'gw''1')"), "{script}");
        assert!(script.contains("SCRAM-SHA-256$4096:") && !script.contains("geheim"));
        for bad in ["", "two words", "a$$b", "x\0", &"n".repeat(64)] {
            assert!(admit(&Admission { login: bad, ..admission.clone() }).is_err(), "{bad:?}");
        }
    }
}
