"""Views for those who read: adjusted prices, the newest company data, and what there is of each ticker.

Revision ID: 0004
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

VIEWS = """
CREATE VIEW current_securities AS
SELECT s.security_id, s.ticker
FROM securities AS s
WHERE s.successor IS NULL OR (
    SELECT o.security_id FROM securities AS now JOIN ohlcv AS o USING (security_id)
    WHERE now.ticker = s.successor LIMIT 1
) IS NULL;
COMMENT ON VIEW current_securities IS
    'The securities but for those whose bars go on under another ticker, so that none is there twice';

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

-- A subquery a column, by the primary keys: a column that is not asked for, or a ticker, costs nothing.
CREATE VIEW coverage AS
SELECT s.ticker,
    (SELECT min(o.date) FROM ohlcv AS o WHERE o.security_id = s.security_id) AS first_session,
    (SELECT max(o.date) FROM ohlcv AS o WHERE o.security_id = s.security_id) AS last_session,
    (SELECT count(*) FROM ohlcv AS o WHERE o.security_id = s.security_id) AS bars,
    (SELECT count(*) FROM missing_sessions AS m WHERE m.security_id = s.security_id) AS missing_sessions,
    (SELECT count(*) FROM quarantined_bars AS q WHERE q.security_id = s.security_id) AS quarantined_bars,
    s.bars_as_of AS as_of,
    s.successor
FROM securities AS s;
COMMENT ON VIEW coverage IS 'What there is of each registered ticker, as of which date, and what is missing';
"""


def upgrade() -> None:
    op.execute(VIEWS)


def downgrade() -> None:
    op.execute("DROP VIEW coverage, latest_metadata, prices_adjusted, current_securities")
