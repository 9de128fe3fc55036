-- Portero's schema at the centre. May be run again: it only adds what is missing.
--
-- A gateway logs in with a role of its own that is a member of portero_gateway. It may insert events, corrections and
-- anchors, call portero.heartbeat and portero.record_conflicts, and read nothing.

BEGIN;

CREATE SCHEMA IF NOT EXISTS portero;

COMMENT ON SCHEMA portero IS 'portero schema 1';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portero_gateway') THEN
        CREATE ROLE portero_gateway NOLOGIN;
    END IF;
END
$$;

-- One row per event. event_id starts with 48 bits of milliseconds, so a month of device time is a range of ids; a wrong
-- clock lands in the default partition and never stops delivery.
CREATE TABLE IF NOT EXISTS portero.event (
    tenant          text        NOT NULL,
    event_id        uuid        NOT NULL,
    gateway_id      text        NOT NULL,
    journal_id      text        NOT NULL,
    seq             bigint      NOT NULL,
    site_id         text        NOT NULL,
    terminal_id     text        NOT NULL,
    terminal_serial text,
    kind            text        NOT NULL,
    outcome         text,
    punch           text,
    person          text,
    event_time      timestamptz NOT NULL,
    received_time   timestamptz NOT NULL,
    body            jsonb       NOT NULL,
    PRIMARY KEY (tenant, event_id)
) PARTITION BY RANGE (event_id);

CREATE TABLE IF NOT EXISTS portero.event_default PARTITION OF portero.event DEFAULT;

CREATE INDEX IF NOT EXISTS event_person ON portero.event (tenant, person, event_time) WHERE person IS NOT NULL;
CREATE INDEX IF NOT EXISTS event_terminal ON portero.event (tenant, terminal_id, event_time);
CREATE INDEX IF NOT EXISTS event_received ON portero.event (received_time);

COMMENT ON TABLE portero.event IS 'what terminals reported, once each; never changed';
COMMENT ON COLUMN portero.event.person IS 'the external number of the person, else the terminal''s own';
COMMENT ON COLUMN portero.event.seq IS 'row in the gateway''s journal journal_id';

-- A later, better knowledge of when an event happened: its own record, never counted as an event.
CREATE TABLE IF NOT EXISTS portero.correction (
    tenant          text        NOT NULL,
    event_id        uuid        NOT NULL,
    corrects        uuid        NOT NULL,
    gateway_id      text        NOT NULL,
    journal_id      text        NOT NULL,
    seq             bigint      NOT NULL,
    site_id         text        NOT NULL,
    terminal_id     text        NOT NULL,
    terminal_serial text,
    kind            text        NOT NULL,
    outcome         text,
    punch           text,
    person          text,
    event_time      timestamptz NOT NULL,
    received_time   timestamptz NOT NULL,
    body            jsonb       NOT NULL,
    PRIMARY KEY (tenant, event_id)
);

CREATE INDEX IF NOT EXISTS correction_corrects ON portero.correction (tenant, corrects);

-- The same id with another content: the first one stands, the other is kept here for a person to look at.
CREATE TABLE IF NOT EXISTS portero.conflict (
    tenant      text        NOT NULL,
    event_id    uuid        NOT NULL,
    digest      text        NOT NULL,
    stored      jsonb       NOT NULL,
    refused     jsonb       NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, event_id, digest)
);

-- Written by portero.heartbeat.
CREATE TABLE IF NOT EXISTS portero.gateway (
    tenant     text        NOT NULL,
    gateway_id text        NOT NULL,
    site_id    text,
    version    text,
    journal_id text,
    seq        bigint,
    head       text,
    status     jsonb       NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, gateway_id)
);

CREATE TABLE IF NOT EXISTS portero.terminal (
    tenant      text        NOT NULL,
    gateway_id  text        NOT NULL,
    terminal_id text        NOT NULL,
    device_key  text        NOT NULL DEFAULT '',
    protocol    text,
    state       text,
    last_heard  timestamptz,
    status      jsonb       NOT NULL,
    seen_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, gateway_id, terminal_id, device_key)
);

-- Points of a gateway's hash chain that the centre has seen; only ever inserted.
CREATE TABLE IF NOT EXISTS portero.anchor (
    tenant     text        NOT NULL,
    gateway_id text        NOT NULL,
    journal_id text        NOT NULL,
    seq        bigint      NOT NULL,
    head       text        NOT NULL,
    seen_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, gateway_id, journal_id, seq, head)
);

