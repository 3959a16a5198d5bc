"""What a source says is held against itself: capital gains, currencies of dividends, provisional bars, corporate
actions of days without a bar, repairs, and the currency of the market capitalisation.

Revision ID: 0008
"""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# The views and the function name the columns that change; they are made anew.
DROPPED = """
DROP VIEW ohlcv_changes, prices_adjusted, latest_metadata;
DROP FUNCTION ohlcv_as_of;
"""

TABLES = """
ALTER TABLE securities
    ADD COLUMN open_until timestamptz,
    ADD COLUMN unfinished date,
    ADD COLUMN accepted boolean DEFAULT false NOT NULL,
    ADD COLUMN company_as_of date,
    ADD CONSTRAINT securities_unfinished_check CHECK (num_nulls(open_until, unfinished) IN (0, 2));
COMMENT ON COLUMN securities.open_until IS
    'when the session that the last answer left out can be had; NULL: it left out none';
COMMENT ON COLUMN securities.unfinished IS 'that session';
COMMENT ON COLUMN securities.accepted IS 'the next answer replaces what is stored, whatever it is';
COMMENT ON COLUMN securities.company_as_of IS
    'the latest as-of date of which company data was asked for; NULL: what is stored of it counts no more';
UPDATE securities SET company_as_of = known.as_of
FROM (SELECT security_id, max(as_of) AS as_of FROM security_metadata GROUP BY security_id) AS known
WHERE known.security_id = securities.security_id;

ALTER TABLE ohlcv
    ALTER COLUMN open DROP NOT NULL, ALTER COLUMN high DROP NOT NULL, ALTER COLUMN low DROP NOT NULL,
    ALTER COLUMN volume DROP NOT NULL,
    ADD COLUMN capital_gains double precision DEFAULT 0 NOT NULL,
    ADD COLUMN dividend_currency text,
    ADD COLUMN provisional boolean DEFAULT false NOT NULL,
    ADD COLUMN settled_as_of date,
    ADD CONSTRAINT ohlcv_capital_gains_check CHECK (capital_gains >= 0 AND capital_gains < 'Infinity'),
    ADD CONSTRAINT ohlcv_known_check CHECK (provisional OR num_nulls(open, high, low) = 0);
COMMENT ON COLUMN ohlcv.dividends IS 'per share, on the ex-date, in dividend_currency';
COMMENT ON COLUMN ohlcv.capital_gains IS
    'A fund''s distribution of gains: currency per share, on the ex-date; 0: none';
COMMENT ON COLUMN ohlcv.dividend_currency IS 'of the dividend; NULL: that of the prices';
COMMENT ON COLUMN ohlcv.provisional IS 'the newest session, which the source may still settle';
COMMENT ON COLUMN ohlcv.settled_as_of IS 'as-of date of the run that found it unchanged; NULL: of none';

ALTER TABLE ohlcv_revisions
    ALTER COLUMN open DROP NOT NULL, ALTER COLUMN high DROP NOT NULL, ALTER COLUMN low DROP NOT NULL,
    ALTER COLUMN volume DROP NOT NULL,
    ALTER COLUMN dividends SET DEFAULT 0, ALTER COLUMN stock_splits SET DEFAULT 0,
    ADD COLUMN capital_gains double precision DEFAULT 0 NOT NULL,
    ADD COLUMN dividend_currency text,
    ADD COLUMN provisional boolean DEFAULT false NOT NULL,
    ADD COLUMN settled_as_of date,
    DROP CONSTRAINT ohlcv_revisions_why_check,
    ADD CONSTRAINT ohlcv_revisions_why_check
        CHECK (why IN ('split', 'dividend', 'restatement', 'settled', 'accepted', 'withdrawn'));
COMMENT ON COLUMN ohlcv_revisions.dividends IS 'per share, on the ex-date, in dividend_currency';
COMMENT ON COLUMN ohlcv_revisions.stock_splits IS 'New shares per old one; 0: none';
COMMENT ON COLUMN ohlcv_revisions.capital_gains IS
    'A fund''s distribution of gains: currency per share, on the ex-date; 0: none';
COMMENT ON COLUMN ohlcv_revisions.dividend_currency IS 'of the dividend; NULL: that of the prices';
COMMENT ON COLUMN ohlcv_revisions.provisional IS 'the newest session, which the source may still settle';
COMMENT ON COLUMN ohlcv_revisions.settled_as_of IS 'as-of date of the run that found it unchanged; NULL: of none';

ALTER TABLE quarantined_bars
    ADD COLUMN capital_gains double precision,
    ADD COLUMN dividend_currency text,
    ADD COLUMN provisional boolean DEFAULT false NOT NULL;
COMMENT ON COLUMN quarantined_bars.provisional IS
    'the newest session, which waits for the source to settle it';

CREATE TABLE actions_without_bar (
    security_id bigint NOT NULL
        CONSTRAINT actions_without_bar_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    date date NOT NULL,
    as_of date NOT NULL,
    until date,
    dividends double precision DEFAULT 0 NOT NULL,
    stock_splits double precision DEFAULT 0 NOT NULL,
    capital_gains double precision DEFAULT 0 NOT NULL,
    dividend_currency text,
    CONSTRAINT actions_without_bar_pkey PRIMARY KEY (security_id, date, as_of),
    CONSTRAINT actions_without_bar_until_check CHECK (until > as_of),
    CONSTRAINT actions_without_bar_finite_check
        CHECK (greatest(dividends, stock_splits, capital_gains) < 'Infinity'),
    CONSTRAINT actions_without_bar_not_negative_check CHECK (least(dividends, stock_splits, capital_gains) >= 0)
);
COMMENT ON TABLE actions_without_bar IS 'Corporate actions of days that no bar is stored of';
COMMENT ON COLUMN actions_without_bar.as_of IS 'as-of date of the run that brought it';
COMMENT ON COLUMN actions_without_bar.until IS
    'as-of date of the run after which it was no longer so; NULL: it is';
COMMENT ON COLUMN actions_without_bar.dividends IS 'per share, on the ex-date, in dividend_currency';
COMMENT ON COLUMN actions_without_bar.stock_splits IS 'New shares per old one; 0: none';
COMMENT ON COLUMN actions_without_bar.capital_gains IS
    'A fund''s distribution of gains: currency per share, on the ex-date; 0: none';
COMMENT ON COLUMN actions_without_bar.dividend_currency IS 'of the dividend; NULL: that of the prices';

-- Until now the bars in quarantine kept those of theirs.
INSERT INTO actions_without_bar (security_id, date, as_of, dividends, stock_splits)
SELECT DISTINCT ON (security_id, date) security_id, date, as_of, dividends, stock_splits
FROM quarantined_bars AS q
WHERE dividends >= 0 AND dividends < 'Infinity' AND stock_splits >= 0 AND stock_splits < 'Infinity'
    AND (dividends > 0 OR stock_splits > 0)
    AND NOT EXISTS (SELECT FROM ohlcv AS o WHERE o.security_id = q.security_id AND o.date = q.date)
ORDER BY security_id, date, number;

CREATE TABLE repairs (
    security_id bigint NOT NULL
        CONSTRAINT repairs_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    date date NOT NULL,
    "column" text NOT NULL,
    as_of date NOT NULL,
    until date,
    rule text NOT NULL,
    old double precision,
    new double precision NOT NULL,
    evidence text NOT NULL,
    CONSTRAINT repairs_pkey PRIMARY KEY (security_id, date, "column", as_of),
    CONSTRAINT repairs_until_check CHECK (until > as_of),
    CONSTRAINT repairs_new_check CHECK (new >= 0 AND new < 'Infinity')
);
COMMENT ON TABLE repairs IS
    'Values that the source contradicts itself about, mended where there is exactly one solution';
COMMENT ON COLUMN repairs."column" IS 'of the bar';
COMMENT ON COLUMN repairs.as_of IS 'as-of date of the run that found it';
COMMENT ON COLUMN repairs.until IS
    'as-of date of the run that found it mended, or otherwise; NULL: it holds';
COMMENT ON COLUMN repairs.rule IS 'that the served value breaks';
COMMENT ON COLUMN repairs.old IS 'as served; NULL: not known';
COMMENT ON COLUMN repairs.new IS 'the one value with which the answer is consistent';

ALTER TABLE security_metadata ADD COLUMN market_cap_currency text;
COMMENT ON COLUMN security_metadata.market_cap IS 'in market_cap_currency';
COMMENT ON COLUMN security_metadata.market_cap_currency IS 'the major unit: GBP where prices are in GBp';
UPDATE security_metadata SET market_cap_currency = CASE currency
    WHEN 'GBp' THEN 'GBP' WHEN 'GBX' THEN 'GBP' WHEN 'ZAc' THEN 'ZAR' WHEN 'ILA' THEN 'ILS' WHEN 'USX' THEN 'USD'
    ELSE currency END
WHERE market_cap IS NOT NULL;
"""

