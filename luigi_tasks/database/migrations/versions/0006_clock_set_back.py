"""When leave for a request was last asked for: it shows that the server's clock has been set back.

Revision ID: 0006
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE request_rates ADD COLUMN asked_at timestamptz;
COMMENT ON COLUMN request_rates.asked_at IS 'when leave was last asked for; later than now: the clock was set';
"""


def upgrade() -> None:
    op.execute(TABLES)


def downgrade() -> None:
    op.execute("ALTER TABLE request_rates DROP COLUMN asked_at")
