"""First tables: securities, bars, company data, and the ledger of runs.

Revision ID: 0001
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE store_source (
    only_row boolean DEFAULT true NOT NULL CONSTRAINT store_source_pkey PRIMARY KEY,
    name text NOT NULL,
    since timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT store_source_one_row_check CHECK (only_row)
);
COMMENT ON TABLE store_source IS 'The one source that the bars here come from';

CREATE TABLE securities (
    security_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT securities_pkey PRIMARY KEY,
    ticker text NOT NULL CONSTRAINT securities_ticker_key UNIQUE,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT securities_ticker_check CHECK (ticker ~ '^[A-Z0-9^][A-Z0-9.=^&_-]{0,31}$')
);

CREATE TABLE security_groupings (
    security_id bigint NOT NULL
        CONSTRAINT security_groupings_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    "grouping" text NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT security_groupings_pkey PRIMARY KEY (security_id, "grouping"),
    CONSTRAINT security_groupings_grouping_check CHECK ("grouping" <> '')
);
CREATE INDEX security_groupings_grouping_idx ON security_groupings ("grouping");

CREATE TABLE ohlcv (
    security_id bigint NOT NULL CONSTRAINT ohlcv_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    date date NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    adj_close double precision,
    volume bigint NOT NULL,
    dividends double precision DEFAULT 0 NOT NULL,
    stock_splits double precision DEFAULT 0 NOT NULL,
    CONSTRAINT ohlcv_pkey PRIMARY KEY (security_id, date),
    CONSTRAINT ohlcv_prices_positive_check CHECK (least(open, high, low, close) > 0),
    CONSTRAINT ohlcv_prices_finite_check CHECK (greatest(open, high, low, close) < 'Infinity'),
    CONSTRAINT ohlcv_high_is_highest_check CHECK (high >= greatest(open, low, close)),
    CONSTRAINT ohlcv_low_is_lowest_check CHECK (low <= least(open, close)),
    CONSTRAINT ohlcv_adj_close_check CHECK (adj_close > 0 AND adj_close < 'Infinity'),
    CONSTRAINT ohlcv_volume_check CHECK (volume >= 0),
    CONSTRAINT ohlcv_dividends_check CHECK (dividends >= 0 AND dividends < 'Infinity'),
    CONSTRAINT ohlcv_stock_splits_check CHECK (stock_splits >= 0 AND stock_splits < 'Infinity')
);
CREATE INDEX ohlcv_date_idx ON ohlcv (date);
COMMENT ON TABLE ohlcv IS 'Daily bars; prices as the source states them (Yahoo: adjusted for splits only)';
COMMENT ON COLUMN ohlcv.date IS 'The session''s calendar day where the security is traded';
COMMENT ON COLUMN ohlcv.adj_close IS 'NULL: the source does not say';
COMMENT ON COLUMN ohlcv.dividends IS 'Currency per share, on the ex-date';
COMMENT ON COLUMN ohlcv.stock_splits IS 'New shares per old one; 0: none';

CREATE TABLE security_metadata (
    security_id bigint NOT NULL
        CONSTRAINT security_metadata_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    as_of date NOT NULL,
    name text,
    quote_type text,
    exchange text,
    currency text,
    country text,
    sector text,
    industry text,
    market_cap numeric,
    shares_outstanding numeric,
    answer jsonb NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT security_metadata_pkey PRIMARY KEY (security_id, as_of),
    CONSTRAINT security_metadata_market_cap_check CHECK (market_cap >= 0),
    CONSTRAINT security_metadata_shares_outstanding_check CHECK (shares_outstanding >= 0)
);
CREATE INDEX security_metadata_sector_idx ON security_metadata (sector, industry);
COMMENT ON COLUMN security_metadata.market_cap IS 'in currency';
COMMENT ON COLUMN security_metadata.answer IS 'the whole answer, in the source''s own field names';

CREATE TABLE task_markers (
    task_id text CONSTRAINT task_markers_pkey PRIMARY KEY,
    task_family text NOT NULL,
    ticker text,
    as_of date,
    run_id text NOT NULL,
    rows bigint NOT NULL,
    detail jsonb DEFAULT '{}' NOT NULL,
    seconds double precision,
    done_at timestamptz DEFAULT now() NOT NULL
);
CREATE INDEX task_markers_run_id_idx ON task_markers (run_id);
CREATE INDEX task_markers_ticker_idx ON task_markers (ticker);
COMMENT ON COLUMN task_markers.rows IS 'bars or records that the step left behind';
COMMENT ON COLUMN task_markers.seconds IS 'NULL: the process ended between its commit and its report';

CREATE TABLE task_failures (
    failure_id bigint GENERATED ALWAYS AS IDENTITY CONSTRAINT task_failures_pkey PRIMARY KEY,
    run_id text NOT NULL,
    task_id text NOT NULL,
    task_family text NOT NULL,
    ticker text,
    as_of date,
    kind text NOT NULL,
    reason text NOT NULL,
    failed_at timestamptz DEFAULT now() NOT NULL
);
CREATE INDEX task_failures_run_id_idx ON task_failures (run_id);
CREATE INDEX task_failures_ticker_idx ON task_failures (ticker);

CREATE TABLE runs (
    run_id text CONSTRAINT runs_pkey PRIMARY KEY,
    task_family text NOT NULL,
    parameters jsonb NOT NULL,
    started_at timestamptz DEFAULT now() NOT NULL,
    finished_at timestamptz,
    outcome text,
    CONSTRAINT runs_outcome_check CHECK (outcome IN ('complete', 'incomplete', 'interrupted'))
);
CREATE INDEX runs_started_at_idx ON runs (started_at);
COMMENT ON COLUMN runs.parameters IS 'of the task that was asked for';
COMMENT ON COLUMN runs.outcome IS 'NULL: running, or killed';
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(
        "DROP TABLE runs, task_failures, task_markers, security_metadata, ohlcv, security_groupings, securities, "
        "store_source"
    )
