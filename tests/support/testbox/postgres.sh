# PostgreSQL on the volume /data, in a pod of Debian's. Environment: SIDE, PORT, SCALE (of pgbench's tables), TUNING
# (further options). The source's side makes the database where there is none, and fills it; a standby never does: it
# starts on what it finds.
set -eu
export LC_ALL=C
as_postgres="setpriv --reuid=postgres --regid=postgres --clear-groups --"
if [ "$SIDE" = source ] && [ ! -s /data/pg/PG_VERSION ]; then
  install -d -o postgres -g postgres -m 700 /data/pg
  $as_postgres initdb --no-sync --data-checksums --auth=trust -D /data/pg
  echo "host all all 0.0.0.0/0 trust" >>/data/pg/pg_hba.conf
  # Without a sync at each step: all of it is made durable at the end, at once.
  $as_postgres pg_ctl -D /data/pg -w -t 120 -o "-p $PORT -k /tmp -c listen_addresses= -c jit=off -c fsync=off" start
  $as_postgres pgbench -h /tmp -p "$PORT" -i -q -s "$SCALE" postgres
  $as_postgres psql -h /tmp -p "$PORT" -qX -d postgres -c 'CREATE TABLE promised (client int, number int, aid int,
    tid int, bid int, delta int, PRIMARY KEY (client, number))'
  $as_postgres pg_ctl -D /data/pg -w -t 120 stop
  sync --file-system /data/pg
fi
exec $as_postgres postgres -D /data/pg -p "$PORT" -k /tmp -c 'listen_addresses=*' -c jit=off $TUNING
