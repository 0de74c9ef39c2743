# pgbench against a PostgreSQL elsewhere, in a pod that outlives it. Environment: PGHOST, PGPORT, PGUSER, PGDATABASE,
# SCALE, CLIENTS, RATE (transactions a second) and SCRIPT (what a transaction is).
# Writes to /tmp: acked.* is pgbench's own log, a line for each transaction that was acknowledged, whole once pgbench
# has ended; `ended` (all of its clients lost their server), `back` (Unix time of the first answer after that).
set -eu
cd /tmp
answers() { psql -qAtX -c 'SELECT 1' >/dev/null 2>&1; }
printf '%s' "$SCRIPT" >script
# A server whose node has no power says nothing: the kernel finds out within two or three seconds.
patience="keepalives_idle=1 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=2000"
# Again where it could not connect: then it has done nothing.
until [ -n "$(cat acked.* 2>/dev/null)" ]; do
  until answers; do sleep 0.2; done
  pgbench -n -f script -D scale="$SCALE" -D number=0 -c "$CLIENTS" -R "$RATE" -T 3600 -l --log-prefix=acked \
    "$patience" || true
done
touch ended
until answers; do sleep 0.1; done
date +%s.%N >back
exec sleep infinity
