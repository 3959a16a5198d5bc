"""What each run came to, and how often the provider has throttled.

Revision ID: 0005
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE runs ADD COLUMN requests_before jsonb, ADD COLUMN summary jsonb;
COMMENT ON COLUMN runs.requests_before IS '{kind: {sent, throttled}} when it began';
COMMENT ON COLUMN runs.summary IS 'what it came to: {tickers, failed, bars, rows, requests, seconds}';

ALTER TABLE request_rates ADD COLUMN throttled bigint DEFAULT 0 NOT NULL;
COMMENT ON COLUMN request_rates.throttled IS 'answers of status 429, ever';
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute(
        """
        ALTER TABLE request_rates DROP COLUMN throttled;
        ALTER TABLE runs DROP COLUMN requests_before, DROP COLUMN summary;
        """
    )
