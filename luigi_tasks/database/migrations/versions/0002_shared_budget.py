"""What a security is by the source's own word, the shared request budget, and tickers that the source has no more.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE securities
    ADD COLUMN name text,
    ADD COLUMN quote_type text,
    ADD COLUMN exchange text,
    ADD COLUMN currency text,
    ADD COLUMN time_zone text,
    ADD COLUMN first_trade_date date,
    ADD COLUMN series_digest text CONSTRAINT securities_series_digest_key UNIQUE;
COMMENT ON COLUMN securities.exchange IS 'The source''s code for it, such as NMS';
COMMENT ON COLUMN securities.currency IS 'of the prices';
COMMENT ON COLUMN securities.time_zone IS 'of the exchange, IANA name';
COMMENT ON COLUMN securities.series_digest IS 'of the latest bars: no two securities have the same';

CREATE TABLE request_state (
    only_row boolean DEFAULT true NOT NULL CONSTRAINT request_state_pkey PRIMARY KEY,
    trouble text,
    trouble_since timestamptz,
    paused_at timestamptz,
    paused_until timestamptz,
    pause_seconds double precision DEFAULT 0 NOT NULL,
    probing_until timestamptz,
    recovered_at timestamptz,
    down_subjects jsonb DEFAULT '[]' NOT NULL,
    CONSTRAINT request_state_one_row_check CHECK (only_row),
    CONSTRAINT request_state_trouble_check CHECK (trouble IN ('throttled', 'down')),
    CONSTRAINT request_state_pause_check
        CHECK (trouble IS NULL OR (trouble_since IS NOT NULL AND paused_until IS NOT NULL))
);
COMMENT ON TABLE request_state IS 'Whether the provider wants to be left alone, for all who share this database';
COMMENT ON COLUMN request_state.trouble IS 'NULL: requests may be sent';
COMMENT ON COLUMN request_state.down_subjects IS 'what was asked about in vain since the last answer';
INSERT INTO request_state DEFAULT VALUES;

CREATE TABLE request_rates (
    kind text CONSTRAINT request_rates_pkey PRIMARY KEY,
    share double precision DEFAULT 1 NOT NULL,
    next_at timestamptz DEFAULT '2000-01-01 00:00Z' NOT NULL,
    sent bigint DEFAULT 0 NOT NULL,
    CONSTRAINT request_rates_share_check CHECK (share > 0 AND share <= 1)
);
COMMENT ON COLUMN request_rates.share IS 'of the rate in the settings';
COMMENT ON COLUMN request_rates.sent IS 'requests, ever';
INSERT INTO request_rates (kind) VALUES ('prices'), ('company'), ('access');

CREATE TABLE provider_access (
    only_row boolean DEFAULT true NOT NULL CONSTRAINT provider_access_pkey PRIMARY KEY,
    crumb text NOT NULL,
    cookies jsonb NOT NULL,
    renewed_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT provider_access_one_row_check CHECK (only_row)
);
COMMENT ON TABLE provider_access IS 'The anonymous session with the provider that all processes share';

CREATE TABLE absences (
    ticker text NOT NULL,
    day date NOT NULL,
    confirmed boolean NOT NULL,
    CONSTRAINT absences_pkey PRIMARY KEY (ticker, day)
);
COMMENT ON TABLE absences IS 'Days on which the provider said that it has no such ticker; gone as soon as it has';
COMMENT ON COLUMN absences.day IS 'in UTC, on which the provider said so';
COMMENT ON COLUMN absences.confirmed IS 'well-known tickers answered on that day';
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(
        """
        DROP TABLE absences, provider_access, request_rates, request_state;
        ALTER TABLE securities
            DROP COLUMN name, DROP COLUMN quote_type, DROP COLUMN exchange, DROP COLUMN currency,
            DROP COLUMN time_zone, DROP COLUMN first_trade_date, DROP COLUMN series_digest;
        """
    )
