"""Whether bars have a security is asked once a statement; a foreign key asks for every bar, which costs more than to
store it. What a foreign key with ON DELETE CASCADE keeps, these triggers keep.

Revision ID: 0007
"""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TRIGGERS = """
ALTER TABLE ohlcv DROP CONSTRAINT ohlcv_security_id_fkey;
COMMENT ON COLUMN ohlcv.security_id IS 'of a row in securities';

CREATE FUNCTION ohlcv_require_securities() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wanted bigint[] := ARRAY(SELECT DISTINCT security_id FROM added);
    present bigint[];
BEGIN
    -- Locked as a foreign key locks them: who deletes one waits for these bars, and who has deleted one is waited for.
    present := ARRAY(SELECT security_id FROM securities WHERE security_id = ANY (wanted) FOR KEY SHARE);
    IF cardinality(present) < cardinality(wanted) THEN
        RAISE foreign_key_violation USING
            MESSAGE = 'bars of a security that is not there violate ohlcv_require_securities',
            DETAIL = format('security_id = %s', (SELECT unnest(wanted) EXCEPT SELECT unnest(present) LIMIT 1)),
            TABLE = TG_TABLE_NAME;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION ohlcv_require_securities IS 'Bars are stored of registered securities alone';
CREATE TRIGGER ohlcv_require_securities AFTER INSERT ON ohlcv
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION ohlcv_require_securities();

CREATE FUNCTION refuse_another_security_id() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE foreign_key_violation USING
        MESSAGE = format('a row of %s stays with its security: refuse_another_security_id', TG_TABLE_NAME),
        TABLE = TG_TABLE_NAME;
END
$$;
COMMENT ON FUNCTION refuse_another_security_id IS 'Bars do not move from one security to another';
CREATE TRIGGER ohlcv_stay_with_security BEFORE UPDATE OF security_id ON ohlcv
    FOR EACH ROW WHEN (OLD.security_id <> NEW.security_id) EXECUTE FUNCTION refuse_another_security_id();
CREATE TRIGGER securities_keep_their_id BEFORE UPDATE OF security_id ON securities
    FOR EACH ROW WHEN (OLD.security_id <> NEW.security_id) EXECUTE FUNCTION refuse_another_security_id();

CREATE FUNCTION securities_take_their_bars() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        DELETE FROM ohlcv;
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        -- Its snapshot may not show bars that were committed while the deletion waited for them.
        RAISE feature_not_supported USING
            MESSAGE = 'securities are deleted in transactions that are READ COMMITTED, so that all their bars are seen';
    ELSE
        DELETE FROM ohlcv WHERE security_id = OLD.security_id;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION securities_take_their_bars IS 'Bars go with their security';
CREATE TRIGGER securities_take_their_bars AFTER DELETE ON securities
    FOR EACH ROW EXECUTE FUNCTION securities_take_their_bars();
CREATE TRIGGER securities_take_all_bars AFTER TRUNCATE ON securities
    FOR EACH STATEMENT EXECUTE FUNCTION securities_take_their_bars();
"""

FOREIGN_KEY = """
DROP TRIGGER securities_take_all_bars ON securities;
DROP TRIGGER securities_take_their_bars ON securities;
DROP TRIGGER securities_keep_their_id ON securities;
DROP TRIGGER ohlcv_stay_with_security ON ohlcv;
DROP TRIGGER ohlcv_require_securities ON ohlcv;
DROP FUNCTION securities_take_their_bars;
DROP FUNCTION refuse_another_security_id;
DROP FUNCTION ohlcv_require_securities;
COMMENT ON COLUMN ohlcv.security_id IS NULL;
ALTER TABLE ohlcv ADD CONSTRAINT ohlcv_security_id_fkey FOREIGN KEY (security_id) REFERENCES securities
    ON DELETE CASCADE;
"""


def upgrade() -> None:
    op.execute(TRIGGERS)


def downgrade() -> None:
    op.execute(FOREIGN_KEY)
