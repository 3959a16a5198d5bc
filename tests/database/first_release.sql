-- A store as the first release left it, schema 0001: two tickers from files, as of 2024-03-15. Made by pg_dump --inserts
-- after a run of that release; only what psql alone understands, and what later servers alone know, is taken out.

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

SET default_tablespace = '';

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);

CREATE TABLE public.ohlcv (
    security_id bigint NOT NULL,
    date date NOT NULL,
    open double precision NOT NULL,
    high double precision NOT NULL,
    low double precision NOT NULL,
    close double precision NOT NULL,
    adj_close double precision,
    volume bigint NOT NULL,
    dividends double precision DEFAULT 0 NOT NULL,
    stock_splits double precision DEFAULT 0 NOT NULL,
    CONSTRAINT ohlcv_adj_close_check CHECK (((adj_close > (0)::double precision) AND (adj_close < 'Infinity'::double precision))),
    CONSTRAINT ohlcv_dividends_check CHECK (((dividends >= (0)::double precision) AND (dividends < 'Infinity'::double precision))),
    CONSTRAINT ohlcv_high_is_highest_check CHECK ((high >= GREATEST(open, low, close))),
    CONSTRAINT ohlcv_low_is_lowest_check CHECK ((low <= LEAST(open, close))),
    CONSTRAINT ohlcv_prices_finite_check CHECK ((GREATEST(open, high, low, close) < 'Infinity'::double precision)),
    CONSTRAINT ohlcv_prices_positive_check CHECK ((LEAST(open, high, low, close) > (0)::double precision)),
    CONSTRAINT ohlcv_stock_splits_check CHECK (((stock_splits >= (0)::double precision) AND (stock_splits < 'Infinity'::double precision))),
    CONSTRAINT ohlcv_volume_check CHECK ((volume >= 0))
);

COMMENT ON TABLE public.ohlcv IS 'Daily bars; prices as the source states them (Yahoo: adjusted for splits only)';

COMMENT ON COLUMN public.ohlcv.date IS 'The session''s calendar day where the security is traded';

COMMENT ON COLUMN public.ohlcv.adj_close IS 'NULL: the source does not say';

COMMENT ON COLUMN public.ohlcv.dividends IS 'Currency per share, on the ex-date';

COMMENT ON COLUMN public.ohlcv.stock_splits IS 'New shares per old one; 0: none';

CREATE TABLE public.runs (
    run_id text NOT NULL,
    task_family text NOT NULL,
    parameters jsonb NOT NULL,
    started_at timestamp with time zone DEFAULT now() NOT NULL,
    finished_at timestamp with time zone,
    outcome text,
    CONSTRAINT runs_outcome_check CHECK ((outcome = ANY (ARRAY['complete'::text, 'incomplete'::text, 'interrupted'::text])))
);

COMMENT ON COLUMN public.runs.parameters IS 'of the task that was asked for';

COMMENT ON COLUMN public.runs.outcome IS 'NULL: running, or killed';

CREATE TABLE public.securities (
    security_id bigint NOT NULL,
    ticker text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT securities_ticker_check CHECK ((ticker ~ '^[A-Z0-9^][A-Z0-9.=^&_-]{0,31}$'::text))
);

ALTER TABLE public.securities ALTER COLUMN security_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.securities_security_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.security_groupings (
    security_id bigint NOT NULL,
    "grouping" text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT security_groupings_grouping_check CHECK (("grouping" <> ''::text))
);

CREATE TABLE public.security_metadata (
    security_id bigint NOT NULL,
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
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT security_metadata_market_cap_check CHECK ((market_cap >= (0)::numeric)),
    CONSTRAINT security_metadata_shares_outstanding_check CHECK ((shares_outstanding >= (0)::numeric))
);

COMMENT ON COLUMN public.security_metadata.market_cap IS 'in currency';

COMMENT ON COLUMN public.security_metadata.answer IS 'the whole answer, in the source''s own field names';

CREATE TABLE public.store_source (
    only_row boolean DEFAULT true NOT NULL,
    name text NOT NULL,
    since timestamp with time zone DEFAULT now() NOT NULL,
    CONSTRAINT store_source_one_row_check CHECK (only_row)
);

COMMENT ON TABLE public.store_source IS 'The one source that the bars here come from';

CREATE TABLE public.task_failures (
    failure_id bigint NOT NULL,
    run_id text NOT NULL,
    task_id text NOT NULL,
    task_family text NOT NULL,
    ticker text,
    as_of date,
    kind text NOT NULL,
    reason text NOT NULL,
    failed_at timestamp with time zone DEFAULT now() NOT NULL
);

