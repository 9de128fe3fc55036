-- Portero's schema at the centre. May be run again: it only adds what is missing. PostgreSQL 13 and later.
--
-- Each gateway has a login of its own (portero central add-gateway), a member of portero_login, bound by the table
-- portero.login to the gateways that it may write as. It may insert their events and corrections, call portero.heartbeat and
-- portero.record_conflicts, and read nothing but its own lines of portero.login.
--
-- A login that several gateways share is a member of portero_gateway instead: it may write as any gateway.
--
-- To spread the tables over machines with Citus, after this script: every key begins with the tenant.
--     SELECT create_distributed_table('portero.event', 'tenant');
--     SELECT create_distributed_table('portero.correction', 'tenant', colocate_with => 'portero.event');
--     the same for portero.conflict, portero.gateway, portero.terminal and portero.anchor;
--     SELECT create_reference_table('portero.login');

BEGIN;

CREATE SCHEMA IF NOT EXISTS portero;

CREATE TABLE IF NOT EXISTS portero.schema_version (
    version    integer     NOT NULL PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);

DO $$
DECLARE
    found integer;
BEGIN
    SELECT max(version) INTO found FROM portero.schema_version;
    IF found > 2 THEN
        RAISE EXCEPTION 'the database has portero schema %, this release knows only schema 2: use the newer portero', found;
    END IF;
END
$$;

INSERT INTO portero.schema_version (version) VALUES (2) ON CONFLICT DO NOTHING;

COMMENT ON SCHEMA portero IS 'portero schema 2';

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portero_gateway') THEN
        CREATE ROLE portero_gateway NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'portero_login') THEN
        CREATE ROLE portero_login NOLOGIN;
    END IF;
END
$$;

-- Which gateways a login may write as.
CREATE TABLE IF NOT EXISTS portero.login (
    tenant     text        NOT NULL,
    login      text        NOT NULL,
    gateway_id text        NOT NULL,
    added_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, login, gateway_id)
);

-- A login sees its own lines here, for the policies below.
CREATE OR REPLACE VIEW portero.own_gateway WITH (security_barrier) AS
    SELECT l.tenant, l.gateway_id FROM portero.login l WHERE l.login = CURRENT_USER;

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

ALTER TABLE portero.conflict ADD COLUMN IF NOT EXISTS gateway_id text;

COMMENT ON COLUMN portero.conflict.gateway_id IS 'the gateway whose version was refused';

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

