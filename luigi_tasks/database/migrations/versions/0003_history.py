"""Every version of a bar, missing sessions, bars in quarantine, and groupings over time.

Revision ID: 0003
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# What was stored before is as of the day on which it was stored: nothing else is known of it.
TABLES = """
ALTER TABLE securities
    ADD COLUMN bars_as_of date,
    ADD COLUMN history_from date,
    ADD COLUMN whole_as_of date,
    ADD COLUMN successor text,
    ADD CONSTRAINT securities_history_check CHECK (num_nulls(bars_as_of, history_from) IN (0, 2));
COMMENT ON COLUMN securities.bars_as_of IS 'the latest as-of date of which the bars are';
COMMENT ON COLUMN securities.history_from IS 'the day from which on bars were asked for';
COMMENT ON COLUMN securities.whole_as_of IS 'the latest as-of date on which the whole history was asked for';
COMMENT ON COLUMN securities.successor IS 'the ticker it has now, where it was renamed';

ALTER TABLE ohlcv ADD COLUMN as_of date DEFAULT CURRENT_DATE NOT NULL;
ALTER TABLE ohlcv ALTER COLUMN as_of DROP DEFAULT;
COMMENT ON COLUMN ohlcv.as_of IS 'as-of date of the run that last changed the bar';

UPDATE securities SET bars_as_of = known.as_of, history_from = known.first
FROM (
    SELECT security_id, max(as_of) AS as_of, min(date) AS first FROM ohlcv GROUP BY security_id
) AS known
WHERE known.security_id = securities.security_id;

CREATE TABLE ohlcv_revisions (
    security_id bigint NOT NULL
        CONSTRAINT ohlcv_revisions_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    date date NOT NULL,
    as_of date NOT NULL,
    until date NOT NULL,
    why text NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    adj_close double precision,
    volume bigint NOT NULL,
    dividends double precision NOT NULL,
    stock_splits double precision NOT NULL,
    revised_at timestamptz DEFAULT now() NOT NULL,
    revision_id bigint GENERATED ALWAYS AS IDENTITY,
    CONSTRAINT ohlcv_revisions_pkey PRIMARY KEY (security_id, date, revision_id),
    CONSTRAINT ohlcv_revisions_until_check CHECK (until >= as_of),
    CONSTRAINT ohlcv_revisions_why_check CHECK (why IN ('split', 'dividend', 'restatement', 'withdrawn'))
);
COMMENT ON TABLE ohlcv_revisions IS 'Bars as they were before they were changed';
COMMENT ON COLUMN ohlcv_revisions.as_of IS 'as-of date of the run that brought this version';
COMMENT ON COLUMN ohlcv_revisions.until IS 'as-of date of the run that replaced it';

CREATE TABLE quarantined_bars (
    security_id bigint NOT NULL
        CONSTRAINT quarantined_bars_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    date date NOT NULL,
    number integer NOT NULL,
    open double precision,
    high double precision,
    low double precision,
    close double precision,
    adj_close double precision,
    volume double precision,
    dividends double precision,
    stock_splits double precision,
    broken jsonb NOT NULL,
    as_of date NOT NULL,
    quarantined_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT quarantined_bars_pkey PRIMARY KEY (security_id, date, number)
);
COMMENT ON TABLE quarantined_bars IS 'Bars that broke a rule when last downloaded; gone once they are mended';
COMMENT ON COLUMN quarantined_bars.number IS 'from 0, where the source sends several for one session';
COMMENT ON COLUMN quarantined_bars.broken IS '[{rule, value, threshold}]';

CREATE TABLE missing_sessions (
    security_id bigint NOT NULL
        CONSTRAINT missing_sessions_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    date date NOT NULL,
    noticed date NOT NULL,
    asked_again date,
    CONSTRAINT missing_sessions_pkey PRIMARY KEY (security_id, date)
);
COMMENT ON TABLE missing_sessions IS 'Sessions of the exchange that the source has no bar of; gone once it has';
COMMENT ON COLUMN missing_sessions.noticed IS 'as-of date of the run that did not get it';
COMMENT ON COLUMN missing_sessions.asked_again IS 'as-of date of the run that asked again, in vain';
CREATE INDEX missing_sessions_date_idx ON missing_sessions (date);