ALTER TABLE public.task_failures ALTER COLUMN failure_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.task_failures_failure_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.task_markers (
    task_id text NOT NULL,
    task_family text NOT NULL,
    ticker text,
    as_of date,
    run_id text NOT NULL,
    rows bigint NOT NULL,
    detail jsonb DEFAULT '{}'::jsonb NOT NULL,
    seconds double precision,
    done_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON COLUMN public.task_markers.rows IS 'bars or records that the step left behind';

COMMENT ON COLUMN public.task_markers.seconds IS 'NULL: the process ended between its commit and its report';

INSERT INTO public.alembic_version VALUES
	('0001');

INSERT INTO public.ohlcv VALUES
	(1, '2024-02-29', 49.714926266899305, 50.26315626592543, 49.51606656183171, 50.06290464733609, 48.561017507916006, 1287241, 0, 0),
	(1, '2024-03-01', 49.964006890571014, 50.196800031611, 49.76415086300873, 49.996812780489044, 48.49690839707437, 3077310, 0, 0),
	(1, '2024-03-04', 50.130306866391805, 50.51930329853124, 49.92978563892624, 50.3180311738359, 48.80849023862082, 3820510, 0, 0),
	(1, '2024-03-05', 50.26030922573061, 50.57232591240614, 50.059267988827685, 50.37084254223719, 48.859717265970076, 1919004, 0, 0),
	(1, '2024-03-06', 50.02000452943495, 50.3021497227886, 49.81992451131721, 50.10174275178147, 48.598690469228025, 2305147, 0, 0),
	(1, '2024-03-07', 50.23554495807464, 50.48436905820776, 50.034602778242345, 50.28323611375275, 48.774739030340164, 4986052, 0, 0),
	(1, '2024-03-08', 51.00617151799937, 51.210196204071366, 50.73945040669139, 50.94322329989095, 49.41492660089422, 4025140, 0, 0),
	(1, '2024-03-11', 51.589083688946474, 51.79544002370226, 51.22227685199297, 51.42798880722186, 49.8851491430052, 4904195, 0, 0),
	(1, '2024-03-12', 51.047654440373975, 51.2716117848443, 50.84346382261248, 51.06734241518357, 49.535322142728056, 1898237, 0, 0),
	(1, '2024-03-13', 50.632333638249214, 50.83486297280221, 50.22349600551953, 50.42519679269029, 48.912440888909586, 3428024, 0, 0),
	(1, '2024-03-14', 50.0119840579319, 50.31233437046904, 49.81193612170017, 50.111886823176334, 48.60853021848104, 4750551, 0, 0),
	(1, '2024-03-15', 50.18549455685728, 50.386236535084706, 49.93206992958692, 50.13260033091056, 48.62862232098325, 3252645, 0, 0),
	(2, '2024-02-29', 50.062362841914634, 50.37378337539782, 49.86211339054697, 50.17309101135241, 48.66789828101184, 3745765, 0, 0),
	(2, '2024-03-01', 50.562303015007636, 50.78936844247586, 50.360053802947604, 50.58702036103173, 49.069409750200776, 4808324, 0, 0),
	(2, '2024-03-04', 50.68109906623544, 50.95747293339236, 50.4783746699705, 50.7544551129406, 49.23182145955238, 461428, 0, 0),
	(2, '2024-03-05', 50.18741840324739, 50.38816807686038, 49.896946366859176, 50.097335709697965, 48.59441563840703, 3624224, 0, 0),
	(2, '2024-03-06', 50.55897881865414, 50.76121473392875, 50.350742433051515, 50.55295425005172, 49.036365622550164, 1466437, 0, 0),
	(2, '2024-03-07', 50.73458162244881, 50.98223062473841, 50.531643295959014, 50.77911416806615, 49.25574074302416, 2706593, 0, 0),
	(2, '2024-03-08', 50.388847653678646, 50.709213530965066, 50.18729226306393, 50.507184791797876, 48.99196924804394, 4624730, 0, 0),
	(2, '2024-03-11', 50.76236347819905, 51.00475183288849, 50.55931402428625, 50.80154565028734, 49.27749928077871, 1385179, 0, 0),
	(2, '2024-03-12', 50.98833753612305, 51.19229088626754, 50.783143714258166, 50.98709208258852, 49.45747932011086, 3629649, 0, 0),
	(2, '2024-03-13', 51.09501918396232, 51.34183159042001, 50.89063910722647, 51.137282460577694, 49.603163986760364, 804099, 0, 0),
	(2, '2024-03-14', 51.35078600601204, 51.55618915003608, 50.94721161254, 51.15181888809237, 49.617264321449596, 1613555, 0, 0),
	(2, '2024-03-15', 51.58780743059912, 51.794158660321514, 51.226509417756404, 51.43223837124137, 49.88927122010413, 4849657, 0, 0);

INSERT INTO public.runs VALUES
	('20261123T205008Z-11e7e4', 'RunAll', '{"date": "2024-03-15", "tickers": "", "groupings": "", "years_back": "1", "ticker_limit": "0"}', '2026-11-23 20:50:08.60121+00', '2026-11-23 20:50:14.703926+00', 'complete');

INSERT INTO public.securities OVERRIDING SYSTEM VALUE VALUES
	(1, 'AAA', '2026-11-23 20:50:13.495704+00'),
	(2, 'BBB', '2026-11-23 20:50:13.639489+00');

INSERT INTO public.security_groupings VALUES
	(1, 'all', '2026-11-23 20:50:13.495704+00'),
	(1, 'some', '2026-11-23 20:50:13.495704+00'),
	(2, 'all', '2026-11-23 20:50:13.639489+00');

INSERT INTO public.security_metadata VALUES
	(1, '2024-03-15', 'Alpha', NULL, NULL, 'USD', NULL, 'Energy', NULL, NULL, NULL, '{"name": "Alpha", "sector": "Energy", "symbol": "AAA", "ticker": "AAA", "currency": "USD", "market_cap": "1000000"}', '2026-11-23 20:50:13.572863+00'),
	(2, '2024-03-15', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, '{"symbol": "BBB"}', '2026-11-23 20:50:13.796715+00');

INSERT INTO public.store_source VALUES
	(true, 'test', '2026-11-23 20:50:08.597487+00');

INSERT INTO public.task_markers VALUES
	('GetTickers_2024_03_15__0_6435c2d458', 'GetTickers', NULL, '2024-03-15', '20261123T205008Z-11e7e4', 2, '{}', 0.017910480499267578, '2026-11-23 20:50:08.667853+00'),
	('ValidateTickers_2024_03_15__0_6435c2d458', 'ValidateTickers', NULL, '2024-03-15', '20261123T205008Z-11e7e4', 2, '{"rejected": []}', 0.015654563903808594, '2026-11-23 20:50:08.719684+00'),
	('CheckSource_2024_03_15_20261123T205008Z_9ccc538588', 'CheckSource', NULL, '2024-03-15', '20261123T205008Z-11e7e4', 1, '{}', 0.4858851432800293, '2026-11-23 20:50:09.267172+00'),
	('RegisterSecurity_2024_03_15_all_some_AAA_ff1193c911', 'RegisterSecurity', 'AAA', '2024-03-15', '20261123T205008Z-11e7e4', 1, '{}', 0.03304481506347656, '2026-11-23 20:50:13.495704+00'),
	('DownloadMetadata_2024_03_15_AAA_1_34b03fe435', 'DownloadMetadata', 'AAA', '2024-03-15', '20261123T205008Z-11e7e4', 1, '{}', 0.008778095245361328, '2026-11-23 20:50:13.519971+00'),
	('InsertMetadata_2024_03_15_AAA_1_34b03fe435', 'InsertMetadata', 'AAA', '2024-03-15', '20261123T205008Z-11e7e4', 1, '{}', 0.02533125877380371, '2026-11-23 20:50:13.572863+00'),
	('DownloadOhlcv_2024_03_15_AAA_1_34b03fe435', 'DownloadOhlcv', 'AAA', '2024-03-15', '20261123T205008Z-11e7e4', 12, '{}', 0.0763552188873291, '2026-11-23 20:50:13.63861+00'),
	('RegisterSecurity_2024_03_15_all_BBB_a9308f9012', 'RegisterSecurity', 'BBB', '2024-03-15', '20261123T205008Z-11e7e4', 1, '{}', 0.04214978218078613, '2026-11-23 20:50:13.639489+00'),
	('DownloadMetadata_2024_03_15_BBB_1_2dc82d17b6', 'DownloadMetadata', 'BBB', '2024-03-15', '20261123T205008Z-11e7e4', 1, '{}', 0.008570194244384766, '2026-11-23 20:50:13.744531+00'),
	('InsertMetadata_2024_03_15_BBB_1_2dc82d17b6', 'InsertMetadata', 'BBB', '2024-03-15', '20261123T205008Z-11e7e4', 1, '{}', 0.03336024284362793, '2026-11-23 20:50:13.796715+00'),
	('DownloadOhlcv_2024_03_15_BBB_1_2dc82d17b6', 'DownloadOhlcv', 'BBB', '2024-03-15', '20261123T205008Z-11e7e4', 12, '{}', 0.0799710750579834, '2026-11-23 20:50:13.967765+00'),
	('ValidateOhlcv_2024_03_15_AAA_1_34b03fe435', 'ValidateOhlcv', 'AAA', '2024-03-15', '20261123T205008Z-11e7e4', 12, '{"rows": [], "valid": 12, "ticker": "AAA", "success": true, "findings": {}, "condemned": "", "quarantined": 0}', 0.27794408798217773, '2026-11-23 20:50:13.983456+00'),
	('InsertOhlcv_2024_03_15_AAA_1_34b03fe435', 'InsertOhlcv', 'AAA', '2024-03-15', '20261123T205008Z-11e7e4', 12, '{}', 0.10104489326477051, '2026-11-23 20:50:14.119939+00'),
	('ValidateOhlcv_2024_03_15_BBB_1_2dc82d17b6', 'ValidateOhlcv', 'BBB', '2024-03-15', '20261123T205008Z-11e7e4', 12, '{"rows": [], "valid": 12, "ticker": "BBB", "success": true, "findings": {}, "condemned": "", "quarantined": 0}', 0.3070554733276367, '2026-11-23 20:50:14.330377+00'),
	('InsertOhlcv_2024_03_15_BBB_1_2dc82d17b6', 'InsertOhlcv', 'BBB', '2024-03-15', '20261123T205008Z-11e7e4', 12, '{}', 0.09123563766479492, '2026-11-23 20:50:14.430068+00');

SELECT pg_catalog.setval('public.securities_security_id_seq', 2, true);

SELECT pg_catalog.setval('public.task_failures_failure_id_seq', 1, false);

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);