-- Stays until a person sets it to null: a journal that went back was restored or rewritten.
ALTER TABLE portero.gateway ADD COLUMN IF NOT EXISTS anchor_problem text;
ALTER TABLE portero.gateway ADD COLUMN IF NOT EXISTS anchor_problem_at timestamptz;

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
-- sides have them. Answers how many conflicts are new. A login of its own learns of its own tenants only.
CREATE OR REPLACE FUNCTION portero.record_conflicts(tenants text[], ids uuid[], bodies jsonb[]) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
    WITH sent AS (
        SELECT s.tenant, s.event_id, s.body
        FROM unnest(tenants, ids, bodies) AS s (tenant, event_id, body)
        WHERE pg_has_role(session_user, 'portero_gateway', 'MEMBER')
           OR EXISTS (
               SELECT FROM portero.login l
               WHERE l.tenant = s.tenant AND l.login = session_user AND l.gateway_id = s.body ->> 'gateway_id'
           )
    ), pair AS (
        SELECT s.tenant, s.event_id, s.body AS refused, e.body AS stored
        FROM sent s JOIN portero.event e ON e.tenant = s.tenant AND e.event_id = s.event_id
    ), recorded AS (
        INSERT INTO portero.conflict (tenant, event_id, digest, stored, refused, gateway_id)
        SELECT p.tenant, p.event_id, encode(sha256(convert_to(p.refused::text, 'UTF8')), 'hex'), p.stored, p.refused, p.refused ->> 'gateway_id'
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
-- last_heard}]}, and whatever else the gateway says of itself. An upsert in plain SQL would need SELECT, which a gateway does
-- not have.
CREATE OR REPLACE FUNCTION portero.heartbeat(beat jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    beat_tenant  text := beat ->> 'tenant';
    beat_gateway text := beat ->> 'gateway_id';
    beat_journal text := beat ->> 'journal_id';
    beat_seq     bigint := (beat ->> 'seq')::bigint;
    beat_head    text := beat ->> 'head';
    last_seq     bigint;
    problem      text;
BEGIN
    IF NOT pg_has_role(session_user, 'portero_gateway', 'MEMBER') AND NOT EXISTS (
        SELECT FROM portero.login l
        WHERE l.tenant = beat_tenant AND l.login = session_user AND l.gateway_id = beat_gateway
    ) THEN
        RAISE insufficient_privilege USING MESSAGE = 'this login may not speak for that gateway';
    END IF;

    SELECT a.seq INTO last_seq FROM portero.anchor a
    WHERE a.tenant = beat_tenant AND a.gateway_id = beat_gateway AND a.journal_id = beat_journal
    ORDER BY a.seq DESC LIMIT 1;
    IF beat_seq < last_seq THEN
        problem := format('journal %s went back from row %s to row %s', beat_journal, last_seq, beat_seq);
    ELSIF EXISTS (
        SELECT FROM portero.anchor a
        WHERE a.tenant = beat_tenant AND a.gateway_id = beat_gateway AND a.journal_id = beat_journal
          AND a.seq = beat_seq AND a.head <> beat_head
    ) THEN
        problem := format('row %s of journal %s is not the row that was there before', beat_seq, beat_journal);
    END IF;

    INSERT INTO portero.gateway AS g
        (tenant, gateway_id, site_id, version, journal_id, seq, head, status, anchor_problem, anchor_problem_at)
    VALUES (beat_tenant, beat_gateway, beat ->> 'site_id', beat ->> 'version', beat_journal, beat_seq, beat_head,
            beat - 'terminals', problem, CASE WHEN problem IS NOT NULL THEN now() END)
    ON CONFLICT (tenant, gateway_id) DO UPDATE
    SET site_id = excluded.site_id, version = excluded.version, journal_id = excluded.journal_id, seq = excluded.seq,
        head = excluded.head, status = excluded.status, seen_at = now(),
        anchor_problem = coalesce(excluded.anchor_problem, g.anchor_problem),
        anchor_problem_at = coalesce(excluded.anchor_problem_at, g.anchor_problem_at);

    INSERT INTO portero.terminal AS t
        (tenant, gateway_id, terminal_id, device_key, protocol, state, last_heard, status)
    SELECT DISTINCT ON (e ->> 'terminal_id', coalesce(e ->> 'device_key', ''))
           beat_tenant, beat_gateway, e ->> 'terminal_id', coalesce(e ->> 'device_key', ''),
           e ->> 'protocol', e ->> 'state', (e ->> 'last_heard')::timestamptz, e
    FROM jsonb_array_elements(coalesce(beat -> 'terminals', '[]'::jsonb)) AS e
    ON CONFLICT (tenant, gateway_id, terminal_id, device_key) DO UPDATE
    SET protocol = excluded.protocol, state = excluded.state, last_heard = excluded.last_heard,
        status = excluded.status, seen_at = now();

    IF beat_journal IS NOT NULL AND beat_seq IS NOT NULL AND beat_head IS NOT NULL THEN
        INSERT INTO portero.anchor (tenant, gateway_id, journal_id, seq, head)
        VALUES (beat_tenant, beat_gateway, beat_journal, beat_seq, beat_head)
        ON CONFLICT DO NOTHING;
    END IF;
END
$$;

-- The lowest event id of a moment in UTC: 48 bits of milliseconds, then zeros.
CREATE OR REPLACE FUNCTION portero.lowest_id(moment timestamp) RETURNS uuid
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT (lpad(to_hex((extract(epoch FROM moment) * 1000)::bigint), 12, '0') || repeat('0', 20))::uuid
$$;

-- The month of an event id, by its first 48 bits.
CREATE OR REPLACE FUNCTION portero.id_month(event_id uuid) RETURNS date
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT date_trunc('month', timestamp '1970-01-01' + interval '1 second'
        * (('x0000' || left(replace(event_id::text, '-', ''), 12))::bit(64)::bigint / 1000))::date
$$;

-- Makes the partition of a month and moves that month's rows out of the default partition, all in one transaction. Answers
-- how many rows moved; null if the partition was there already. `portero central maintain` calls it, and so may a scheduler.
CREATE OR REPLACE FUNCTION portero.make_month(month date) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamp := date_trunc('month', month::timestamp);
    low   uuid := portero.lowest_id(date_trunc('month', month::timestamp));
    high  uuid := portero.lowest_id(date_trunc('month', month::timestamp) + interval '1 month');
    name  text := format('event_%s', to_char(first, 'YYYY_MM'));
    moved bigint := 0;
BEGIN
    IF first < timestamp '1970-01-01' THEN
        RAISE EXCEPTION 'no event id is of a month before 1970';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('portero.make_month'));
    IF to_regclass(format('portero.%I', name)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    EXECUTE format('CREATE TABLE portero.%I (LIKE portero.event INCLUDING ALL)', name);
    IF to_regclass('portero.event_default') IS NOT NULL THEN
        -- At once as strong as attaching needs it: an insert between the move and the attachment would make that fail.
        LOCK TABLE portero.event_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('WITH gone AS (DELETE FROM portero.event_default WHERE event_id >= %L AND event_id < %L RETURNING *) '
            'INSERT INTO portero.%I SELECT * FROM gone', low, high, name);
        GET DIAGNOSTICS moved = ROW_COUNT;
    END IF;
    EXECUTE format('ALTER TABLE portero.event ATTACH PARTITION portero.%I FOR VALUES FROM (%L) TO (%L)', name, low, high);
    RETURN moved;
END
$$;

REVOKE ALL ON FUNCTION portero.record_conflicts(text[], uuid[], jsonb[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION portero.heartbeat(jsonb) FROM PUBLIC;
REVOKE ALL ON FUNCTION portero.lowest_id(timestamp), portero.id_month(uuid), portero.make_month(date) FROM PUBLIC;

GRANT USAGE ON SCHEMA portero TO portero_gateway, portero_login;
GRANT INSERT ON portero.event, portero.correction, portero.anchor TO portero_gateway;
GRANT INSERT ON portero.event, portero.correction TO portero_login;
GRANT SELECT ON portero.own_gateway TO portero_login;
GRANT EXECUTE ON FUNCTION portero.record_conflicts(text[], uuid[], jsonb[]) TO portero_gateway, portero_login;
GRANT EXECUTE ON FUNCTION portero.heartbeat(jsonb) TO portero_gateway, portero_login;

-- Large batches go through a temporary table.
DO $$
BEGIN
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO portero_login', current_database());
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'the owner of the database must GRANT CONNECT, TEMPORARY ON DATABASE % TO portero_login', current_database();
END
$$;

-- Who may insert which rows. For reading, updating and deleting the grants alone decide, as they do without row security: no
-- gateway has any of them.
DO $$
DECLARE
    target  text;
    own     constant text := '(tenant, gateway_id) IN (SELECT o.tenant, o.gateway_id FROM portero.own_gateway o)';
    policy  record;
BEGIN
    FOREACH target IN ARRAY ARRAY['event', 'correction'] LOOP
        FOR policy IN
            SELECT * FROM (VALUES
                ('shared_login', 'FOR INSERT TO portero_gateway WITH CHECK (true)'),
                ('own_login', format('FOR INSERT TO portero_login WITH CHECK (%s)', own)),
                ('granted_select', 'FOR SELECT USING (true)'),
                ('granted_update', 'FOR UPDATE USING (true)'),
                ('granted_delete', 'FOR DELETE USING (true)')
            ) AS p (name, rule)
        LOOP
            IF NOT EXISTS (
                SELECT FROM pg_catalog.pg_policies p
                WHERE p.schemaname = 'portero' AND p.tablename = target AND p.policyname = policy.name
            ) THEN
                EXECUTE format('CREATE POLICY %I ON portero.%I %s', policy.name, target, policy.rule);
            END IF;
        END LOOP;
        IF NOT (SELECT c.relrowsecurity FROM pg_catalog.pg_class c WHERE c.oid = format('portero.%I', target)::regclass) THEN
            EXECUTE format('ALTER TABLE portero.%I ENABLE ROW LEVEL SECURITY', target);
        END IF;
    END LOOP;
END
$$;

COMMIT;