ALTER TABLE security_groupings
    ADD COLUMN valid_from date DEFAULT CURRENT_DATE NOT NULL,
    ADD COLUMN valid_to date,
    DROP CONSTRAINT security_groupings_pkey,
    ADD CONSTRAINT security_groupings_pkey PRIMARY KEY (security_id, "grouping", valid_from),
    ADD CONSTRAINT security_groupings_valid_check CHECK (valid_to > valid_from);
ALTER TABLE security_groupings ALTER COLUMN valid_from DROP DEFAULT;
CREATE UNIQUE INDEX security_groupings_open_idx ON security_groupings (security_id, "grouping")
    WHERE valid_to IS NULL;
CREATE TABLE grouping_listings (
    "grouping" text CONSTRAINT grouping_listings_pkey PRIMARY KEY,
    as_of date NOT NULL
);
COMMENT ON TABLE grouping_listings IS 'The latest as-of date as of which members of a grouping were listed';
COMMENT ON COLUMN security_groupings.valid_from IS 'as-of date of the run that first listed it';
COMMENT ON COLUMN security_groupings.valid_to IS 'as-of date of the first run that did not; NULL: it is listed';

CREATE FUNCTION ohlcv_as_of(day date)
RETURNS TABLE (
    security_id bigint, date date, open double precision, high double precision, low double precision,
    close double precision, adj_close double precision, volume bigint, dividends double precision,
    stock_splits double precision
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT o.security_id, o.date, o.open, o.high, o.low, o.close, o.adj_close, o.volume, o.dividends, o.stock_splits
    FROM ohlcv AS o WHERE o.as_of <= day
    UNION ALL
    SELECT r.security_id, r.date, r.open, r.high, r.low, r.close, r.adj_close, r.volume, r.dividends, r.stock_splits
    FROM ohlcv_revisions AS r WHERE r.as_of <= day AND day < r.until
$$;
COMMENT ON FUNCTION ohlcv_as_of IS 'The bars as this table had them after the run of that as-of date';

CREATE VIEW ohlcv_changes AS
WITH versions AS (
    SELECT security_id, date, until, why, revised_at, revision_id,
        ARRAY[open, high, low, close, adj_close, volume, dividends, stock_splits] AS bar
    FROM ohlcv_revisions
), pairs AS (
    SELECT v.*, coalesce(
        lead(v.bar) OVER (PARTITION BY v.security_id, v.date ORDER BY v.revision_id),
        (SELECT ARRAY[o.open, o.high, o.low, o.close, o.adj_close, o.volume, o.dividends, o.stock_splits]
         FROM ohlcv AS o WHERE o.security_id = v.security_id AND o.date = v.date)
    ) AS next_bar
    FROM versions AS v
)
SELECT s.ticker, p.date, names.name AS "column", p.bar[names.place] AS old, p.next_bar[names.place] AS new,
    p.why, p.until AS as_of, p.revised_at
FROM pairs AS p
JOIN securities AS s USING (security_id)
CROSS JOIN unnest(ARRAY['open', 'high', 'low', 'close', 'adj_close', 'volume', 'dividends', 'stock_splits'])
    WITH ORDINALITY AS names (name, place)
WHERE p.bar[names.place] IS DISTINCT FROM p.next_bar[names.place];
COMMENT ON VIEW ohlcv_changes IS 'Every value that was changed: what, when, old, new and why';

CREATE VIEW security_listings AS
SELECT ticker, "grouping", valid_from, valid_to
FROM security_groupings JOIN securities USING (security_id);
COMMENT ON VIEW security_listings IS 'Which ticker was listed in which grouping, from when until when';
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(
        """
        DROP VIEW security_listings, ohlcv_changes;
        DROP FUNCTION ohlcv_as_of;
        DROP TABLE ohlcv_revisions, quarantined_bars, missing_sessions, grouping_listings;
        DELETE FROM security_groupings WHERE valid_to IS NOT NULL;
        DROP INDEX security_groupings_open_idx;
        ALTER TABLE security_groupings
            DROP CONSTRAINT security_groupings_pkey,
            DROP CONSTRAINT security_groupings_valid_check,
            DROP COLUMN valid_from,
            DROP COLUMN valid_to,
            ADD CONSTRAINT security_groupings_pkey PRIMARY KEY (security_id, "grouping");
        ALTER TABLE ohlcv DROP COLUMN as_of;
        ALTER TABLE securities
            DROP CONSTRAINT securities_history_check,
            DROP COLUMN bars_as_of, DROP COLUMN history_from, DROP COLUMN whole_as_of, DROP COLUMN successor;
        """
    )
