#!/usr/bin/env bash
# Runs a command with TALIM_TEST_POSTGRES set to a fresh PostgreSQL that lives in a temporary folder and dies with it.
set -euo pipefail
if ! find /usr/lib/postgresql -name initdb 2>/dev/null | grep -q .; then
  apt-get install -y --no-install-recommends postgresql
fi
programs=$(dirname "$(find /usr/lib/postgresql -name initdb | sort -V | tail -1)")
place=$(mktemp -d)
as_owner=()
if [ "$(id -u)" = 0 ]; then  # PostgreSQL refuses to run as root
  chown postgres "$place"
  as_owner=(runuser -u postgres --)
fi
stop() {
  "${as_owner[@]}" "$programs/pg_ctl" -D "$place/data" -m immediate stop >/dev/null 2>&1 || true
  rm -rf "$place"
}
trap stop EXIT
cd "$place"
"${as_owner[@]}" "$programs/initdb" -D "$place/data" -U talim --auth=trust >/dev/null
"${as_owner[@]}" "$programs/pg_ctl" -D "$place/data" -w -l "$place/log" \
  -o "-c listen_addresses='' -c unix_socket_directories='$place'" start >/dev/null
cd "$OLDPWD"
export TALIM_TEST_POSTGRES="postgresql+psycopg://talim@/postgres?host=$place"
"$@"
