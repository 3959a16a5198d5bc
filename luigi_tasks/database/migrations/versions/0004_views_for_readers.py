"""Views for those who read with SQL: adjusted prices, the latest company data, and how much there is.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

VIEWS = """
CREATE VIEW prices_adjusted AS
SELECT ticker, date,
    open * (adj_close / close) AS open,
    high * (adj_close / close) AS high,
    low * (adj_close / close) AS low,
    close * (adj_close / close) AS close,
    volume, dividends, stock_splits
FROM ohlcv JOIN securities USING (security_id);
COMMENT ON VIEW prices_adjusted IS
    'Bars adjusted for splits and dividends; prices are NULL where the source says no adjusted close';

CREATE VIEW latest_metadata AS
SELECT ticker, latest.as_of, latest.name, latest.quote_type, latest.exchange, latest.currency, latest.country,
    latest.sector, latest.industry, latest.market_cap, latest.shares_outstanding
FROM securities
CROSS JOIN LATERAL (
    SELECT * FROM security_metadata WHERE security_metadata.security_id = securities.security_id
    ORDER BY as_of DESC LIMIT 1
) AS latest;
COMMENT ON VIEW latest_metadata IS 'The newest company data of each security';

CREATE VIEW coverage AS
SELECT ticker, name, exchange, currency, bars.first_session, bars.last_session, bars.bars,
    (SELECT count(*) FROM missing_sessions WHERE missing_sessions.security_id = securities.security_id)
        AS missing_sessions,
    (SELECT count(*) FROM quarantined_bars WHERE quarantined_bars.security_id = securities.security_id)
        AS quarantined_bars,
    bars_as_of
FROM securities
CROSS JOIN LATERAL (
    SELECT min(date) AS first_session, max(date) AS last_session, count(*) AS bars
    FROM ohlcv WHERE ohlcv.security_id = securities.security_id
) AS bars;
COMMENT ON VIEW coverage IS 'What there is of each security: sessions, bars, what is missing and what is in quarantine';
"""


def upgrade() -> None:
    op.execute(VIEWS)


def downgrade() -> None:
    op.execute("DROP VIEW coverage, latest_metadata, prices_adjusted")