ALTER TABLE ONLY public.ohlcv
    ADD CONSTRAINT ohlcv_pkey PRIMARY KEY (security_id, date);

ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (run_id);

ALTER TABLE ONLY public.securities
    ADD CONSTRAINT securities_pkey PRIMARY KEY (security_id);

ALTER TABLE ONLY public.securities
    ADD CONSTRAINT securities_ticker_key UNIQUE (ticker);

ALTER TABLE ONLY public.security_groupings
    ADD CONSTRAINT security_groupings_pkey PRIMARY KEY (security_id, "grouping");

ALTER TABLE ONLY public.security_metadata
    ADD CONSTRAINT security_metadata_pkey PRIMARY KEY (security_id, as_of);

ALTER TABLE ONLY public.store_source
    ADD CONSTRAINT store_source_pkey PRIMARY KEY (only_row);

ALTER TABLE ONLY public.task_failures
    ADD CONSTRAINT task_failures_pkey PRIMARY KEY (failure_id);

ALTER TABLE ONLY public.task_markers
    ADD CONSTRAINT task_markers_pkey PRIMARY KEY (task_id);

CREATE INDEX ohlcv_date_idx ON public.ohlcv USING btree (date);

CREATE INDEX runs_started_at_idx ON public.runs USING btree (started_at);

CREATE INDEX security_groupings_grouping_idx ON public.security_groupings USING btree ("grouping");

CREATE INDEX security_metadata_sector_idx ON public.security_metadata USING btree (sector, industry);

CREATE INDEX task_failures_run_id_idx ON public.task_failures USING btree (run_id);

CREATE INDEX task_failures_ticker_idx ON public.task_failures USING btree (ticker);

CREATE INDEX task_markers_run_id_idx ON public.task_markers USING btree (run_id);

CREATE INDEX task_markers_ticker_idx ON public.task_markers USING btree (ticker);

ALTER TABLE ONLY public.ohlcv
    ADD CONSTRAINT ohlcv_security_id_fkey FOREIGN KEY (security_id) REFERENCES public.securities(security_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.security_groupings
    ADD CONSTRAINT security_groupings_security_id_fkey FOREIGN KEY (security_id) REFERENCES public.securities(security_id) ON DELETE CASCADE;

ALTER TABLE ONLY public.security_metadata
    ADD CONSTRAINT security_metadata_security_id_fkey FOREIGN KEY (security_id) REFERENCES public.securities(security_id) ON DELETE CASCADE;
