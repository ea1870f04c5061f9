"""ReliableTech's shop, a release artifact: copied to a host and started there as `python order_app.py CONFIG.json`.

One self-contained file (standard library and psycopg). It serves one region: it reads its database password from that
region's Secrets Manager, talks to that region's database and bucket, and says 503 with a reason when it cannot serve.

    GET  /healthz   200 only if the database answers: {region, host, release, database: {role, writable}}
    GET  /catalog   what there is to buy
    POST /login     {login}                                200 {customer_id, session}
    POST /orders    {customer, sku, quantity, reference?}  201 {order_id, amount}, after the commit
    POST /pay       {order_id}                             201 {order_id, amount}; 200 if it was paid before
    POST /upload    any bytes                              201 {bucket, key, bytes}, after reading it back

Config: `{region, name, host, port, database: {host, port, dbname, user}, secrets_endpoint?, secret_id?,
password_file?, uploads?: {endpoint, bucket}, maintenance?: FILE}`. While the maintenance file exists, POST answers 503.
"""

from __future__ import annotations

import hashlib
import json
import queue
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg

POOL_SIZE = 8
STATEMENT_TIMEOUT_MS = 4000
BODY_MAX_BYTES = 8 << 20

Config = dict[str, Any]
Connection = psycopg.Connection[tuple[Any, ...]]


class Unavailable(Exception):
    """This request cannot be served now; becomes a 503 with the reason."""


class Invalid(Exception):
    """The request makes no sense; becomes a 4xx."""

    def __init__(self, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.status = status


def aws_headers(config: Config, service: str) -> dict[str, str]:
    """Enough of a signature for the endpoint to know region and service."""
    scope = f"{time.strftime('%Y%m%d', time.gmtime())}/{config['region']}/{service}/aws4_request"
    return {
        "Authorization": f"AWS4-HMAC-SHA256 Credential=order-app/{scope}, SignedHeaders=host, Signature=0",
        "X-Amz-Date": time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()),
        "User-Agent": "order-app",
    }


