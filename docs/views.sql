-- Views over the directory of a run, for DuckDB: the ten questions that come up first.
-- Run in that directory, or put its path before the names of the files.

CREATE OR REPLACE VIEW latency_by_class AS
SELECT scenario_id, class, count(*) AS requests,
       quantile_cont(first_token_s - arrival_s, 0.5) AS ttft_p50_s,
       quantile_cont(first_token_s - arrival_s, 0.99) AS ttft_p99_s,
       quantile_cont(finished_s - arrival_s, 0.99) AS e2e_p99_s
FROM 'requests.parquet' GROUP BY scenario_id, class;

CREATE OR REPLACE VIEW latency_by_hour AS
SELECT scenario_id, class, floor(arrival_s / 3600) AS hour,
       quantile_cont(first_token_s - arrival_s, 0.99) AS ttft_p99_s
FROM 'requests.parquet' GROUP BY scenario_id, class, hour;

CREATE OR REPLACE VIEW slowest_requests AS
SELECT scenario_id, replication, request_id, class, pool, finished_s - arrival_s AS e2e_s, prompt_tokens, output_tokens
FROM 'requests.parquet' WHERE finished_s IS NOT NULL ORDER BY e2e_s DESC LIMIT 100;

CREATE OR REPLACE VIEW outcomes AS
SELECT scenario_id, class, outcome, count(*) AS requests, sum(retries) AS retries
FROM 'requests.parquet' GROUP BY scenario_id, class, outcome;

CREATE OR REPLACE VIEW tokens_by_class AS
SELECT scenario_id, class, sum(prompt_tokens) AS prompt_tokens, sum(output_tokens) AS output_tokens
FROM 'requests.parquet' WHERE outcome = 'finished' GROUP BY scenario_id, class;

CREATE OR REPLACE VIEW cache_hits AS
SELECT scenario_id, class, sum(cached_tokens) / sum(prompt_tokens) AS found
FROM 'requests.parquet' GROUP BY scenario_id, class;

CREATE OR REPLACE VIEW replicas_by_interval AS
SELECT scenario_id, pool, interval_start_s, avg(replicas) AS serving, avg(starting_replicas) AS starting,
       avg(spare_replicas) AS spare, avg(failed_replicas) AS failed
FROM 'timeline.parquet' GROUP BY scenario_id, pool, interval_start_s;

CREATE OR REPLACE VIEW busiest_intervals AS
SELECT scenario_id, pool, interval_start_s, busy_fraction, kv_used_fraction, waiting
FROM 'timeline.parquet' ORDER BY waiting DESC, kv_used_fraction DESC LIMIT 100;

CREATE OR REPLACE VIEW energy_by_pool AS
SELECT scenario_id, pool, sum(power_w * (interval_end_s - interval_start_s)) / 3.6e6 AS energy_kwh
FROM 'timeline.parquet' WHERE power_w IS NOT NULL GROUP BY scenario_id, pool;

CREATE OR REPLACE VIEW paid_time AS
SELECT * FROM 'headroom.parquet';