VIEWS = """
CREATE FUNCTION ohlcv_as_of(day date)
RETURNS TABLE (
    security_id bigint, date date, open double precision, high double precision, low double precision,
    close double precision, adj_close double precision, volume bigint, dividends double precision,
    stock_splits double precision, capital_gains double precision, dividend_currency text, provisional boolean
)
LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT o.security_id, o.date, o.open, o.high, o.low, o.close, o.adj_close, o.volume, o.dividends, o.stock_splits,
        o.capital_gains, o.dividend_currency, o.provisional OR coalesce(o.settled_as_of > day, false)
    FROM ohlcv AS o WHERE o.as_of <= day
    UNION ALL
    SELECT r.security_id, r.date, r.open, r.high, r.low, r.close, r.adj_close, r.volume, r.dividends, r.stock_splits,
        r.capital_gains, r.dividend_currency, r.provisional OR coalesce(r.settled_as_of > day, false)
    FROM ohlcv_revisions AS r WHERE r.as_of <= day AND day < r.until
$$;
COMMENT ON FUNCTION ohlcv_as_of IS 'The bars as this table had them after the run of that as-of date';

CREATE VIEW ohlcv_changes AS
WITH versions AS (
    SELECT security_id, date, until, why, revised_at, revision_id,
        ARRAY[open, high, low, close, adj_close, volume, dividends, stock_splits, capital_gains] AS bar
    FROM ohlcv_revisions
), pairs AS (
    SELECT v.*, coalesce(
        lead(v.bar) OVER (PARTITION BY v.security_id, v.date ORDER BY v.revision_id),
        (SELECT ARRAY[
            o.open, o.high, o.low, o.close, o.adj_close, o.volume, o.dividends, o.stock_splits, o.capital_gains
        ] FROM ohlcv AS o WHERE o.security_id = v.security_id AND o.date = v.date)
    ) AS next_bar
    FROM versions AS v
)
SELECT s.ticker, p.date, names.name AS "column", p.bar[names.place] AS old, p.next_bar[names.place] AS new,
    p.why, p.until AS as_of, p.revised_at
FROM pairs AS p
JOIN securities AS s USING (security_id)
CROSS JOIN unnest(ARRAY[
    'open', 'high', 'low', 'close', 'adj_close', 'volume', 'dividends', 'stock_splits', 'capital_gains'
]) WITH ORDINALITY AS names (name, place)
WHERE p.bar[names.place] IS DISTINCT FROM p.next_bar[names.place];
COMMENT ON VIEW ohlcv_changes IS 'Every value that was changed: what, when, old, new and why';

CREATE VIEW prices_adjusted AS
SELECT s.ticker, o.date,
    o.open * (o.adj_close / o.close) AS open,
    CASE WHEN num_nulls(o.adj_close, o.high) = 0 THEN greatest(o.high * (o.adj_close / o.close), o.adj_close) END
        AS high,
    CASE WHEN num_nulls(o.adj_close, o.low) = 0 THEN least(o.low * (o.adj_close / o.close), o.adj_close) END AS low,
    o.adj_close AS close,
    o.volume,
    o.provisional
FROM ohlcv AS o JOIN current_securities AS s USING (security_id);
COMMENT ON VIEW prices_adjusted IS
    'Daily bars adjusted for splits and dividends, volume for splits; prices are NULL where the source does not say';

-- The stored bars with the repairs that hold, and bars in quarantine that a repair mends. What breaks a rule there may
-- be no number that a price can be; the actions of their days are those without a bar. LATERAL: to ask for one ticker
-- is to look at its bars alone, which a join to a UNION would not do.
CREATE VIEW ohlcv_repaired AS
SELECT of_it.security_id, bar.*
FROM securities AS of_it CROSS JOIN LATERAL (
    WITH mended AS (
        SELECT date,
            max(new) FILTER (WHERE "column" = 'open') AS open,
            max(new) FILTER (WHERE "column" = 'high') AS high,
            max(new) FILTER (WHERE "column" = 'low') AS low,
            max(new) FILTER (WHERE "column" = 'close') AS close,
            max(new) FILTER (WHERE "column" = 'adj_close') AS adj_close,
            round(max(new) FILTER (WHERE "column" = 'volume'))::bigint AS volume,
            max(new) FILTER (WHERE "column" = 'dividends') AS dividends
        FROM repairs WHERE security_id = of_it.security_id AND until IS NULL GROUP BY date
    )
    SELECT o.date,
        coalesce(m.open, o.open) AS open, coalesce(m.high, o.high) AS high, coalesce(m.low, o.low) AS low,
        coalesce(m.close, o.close) AS close, coalesce(m.adj_close, o.adj_close) AS adj_close,
        coalesce(m.volume, o.volume) AS volume, coalesce(m.dividends, o.dividends) AS dividends, o.stock_splits,
        o.capital_gains, CASE WHEN m.dividends IS NULL THEN o.dividend_currency END AS dividend_currency,
        o.provisional, m.date IS NOT NULL AS repaired
    FROM ohlcv AS o LEFT JOIN mended AS m ON m.date = o.date
    WHERE o.security_id = of_it.security_id
    UNION ALL
    SELECT m.date,
        coalesce(m.open, CASE WHEN q.open > 0 AND q.open < 'Infinity' THEN q.open END),
        coalesce(m.high, CASE WHEN q.high > 0 AND q.high < 'Infinity' THEN q.high END),
        coalesce(m.low, CASE WHEN q.low > 0 AND q.low < 'Infinity' THEN q.low END),
        m.close,
        coalesce(m.adj_close, CASE WHEN q.adj_close > 0 AND q.adj_close < 'Infinity' THEN q.adj_close END),
        coalesce(m.volume, CASE WHEN q.volume >= 0 AND q.volume < 1e18 THEN round(q.volume)::bigint END),
        coalesce(m.dividends, a.dividends, 0), coalesce(a.stock_splits, 0), coalesce(a.capital_gains, 0),
        CASE WHEN m.dividends IS NULL THEN a.dividend_currency END, coalesce(q.provisional, false), true
    FROM mended AS m
    LEFT JOIN quarantined_bars AS q ON q.security_id = of_it.security_id AND q.date = m.date AND q.number = 0
    LEFT JOIN actions_without_bar AS a
        ON a.security_id = of_it.security_id AND a.date = m.date AND a.until IS NULL
    WHERE m.close IS NOT NULL
        AND NOT EXISTS (SELECT FROM ohlcv AS o WHERE o.security_id = of_it.security_id AND o.date = m.date)
) AS bar;
COMMENT ON VIEW ohlcv_repaired IS
    'The bars of ohlcv, and bars in quarantine that can be mended, with the values of repairs in place of the served';

CREATE VIEW prices_repaired AS
SELECT s.ticker, o.date, o.open, o.high, o.low, o.close, o.adj_close, o.volume,
    CASE WHEN o.dividend_currency IS NULL THEN o.dividends END AS dividends, o.stock_splits, o.capital_gains,
    o.provisional, o.repaired
FROM ohlcv_repaired AS o JOIN current_securities AS s USING (security_id);
COMMENT ON VIEW prices_repaired IS
    'Daily bars adjusted for splits, with repairs; a dividend in another currency than the prices is NULL';

CREATE VIEW corporate_actions AS
SELECT s.ticker, e.date, kinds.kind, kinds.amount,
    CASE kinds.kind
        WHEN 'dividend' THEN coalesce(e.dividend_currency, of_it.currency) WHEN 'capital_gain' THEN of_it.currency
    END AS currency,
    e.has_bar, e.as_of
FROM current_securities AS s
JOIN securities AS of_it USING (security_id)
CROSS JOIN LATERAL (
    SELECT date, dividends, dividend_currency, stock_splits, capital_gains, as_of, true AS has_bar FROM ohlcv AS o
    WHERE o.security_id = of_it.security_id AND (dividends <> 0 OR stock_splits <> 0 OR capital_gains <> 0)
    UNION ALL
    SELECT date, dividends, dividend_currency, stock_splits, capital_gains, as_of, false FROM actions_without_bar AS a
    WHERE a.security_id = of_it.security_id AND until IS NULL
) AS e
CROSS JOIN LATERAL (VALUES
    ('dividend', e.dividends), ('split', e.stock_splits), ('capital_gain', e.capital_gains)
) AS kinds (kind, amount)
WHERE kinds.amount <> 0;
COMMENT ON VIEW corporate_actions IS
    'Dividends, splits and capital gains of each ticker on their own days, whether there is a bar of the day or not';

CREATE VIEW latest_metadata AS
SELECT s.ticker, m.as_of, m.name, m.quote_type, m.exchange, m.currency, m.country, m.sector, m.industry, m.market_cap,
    m.market_cap_currency, m.shares_outstanding, m.answer
FROM current_securities AS s
LEFT JOIN LATERAL (
    SELECT * FROM security_metadata AS every WHERE every.security_id = s.security_id ORDER BY as_of DESC LIMIT 1
) AS m ON true;
COMMENT ON VIEW latest_metadata IS 'The newest company data of each ticker; all NULL where there is none yet';
"""