-- Called by a gateway when fewer rows went in than it sent: compares person, device time, direction and outcome where both
-- sides have them. Answers how many conflicts are new.
CREATE OR REPLACE FUNCTION portero.record_conflicts(tenants text[], ids uuid[], bodies jsonb[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH sent AS (
        SELECT s.tenant, s.event_id, s.body FROM unnest(tenants, ids, bodies) AS s (tenant, event_id, body)
    ), pair AS (
        SELECT s.tenant, s.event_id, s.body AS refused, e.body AS stored
        FROM sent s JOIN portero.event e ON e.tenant = s.tenant AND e.event_id = s.event_id
    ), recorded AS (
        INSERT INTO portero.conflict (tenant, event_id, digest, stored, refused)
        SELECT p.tenant, p.event_id, md5(p.refused::text), p.stored, p.refused
        FROM pair p
        WHERE p.stored #>> '{person,external_id}' <> p.refused #>> '{person,external_id}'
           OR p.stored #>> '{person,terminal_person_id}' <> p.refused #>> '{person,terminal_person_id}'
           OR p.stored ->> 'device_time_local' <> p.refused ->> 'device_time_local'
           OR p.stored ->> 'punch' <> p.refused ->> 'punch'
           OR p.stored ->> 'passage' <> p.refused ->> 'passage'
           OR p.stored ->> 'outcome' <> p.refused ->> 'outcome'
        ON CONFLICT DO NOTHING
        RETURNING 1
    )
    SELECT count(*) FROM recorded
$$;

-- {tenant, gateway_id, site_id, version, journal_id, seq, head, terminals: [{terminal_id, device_key, protocol, state,
-- last_heard}]}. An upsert in plain SQL would need SELECT, which a gateway does not have.
CREATE OR REPLACE FUNCTION portero.heartbeat(beat jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    INSERT INTO portero.gateway AS g (tenant, gateway_id, site_id, version, journal_id, seq, head, status)
    VALUES (beat ->> 'tenant', beat ->> 'gateway_id', beat ->> 'site_id', beat ->> 'version', beat ->> 'journal_id',
            (beat ->> 'seq')::bigint, beat ->> 'head', beat - 'terminals')
    ON CONFLICT (tenant, gateway_id) DO UPDATE
    SET site_id = excluded.site_id, version = excluded.version, journal_id = excluded.journal_id, seq = excluded.seq,
        head = excluded.head, status = excluded.status, seen_at = now();

    INSERT INTO portero.terminal AS t
        (tenant, gateway_id, terminal_id, device_key, protocol, state, last_heard, status)
    SELECT DISTINCT ON (e ->> 'terminal_id', coalesce(e ->> 'device_key', ''))
           beat ->> 'tenant', beat ->> 'gateway_id', e ->> 'terminal_id', coalesce(e ->> 'device_key', ''),
           e ->> 'protocol', e ->> 'state', (e ->> 'last_heard')::timestamptz, e
    FROM jsonb_array_elements(coalesce(beat -> 'terminals', '[]'::jsonb)) AS e
    ON CONFLICT (tenant, gateway_id, terminal_id, device_key) DO UPDATE
    SET protocol = excluded.protocol, state = excluded.state, last_heard = excluded.last_heard,
        status = excluded.status, seen_at = now();

    INSERT INTO portero.anchor (tenant, gateway_id, journal_id, seq, head)
    SELECT beat ->> 'tenant', beat ->> 'gateway_id', beat ->> 'journal_id', (beat ->> 'seq')::bigint, beat ->> 'head'
    WHERE beat ->> 'journal_id' IS NOT NULL AND beat ->> 'seq' IS NOT NULL AND beat ->> 'head' IS NOT NULL
    ON CONFLICT DO NOTHING;
$$;

REVOKE ALL ON FUNCTION portero.record_conflicts(text[], uuid[], jsonb[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION portero.heartbeat(jsonb) FROM PUBLIC;

GRANT USAGE ON SCHEMA portero TO portero_gateway;
GRANT INSERT ON portero.event, portero.correction, portero.anchor TO portero_gateway;
GRANT EXECUTE ON FUNCTION portero.record_conflicts(text[], uuid[], jsonb[]) TO portero_gateway;
GRANT EXECUTE ON FUNCTION portero.heartbeat(jsonb) TO portero_gateway;

COMMIT;