def read_password(config: Config) -> str:
    """From the region's Secrets Manager if configured, else from a file. Raises Unavailable."""
    if "secrets_endpoint" not in config:
        try:
            return Path(config["password_file"]).read_text().strip()
        except OSError as error:
            raise Unavailable(f"no password: {error}") from error
    request = urllib.request.Request(
        config["secrets_endpoint"],
        data=json.dumps({"SecretId": config["secret_id"]}).encode(),
        headers={
            "X-Amz-Target": "secretsmanager.GetSecretValue",
            "Content-Type": "application/x-amz-json-1.1",
            **aws_headers(config, "secretsmanager"),
        },
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as reply:
            secret = str(json.load(reply)["SecretString"])
    except (OSError, ValueError, KeyError) as error:
        raise Unavailable(f"secret {config['secret_id']} not readable: {error}") from error
    try:
        return str(json.loads(secret)["password"])
    except (ValueError, KeyError, TypeError):
        return secret  # the bare password


class Pool:
    """A few connections, made when needed, thrown away when they fail."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._idle: queue.LifoQueue[Connection] = queue.LifoQueue()
        self._slots = threading.BoundedSemaphore(POOL_SIZE)
        self._password: str | None = None

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection in autocommit. Raises Unavailable if there is none, or if it failed in use."""
        if not self._slots.acquire(timeout=2):
            raise Unavailable("every database connection is busy")
        try:
            connection = self._take()
            try:
                yield connection
            except psycopg.errors.ReadOnlySqlTransaction as error:
                self._idle.put(connection)
                raise Unavailable("the database is read-only") from error
            except psycopg.OperationalError as error:
                connection.close()
                raise Unavailable(f"database: {_first_line(error)}") from error
            except BaseException:
                connection.close()
                raise
            self._idle.put(connection)
        finally:
            self._slots.release()

    def _take(self) -> Connection:
        while True:
            try:
                connection = self._idle.get_nowait()
            except queue.Empty:
                return self._connect()
            if not connection.closed and not connection.broken:
                return connection

    def _connect(self) -> Connection:
        fresh = self._password is None
        if self._password is None:
            self._password = read_password(self._config)
        try:
            return self._open(self._password)
        except psycopg.OperationalError as error:
            if fresh or "authentication failed" not in str(error):
                raise Unavailable(f"database: {_first_line(error)}") from error
        self._password = read_password(self._config)  # it may have been rotated
        try:
            return self._open(self._password)
        except psycopg.OperationalError as error:
            self._password = None
            raise Unavailable(f"database: {_first_line(error)}") from error

    def _open(self, password: str) -> Connection:
        return psycopg.connect(
            **self._config["database"],
            password=password,
            connect_timeout=2,
            application_name=f"order-app {self._config['name']}",
            autocommit=True,
            options=f"-c statement_timeout={STATEMENT_TIMEOUT_MS}",
        )


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


class Shop:
    """What the shop does, without HTTP."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.region: str = config["region"]
        self.release = "sha256:" + hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self.pool = Pool(config)

    def health(self) -> tuple[int, Any]:
        """GET /healthz."""
        told = {"region": self.region, "host": self.config["name"], "release": self.release}
        try:
            with self.pool.connection() as connection:
                row = connection.execute(
                    "SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'off'"
                ).fetchone()
        except Unavailable as error:
            return 503, {**told, "ok": False, "error": str(error)}
        assert row is not None
        database = {"role": "standby" if row[0] else "primary", "writable": bool(row[1])}
        return 200, {**told, "ok": True, "database": database, "maintenance": self.in_maintenance}

    @property
    def in_maintenance(self) -> bool:
        """Writes are to be refused."""
        flag = self.config.get("maintenance")
        return flag is not None and Path(flag).exists()

    def catalog(self) -> tuple[int, Any]:
        """GET /catalog."""
        with self.pool.connection() as connection:
            rows = connection.execute("SELECT sku, name, price::text FROM products ORDER BY id").fetchall()
        return 200, {
            "region": self.region,
            "products": [dict(zip(("sku", "name", "price"), r, strict=True)) for r in rows],
        }

    def login(self, body: Any) -> tuple[int, Any]:
        """POST /login: customers who are not known yet are registered."""
        with self.pool.connection() as connection:
            customer = _customer(connection, _text(body, "login"))
        return 200, {"region": self.region, "customer_id": customer, "session": uuid.uuid4().hex}

    def order(self, body: Any) -> tuple[int, Any]:
        """POST /orders."""
        login, sku, quantity = _text(body, "customer"), _text(body, "sku"), body.get("quantity", 1)
        if not isinstance(quantity, int) or isinstance(quantity, bool) or not 1 <= quantity <= 1000:
            raise Invalid("quantity is a whole number from 1 to 1000")
        order = uuid.uuid4()
        with self.pool.connection() as connection:
            customer = _customer(connection, login)
            row = connection.execute(
                "INSERT INTO orders (order_uuid, customer_id, amount, region, reference)"
                " SELECT %s, %s, price * %s, %s, %s FROM products WHERE sku = %s RETURNING amount::text",
                (order, customer, quantity, self.region, body.get("reference"), sku),
            ).fetchone()
        if row is None:
            raise Invalid(f"there is no product {sku}")
        return 201, {"region": self.region, "order_id": str(order), "amount": row[0]}

    def pay(self, body: Any) -> tuple[int, Any]:
        """POST /pay: the whole amount, once."""
        try:
            order = uuid.UUID(_text(body, "order_id"))
        except ValueError:
            raise Invalid("order_id is not a UUID") from None
        with self.pool.connection() as connection:
            row = connection.execute(
                "INSERT INTO payments (order_uuid, amount, region) SELECT order_uuid, amount, %s FROM orders"
                " WHERE order_uuid = %s ON CONFLICT (order_uuid) DO NOTHING RETURNING amount::text",
                (self.region, order),
            ).fetchone()
            status = 201
            if row is None:
                status = 200
                row = connection.execute("SELECT amount::text FROM payments WHERE order_uuid = %s", (order,)).fetchone()
        if row is None:
            raise Invalid(f"there is no order {order}", 404)
        return status, {"region": self.region, "order_id": str(order), "amount": row[0]}

    def upload(self, content: bytes) -> tuple[int, Any]:
        """POST /upload: stored only if it can be read back."""
        where = self.config.get("uploads")
        if where is None:
            raise Unavailable("no bucket is configured")
        key = f"uploads/{uuid.uuid4()}"
        url = f"{where['endpoint'].rstrip('/')}/{where['bucket']}/{key}"
        headers = {
            **aws_headers(self.config, "s3"),
            "X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD",
            "Content-Type": "application/octet-stream",
        }
        try:
            put = urllib.request.Request(url, data=content, method="PUT", headers=headers)
            with urllib.request.urlopen(put, timeout=3):
                pass
            head = urllib.request.Request(url, method="HEAD", headers=headers)
            with urllib.request.urlopen(head, timeout=3) as reply:
                stored = int(reply.headers.get("Content-Length", -1))
        except OSError as error:
            raise Unavailable(f"bucket {where['bucket']}: {error}") from error
        if stored != len(content):
            raise Unavailable(f"bucket {where['bucket']} kept {stored} of {len(content)} bytes")
        return 201, {"region": self.region, "bucket": where["bucket"], "key": key, "bytes": stored}


def _customer(connection: Connection, login: str) -> int:
    known = "SELECT id FROM customers WHERE login = %s"
    row = connection.execute(known, (login,)).fetchone()
    if row is None:
        connection.execute(
            "INSERT INTO customers (login, name) VALUES (%s, %s) ON CONFLICT (login) DO NOTHING", (login, login)
        )
        row = connection.execute(known, (login,)).fetchone()
    assert row is not None  # inserted by us or by somebody else just now; customers are never deleted
    return int(row[0])


def _text(body: Any, name: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    if not isinstance(value, str) or not value or len(value) > 200:
        raise Invalid(f"{name} is missing")
    return value


class Handler(BaseHTTPRequestHandler):
    """HTTP around the shop."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    shop: Shop

    def do_GET(self) -> None:
        """Reads."""
        routes: dict[str, Callable[[], tuple[int, Any]]] = {"/healthz": self.shop.health, "/catalog": self.shop.catalog}
        self._answer(routes.get(self.path.split("?")[0]))

    def do_POST(self) -> None:
        """Writes."""
        content = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), BODY_MAX_BYTES))
        routes: dict[str, Callable[[], tuple[int, Any]]] = {
            "/login": lambda: self.shop.login(_parsed(content)),
            "/orders": lambda: self.shop.order(_parsed(content)),
            "/pay": lambda: self.shop.pay(_parsed(content)),
            "/upload": lambda: self.shop.upload(content),
        }
        serve = routes.get(self.path.split("?")[0])
        self._answer(_refuse_writes if serve is not None and self.shop.in_maintenance else serve)

    def _answer(self, serve: Callable[[], tuple[int, Any]] | None) -> None:
        try:
            status, value = serve() if serve is not None else (404, {"error": f"no {self.command} {self.path}"})
        except Unavailable as error:
            status, value = 503, {"error": str(error), "region": self.shop.region}
        except Invalid as error:
            status, value = error.status, {"error": str(error)}
        body = (json.dumps(value) + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Served-By", self.shop.region)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        """Not a line per request."""


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content or b"{}")
    except ValueError:
        raise Invalid("the body is not JSON", 400) from None


def _refuse_writes() -> tuple[int, Any]:
    raise Unavailable("maintenance")


class Server(ThreadingHTTPServer):
    """A thread per connection; clients that leave are no news."""

    daemon_threads = True
    request_queue_size = 256

    def server_bind(self) -> None:
        """Bind without asking a name server who we are."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log everything but a client's leaving."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def main() -> None:
    """Serve until SIGTERM."""
    config = json.loads(Path(sys.argv[1]).read_text())
    handler = type("ShopHandler", (Handler,), {"shop": Shop(config)})
    server = Server((config["host"], int(config["port"])), handler)
    threading.Thread(target=server.serve_forever, args=(0.2,), daemon=True).start()
    print(f"order-app {config['name']} at {config['host']}:{server.server_port}", file=sys.stderr, flush=True)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
