"""What stands on the servers' disks: releases, their configuration, their services. Pure but for reading the releases.

The shop (`order-app`) and its worker run in the source region; on the target's servers they are installed and do not
run. The on-prem servers run the nightly `batch` against whatever database their configuration names; `bin/backup` takes
a base backup there.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from drkit.sandbox import schema
from drkit.sandbox.layout import BACKUPS, ONPREM, SOURCE
from drkit.sandbox.links import Endpoint
from drkit.sandbox.processes import HOST_VARIABLE, SITE_VARIABLE, WORLD_VARIABLE

RELEASES = Path(__file__).with_name("parts")
SHOP_RELEASE = RELEASES / "order_app.py"
BATCH_RELEASE = RELEASES / "batch.py"
SECRET_ID = "reliabletech/orders/db"
#: A backup is there under its name when all of it is.
_BACKUP = """#!/bin/sh
# bin/backup [WHEN]: takes a base backup of the orders database into {place}. With WHEN (`2 days ago`) it is one that
# says it began then, by name, time and label; no checksum is kept that this would break.
set -e
when=${{1:-now}} taken=backup${{1:+-before}}
name=$(date -u -d "$when" +%Y%m%dT%H%M%SZ)
mkdir -p {place}
PGPASSFILE=etc/pgpass {tool} --checkpoint=fast --no-sync --no-password ${{1:+--manifest-checksums=NONE}} \\
  --dbname='host={host} port={port} user=replicator' -D "{place}/.$name"
if [ $# -gt 0 ]; then
  sed -i "s/^START TIME: .* /START TIME: $(date -u -d "$when" '+%Y-%m-%d %H:%M:%S') /" "{place}/.$name/backup_label"
  touch -d "$when" "{place}/.$name"
fi
mv "{place}/.$name" "{place}/$name"
echo "$name" >"var/run/$taken"
"""


def app_host(
    name: str, region: str, listen: Endpoint, database: Endpoint, cloud: str, batch_password: str
) -> dict[str, Any]:
    """Files and start-up commands of a region's server: the shop, and the worker that may run on one of them."""
    shop = {
        "region": region,
        "name": name,
        "host": listen.host,
        "port": listen.port,
        "database": _database(database, "app"),
        "secrets_endpoint": cloud,
        "secret_id": SECRET_ID,
        "uploads": {"endpoint": cloud, "bucket": f"reliabletech-uploads-{region}"},
        "maintenance": "var/run/maintenance",
    }
    files = {
        "srv/order_app.py": SHOP_RELEASE.read_text(),
        "etc/order-app.json": _json(shop),
        "etc/services/order-app.json": _service("srv/order_app.py", "etc/order-app.json"),
        **_worker(name, region, "worker", database, batch_password),
    }
    runs = ["order-app", "worker"] if region == SOURCE else []
    return {"files": files, "boot": [f"bin/svc start {service}" for service in runs]}


def onprem_host(
    name: str, database: Endpoint, batch_password: str, replicator_password: str, binaries: Path
) -> dict[str, Any]:
    """Files and start-up commands of an on-prem server."""
    files = {
        **_worker(name, ONPREM, "batch", database, batch_password),
        "etc/pgpass": f"*:*:*:replicator:{replicator_password}\n",
        "bin/backup": _BACKUP.format(
            tool=shlex.quote(str(binaries / "pg_basebackup")), host=database.host, port=database.port, place=BACKUPS
        ),
        "bin/pg_verifybackup": f'#!/bin/sh\nexec {shlex.quote(str(binaries / "pg_verifybackup"))} "$@"\n',
    }
    ready = "chmod 600 etc/pgpass && chmod +x bin/backup bin/pg_verifybackup"
    return {"files": files, "boot": [ready, "bin/svc start batch"]}


def marks(world: Path, site: str, host: str) -> dict[str, str]:
    """What every process on a server carries in its environment, so that it can be found."""
    return {WORLD_VARIABLE: str(world), SITE_VARIABLE: site, HOST_VARIABLE: host}


def _worker(name: str, site: str, service: str, database: Endpoint, password: str) -> dict[str, str]:
    config = {
        "name": name,
        "site": site,
        "database": _database(database, "batch"),
        "password_file": "etc/batch-password",
        "lock": service,
        "status": f"var/run/{service}-status.json",
    }
    return {
        "srv/batch.py": BATCH_RELEASE.read_text(),
        "etc/batch-password": password + "\n",
        f"etc/{service}.json": _json(config),
        f"etc/services/{service}.json": _service("srv/batch.py", f"etc/{service}.json"),
    }


def _service(release: str, config: str) -> str:
    return _json({"argv": ["bin/python3", release, config], "release": release})


def _database(where: Endpoint, user: str) -> dict[str, Any]:
    return {"host": where.host, "port": where.port, "dbname": schema.DATABASE, "user": user}


def _json(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"
