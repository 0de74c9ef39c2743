# PostgreSQL on the volume /data, in a pod of Debian's. Environment: SIDE, PORT, TUNING (further options).
# The source's side makes the database where there is none; a standby never does: it starts on what it finds.
set -eu
export LC_ALL=C
as_postgres="setpriv --reuid=postgres --regid=postgres --clear-groups --"
if [ "$SIDE" = source ] && [ ! -s /data/pg/PG_VERSION ]; then
  install -d -o postgres -g postgres -m 700 /data/pg
  $as_postgres initdb --data-checksums --auth=trust -D /data/pg
  echo "host all all 0.0.0.0/0 trust" >>/data/pg/pg_hba.conf
fi
exec $as_postgres postgres -D /data/pg -p "$PORT" -k /tmp -c 'listen_addresses=*' -c jit=off $TUNING
