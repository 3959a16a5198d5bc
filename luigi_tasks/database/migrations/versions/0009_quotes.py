"""What the provider bears is learnt from its refusals, and company numbers come by quote, each day.

Revision ID: 0009
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE securities ADD COLUMN numbers_as_of date;
COMMENT ON COLUMN securities.numbers_as_of IS
    'the latest as-of date of which the daily numbers of company data were asked for';
CREATE TABLE company_numbers (
    security_id bigint NOT NULL
        CONSTRAINT company_numbers_security_id_fkey REFERENCES securities ON DELETE CASCADE,
    as_of date NOT NULL,
    market_cap numeric CONSTRAINT company_numbers_market_cap_check CHECK (market_cap >= 0),
    market_cap_currency text,
    shares_outstanding numeric
        CONSTRAINT company_numbers_shares_outstanding_check CHECK (shares_outstanding >= 0),
    CONSTRAINT company_numbers_pkey PRIMARY KEY (security_id, as_of)
);
COMMENT ON TABLE company_numbers IS 'What moves daily of a company''s data, by quote';
COMMENT ON COLUMN company_numbers.market_cap IS 'in market_cap_currency';
COMMENT ON COLUMN company_numbers.market_cap_currency IS 'the major unit: GBP where prices are in GBp';
DROP VIEW latest_metadata;
CREATE VIEW latest_metadata AS
SELECT s.ticker, m.as_of, m.name, m.quote_type, m.exchange, m.currency, m.country, m.sector, m.industry,
    CASE WHEN (m.as_of IS NULL OR n.as_of >= m.as_of) AND n.market_cap IS NOT NULL
        THEN n.market_cap ELSE m.market_cap END AS market_cap,
    CASE WHEN (m.as_of IS NULL OR n.as_of >= m.as_of) AND n.market_cap IS NOT NULL
        THEN n.market_cap_currency ELSE m.market_cap_currency END AS market_cap_currency,
    CASE WHEN (m.as_of IS NULL OR n.as_of >= m.as_of) AND n.shares_outstanding IS NOT NULL
        THEN n.shares_outstanding ELSE m.shares_outstanding END AS shares_outstanding,
    greatest(n.as_of, m.as_of) AS numbers_as_of, m.answer
FROM current_securities AS s
LEFT JOIN LATERAL (
    SELECT * FROM security_metadata AS every WHERE every.security_id = s.security_id ORDER BY as_of DESC LIMIT 1
) AS m ON true
LEFT JOIN LATERAL (
    SELECT * FROM company_numbers AS every WHERE every.security_id = s.security_id ORDER BY as_of DESC LIMIT 1
) AS n ON true;
COMMENT ON VIEW latest_metadata IS 'The newest company data of each ticker; all NULL where there is none yet';
ALTER TABLE request_state
    ADD COLUMN share double precision DEFAULT 1 NOT NULL,
    ADD COLUMN all_next_at timestamptz DEFAULT '2000-01-01 00:00Z' NOT NULL,
    ADD COLUMN answered integer DEFAULT 0 NOT NULL,
    ADD COLUMN enough_seconds double precision,
    ADD COLUMN refused_share double precision,
    ADD COLUMN refused_at timestamptz,
    ADD COLUMN refused_by text DEFAULT '' NOT NULL,
    ADD COLUMN refusals jsonb DEFAULT '{}' NOT NULL,
    ADD COLUMN failed_alone jsonb DEFAULT '{}' NOT NULL,
    ADD COLUMN unauthorised jsonb DEFAULT '[]' NOT NULL;
UPDATE request_state SET share = (SELECT min(share) FROM request_rates);
ALTER TABLE request_state ADD CONSTRAINT request_state_share_check CHECK (share > 0 AND share <= 1);
ALTER TABLE request_rates DROP COLUMN share;
INSERT INTO request_rates (kind) VALUES ('quotes');
COMMENT ON COLUMN request_state.share IS 'of the rates in the settings';
COMMENT ON COLUMN request_state.all_next_at IS 'next_at of all kinds together';
COMMENT ON COLUMN request_state.answered IS 'since it recovered';
COMMENT ON COLUMN request_state.enough_seconds IS 'for which it wanted to be left alone the last time';
COMMENT ON COLUMN request_state.refused_share IS 'the share at which it last refused';
COMMENT ON COLUMN request_state.refused_by IS 'the question that it refused then';
COMMENT ON COLUMN request_state.refusals IS 'questions that were refused, and since then were not answered';
COMMENT ON COLUMN request_state.failed_alone IS 'questions that it refuses while it answers others';
COMMENT ON COLUMN request_state.unauthorised IS
    'questions whose credentials were refused since the last answer of their kind';
"""

BACK = """
DROP VIEW latest_metadata;
CREATE VIEW latest_metadata AS
SELECT s.ticker, m.as_of, m.name, m.quote_type, m.exchange, m.currency, m.country, m.sector, m.industry, m.market_cap,
    m.market_cap_currency, m.shares_outstanding, m.answer
FROM current_securities AS s
LEFT JOIN LATERAL (
    SELECT * FROM security_metadata AS every WHERE every.security_id = s.security_id ORDER BY as_of DESC LIMIT 1
) AS m ON true;
COMMENT ON VIEW latest_metadata IS 'The newest company data of each ticker; all NULL where there is none yet';
DROP TABLE company_numbers;
ALTER TABLE securities DROP COLUMN numbers_as_of;
DELETE FROM request_rates WHERE kind = 'quotes';
ALTER TABLE request_rates ADD COLUMN share double precision DEFAULT 1 NOT NULL;
UPDATE request_rates SET share = (SELECT share FROM request_state);
ALTER TABLE request_rates ADD CONSTRAINT request_rates_share_check CHECK (share > 0 AND share <= 1);
COMMENT ON COLUMN request_rates.share IS 'of the rate in the settings';
ALTER TABLE request_state
    DROP COLUMN share, DROP COLUMN all_next_at, DROP COLUMN answered, DROP COLUMN enough_seconds,
    DROP COLUMN refused_share, DROP COLUMN refused_at, DROP COLUMN refused_by, DROP COLUMN refusals,
    DROP COLUMN failed_alone, DROP COLUMN unauthorised;
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(BACK)