BACK = """
DROP VIEW corporate_actions, prices_repaired, ohlcv_repaired, ohlcv_changes, prices_adjusted, latest_metadata;
DROP FUNCTION ohlcv_as_of;
DROP TABLE repairs, actions_without_bar;
-- Where the source contradicts itself about the newest session, there was no bar.
DELETE FROM ohlcv WHERE num_nulls(open, high, low, volume) > 0;
DELETE FROM ohlcv_revisions WHERE num_nulls(open, high, low, volume) > 0;
UPDATE ohlcv_revisions SET why = 'restatement' WHERE why IN ('settled', 'accepted');
ALTER TABLE securities DROP COLUMN open_until, DROP COLUMN unfinished, DROP COLUMN accepted,
    DROP COLUMN company_as_of;
ALTER TABLE ohlcv
    ALTER COLUMN open SET NOT NULL, ALTER COLUMN high SET NOT NULL, ALTER COLUMN low SET NOT NULL,
    ALTER COLUMN volume SET NOT NULL,
    DROP COLUMN capital_gains, DROP COLUMN dividend_currency, DROP COLUMN provisional, DROP COLUMN settled_as_of;
ALTER TABLE ohlcv_revisions
    ALTER COLUMN open SET NOT NULL, ALTER COLUMN high SET NOT NULL, ALTER COLUMN low SET NOT NULL,
    ALTER COLUMN volume SET NOT NULL, ALTER COLUMN dividends DROP DEFAULT, ALTER COLUMN stock_splits DROP DEFAULT,
    DROP COLUMN capital_gains, DROP COLUMN dividend_currency, DROP COLUMN provisional, DROP COLUMN settled_as_of,
    DROP CONSTRAINT ohlcv_revisions_why_check,
    ADD CONSTRAINT ohlcv_revisions_why_check CHECK (why IN ('split', 'dividend', 'restatement', 'withdrawn'));
COMMENT ON COLUMN ohlcv.dividends IS 'Currency per share, on the ex-date';
COMMENT ON COLUMN ohlcv_revisions.dividends IS NULL;
COMMENT ON COLUMN ohlcv_revisions.stock_splits IS NULL;
ALTER TABLE quarantined_bars DROP COLUMN capital_gains, DROP COLUMN dividend_currency, DROP COLUMN provisional;
ALTER TABLE security_metadata DROP COLUMN market_cap_currency;
COMMENT ON COLUMN security_metadata.market_cap IS 'in currency';

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

CREATE VIEW prices_adjusted AS
SELECT s.ticker, o.date,
    o.open * (o.adj_close / o.close) AS open,
    CASE WHEN o.adj_close IS NOT NULL THEN greatest(o.high * (o.adj_close / o.close), o.adj_close) END AS high,
    CASE WHEN o.adj_close IS NOT NULL THEN least(o.low * (o.adj_close / o.close), o.adj_close) END AS low,
    o.adj_close AS close,
    o.volume
FROM ohlcv AS o JOIN current_securities AS s USING (security_id);
COMMENT ON VIEW prices_adjusted IS
    'Daily bars adjusted for splits and dividends, volume for splits; prices are NULL where the source does not say';

CREATE VIEW latest_metadata AS
SELECT s.ticker, m.as_of, m.name, m.quote_type, m.exchange, m.currency, m.country, m.sector, m.industry, m.market_cap,
    m.shares_outstanding, m.answer
FROM current_securities AS s
LEFT JOIN LATERAL (
    SELECT * FROM security_metadata AS every WHERE every.security_id = s.security_id ORDER BY as_of DESC LIMIT 1
) AS m ON true;
COMMENT ON VIEW latest_metadata IS 'The newest company data of each ticker; all NULL where there is none yet';
"""


def upgrade() -> None:
    op.execute(DROPPED + TABLES + VIEWS)


def downgrade() -> None:
    op.execute(BACK)
