"""Each daily number of a company has its own date, and refused credentials are kept by kind.

Revision ID: 0010
"""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TABLES = """
COMMENT ON COLUMN securities.numbers_as_of IS
    'the latest as-of date of which a quote told the daily numbers of company data';
CREATE VIEW every_number AS
SELECT security_id, as_of, market_cap, market_cap_currency, shares_outstanding, true AS by_quote
FROM company_numbers
UNION ALL
SELECT security_id, as_of, market_cap, market_cap_currency, shares_outstanding, false FROM security_metadata;
COMMENT ON VIEW every_number IS 'What moves daily of a company''s data, by quote and by company data';
DROP VIEW latest_metadata;
CREATE VIEW latest_metadata AS
SELECT s.ticker, m.as_of, m.name, m.quote_type, m.exchange, m.currency, m.country, m.sector, m.industry,
    worth.market_cap, worth.market_cap_currency, worth.as_of AS market_cap_as_of,
    shares.shares_outstanding, shares.as_of AS shares_as_of, m.answer
FROM current_securities AS s
LEFT JOIN LATERAL (
    SELECT * FROM security_metadata AS every WHERE every.security_id = s.security_id ORDER BY as_of DESC LIMIT 1
) AS m ON true
LEFT JOIN LATERAL (
    SELECT * FROM every_number AS every WHERE every.security_id = s.security_id AND every.market_cap IS NOT NULL
    ORDER BY as_of DESC, by_quote DESC LIMIT 1
) AS worth ON true
LEFT JOIN LATERAL (
    SELECT * FROM every_number AS every
    WHERE every.security_id = s.security_id AND every.shares_outstanding IS NOT NULL
    ORDER BY as_of DESC, by_quote DESC LIMIT 1
) AS shares ON true;
COMMENT ON VIEW latest_metadata IS 'The newest company data of each ticker; all NULL where there is none yet';
ALTER TABLE request_state ALTER unauthorised SET DEFAULT '{}';
UPDATE request_state SET unauthorised = DEFAULT;
COMMENT ON COLUMN request_state.unauthorised IS
    'by kind, questions whose credentials were refused since its last answer';
"""

BACK = """
COMMENT ON COLUMN securities.numbers_as_of IS
    'the latest as-of date of which the daily numbers of company data were asked for';
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
DROP VIEW every_number;
ALTER TABLE request_state ALTER unauthorised SET DEFAULT '[]';
UPDATE request_state SET unauthorised = DEFAULT;
COMMENT ON COLUMN request_state.unauthorised IS
    'questions whose credentials were refused since the last answer of their kind';
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(BACK)
