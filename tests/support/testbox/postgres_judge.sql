SELECT json_build_object(
  'checksums', current_setting('data_checksums'),
  'damaged', (SELECT sum(checksum_failures) FROM pg_stat_database),
  'there', (SELECT coalesce(json_object_agg(client, last), '{}')
    FROM (SELECT client, max(number) AS last FROM promised GROUP BY client) AS found),
  'gaps', (SELECT count(*)
    FROM (SELECT 1 FROM promised GROUP BY client HAVING min(number) <> 1 OR max(number) <> count(*)) AS found),
  'torn',
    (SELECT count(*) FROM pgbench_accounts AS held
      LEFT JOIN (SELECT aid, sum(delta) AS moved FROM promised GROUP BY aid) AS told USING (aid)
      WHERE held.abalance <> coalesce(moved, 0))
    + (SELECT count(*) FROM pgbench_tellers AS held
      LEFT JOIN (SELECT tid, sum(delta) AS moved FROM promised GROUP BY tid) AS told USING (tid)
      WHERE held.tbalance <> coalesce(moved, 0))
    + (SELECT count(*) FROM pgbench_branches AS held
      LEFT JOIN (SELECT bid, sum(delta) AS moved FROM promised GROUP BY bid) AS told USING (bid)
      WHERE held.bbalance <> coalesce(moved, 0))
    + (SELECT count(*) FROM (SELECT aid, tid, bid, delta FROM promised
      EXCEPT ALL SELECT aid, tid, bid, delta FROM pgbench_history) AS found)
    + (SELECT count(*) FROM (SELECT aid, tid, bid, delta FROM pgbench_history
      EXCEPT ALL SELECT aid, tid, bid, delta FROM promised) AS found)
)
