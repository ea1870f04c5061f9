"""Commands on paper: each is shell, tells no secret, and every line for AWS is one that AWS knows."""

from __future__ import annotations

import re
import shlex
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name

from drkit.catalog import Action, Catalog, Gate
from drkit.model.environment import Environment
from drkit.model.paper import Paper, curl, keep, quoted
from drkit.plan.files import load_runbook
from drkit.plan.handwork import preparation
from drkit.plan.manual import manual, shell_lines
from drkit.plan.resolve import resolve

ROOT = Path(__file__).resolve().parents[2]
CATALOG = Catalog()
AWS_GLOBAL = {"region", "endpoint-url", "query", "output"}


def made_up(password: str = "secret://file/etc/admin") -> Environment:
    ends = {name: f"http://127.0.0.1:{port}" for name, port in (("east", 1001), ("west", 1002))}
    return Environment.model_validate(
        {
            "name": "test", "kind": "sandbox", "account": "123456789012", "state_store": "file:///nowhere",
            "sites": [
                *(
                    {
                        "name": name, "kind": "region", "aws_endpoint": url, "edge_admin": url, "routing_endpoint": url,
                        "edge": {"host": "127.0.0.3", "port": 80},
                    }
                    for name, url in ends.items()
                ),
                {"name": "onprem", "kind": "on-prem"},
            ],
            "databases": [
                {
                    "name": "orders", "site": name, "address": {"host": "127.0.0.4", "port": 5432}, "dbname": "shop",
                    "user": "admin", "password": {"ref": password}, "system_identifier": "7", "agent": url,
                }
                for name, url in ends.items()
            ],
            "hosts": [
                {
                    "name": f"{site}-1", "site": site, "address": {"host": "127.0.0.5", "port": 22}, "user": "ops",
                    "key": {"ref": "secret://file/keys/ops"}, "known_host": "ssh-ed25519 AAAA", "machine_id": "m1",
                    "roles": ["app", "worker", "batch"],
                }
                for site in (*ends, "onprem")
            ],
            "dns": {"zone": "shop.example", "authorities": []},
            "witness": {"name": "w", "site": "onprem", "url": "http://127.0.0.6:9", "term_s": 3, "margin_s": 1},
        }
    )  # fmt: skip


@cache
def blocks() -> dict[str, str]:
    """Shell lines by entry, over every step and probe of the shipped runbooks."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "runbooks").glob("*.yaml")):
        plan = resolve(load_runbook(path), made_up(), CATALOG, source="east", target="west")
        paper = Paper(made_up(), "east", "west")
        uses = [*((step.uses, step.params) for step in plan.steps)]
        for name, params in [*uses, *((probe.uses, probe.params) for probe in plan.probes.values())]:
            entry = CATALOG.entry(name)
            for each in (entry, entry.observe) if isinstance(entry, Action) else (entry,):
                if not isinstance(each, Gate) and (text := shell_lines(params, each, paper)):
                    found[each.name] = text
    return found


@pytest.mark.parametrize("name", sorted(blocks()))
def test_a_command_is_shell_that_survives_being_split_and_put_together(name: str) -> None:
    text = blocks()[name]
    checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0 and not checked.stderr, checked.stderr
    for line in text.splitlines():
        if not line.startswith("#"):
            words = shlex.split(line)
            assert shlex.split(shlex.join(words)) == words


def test_everything_that_a_shipped_runbook_uses_and_that_has_commands_gives_them() -> None:
    """An environment with every part: no author's command falls back to words."""
    written = {name for name in used() if (e := CATALOG.entry(name)) and not isinstance(e, Gate) and e.commander}
    assert written <= set(blocks())
    assert {"postgres.fence", "postgres.promote", "service.start", "edge.maintenance"} <= written


def used() -> set[str]:
    names: set[str] = set()
    for path in (ROOT / "runbooks").glob("*.yaml"):
        plan = resolve(load_runbook(path), made_up(), CATALOG, source="east", target="west")
        names |= {step.uses for step in plan.steps} | {probe.uses for probe in plan.probes.values()}
    return names


def aws_lines() -> list[tuple[str, str]]:
    text = [
        (name, found) for name, block in blocks().items() for found in re.findall(r"\baws [a-z0-9]+[^\n|)]*", block)
    ]
    assert len(text) > 40
    return text


@pytest.mark.parametrize("name,line", aws_lines())
def test_aws_knows_the_operation_and_its_parameters_and_misses_none(name: str, line: str) -> None:
    line = line.split(" >/dev/null")[0].split(" && ")[0]
    line = line.split(" --query")[0]
    service, call, *_ = line.split()[1:]
    model = service_model({"s3api": "s3"}.get(service, service))
    operation = next((each for each in model.operation_names if xform_name(each, "-") == call), None)
    assert operation is not None, f"{service} has no {call}"
    shape = model.operation_model(operation).input_shape
    known = {xform_name(member, "-"): member for member in (shape.members if shape else {})}
    given = {flag.removeprefix("no-") for flag in re.findall(r"(?<= )--([a-z0-9-]+)", line)} - AWS_GLOBAL
    assert given <= set(known), f"{service} {call} has no {given - set(known)}"
    assert {known[flag] for flag in given} >= set(shape.required_members if shape else []), line


def test_what_aws_does_not_know_is_noticed() -> None:
    with pytest.raises(AssertionError, match="has no"):
        test_aws_knows_the_operation_and_its_parameters_and_misses_none("x", "aws ssm get-parameter --nam x")


@cache
def service_model(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


def test_a_secret_is_read_where_it_is_needed_and_stands_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "it's a password"
    secret.write_text("swordfish")
    around = made_up(f"secret://file/{secret}")
    plan = resolve(
        load_runbook(ROOT / "runbooks/reliabletech.yaml"), around, CATALOG, source="east", target="west"
    )  # fmt: skip
    text = manual(plan, CATALOG, environment=around)
    assert "swordfish" not in text
    asked = Paper(around, "east", "west").psql("orders", "west", "select 1")
    assert asked.startswith('PGPASSWORD="$(cat ') and " -W" not in asked
    script = asked.split(" PGCONNECT")[0] + '; printf %s "$PGPASSWORD"'
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert said.stdout == "swordfish"


def test_a_promotion_stands_behind_the_fence_and_names_who_is_meant() -> None:
    fence, promote = blocks()["postgres.fence"], blocks()["postgres.promote"]
    assert fence.index("/lease") < fence.index("/revoke") < fence.index("sleep 5") < fence.index("echo FENCED")
    assert promote.index("/lease") < promote.index("pg_promote")
    assert "system_identifier::text = " in promote and "pg_is_in_recovery()" in promote.split("pg_promote(true")[1]


@pytest.mark.parametrize(
    "said,fenced",
    [
        ('{"expired": true, "revoked": "failover"}', True),
        ('{"expired": true, "revoked": null}', False),
        ('{"expired": false, "revoked": "failover"}', False),
        ("", False),
    ],
)
def test_the_fence_on_paper_believes_only_a_revoked_lease_that_has_run_out(said: str, fenced: bool) -> None:
    line = next(line for line in blocks()["postgres.fence"].splitlines() if "echo FENCED" in line)
    asked = line.replace(curl("http://127.0.0.6:9/lease"), f"echo {quoted(said)}")
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
    assert done.stdout.strip() == ("FENCED" if fenced else "NOT FENCED")


def test_what_a_command_prints_is_kept_as_one_word() -> None:
    assert (
        subprocess.run(["bash", "-c", keep("A", "echo 'a  b'") + '; echo "$A"'], capture_output=True, text=True).stdout
        == "a  b\n"
    )


def test_what_is_set_up_first_gives_every_host_its_name_its_key_and_the_one_host_key_believed(tmp_path: Path) -> None:
    script = "\n".join(preparation(made_up()))
    done = subprocess.run(
        ["bash", "-c", script], env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    config = (tmp_path / "drkit-ssh-config").read_text()
    for host in made_up().hosts:
        assert f"Host {host.name}\n  HostName {host.address.host}\n" in config
    assert config.count("StrictHostKeyChecking yes") == config.count('IdentityFile "/keys/ops"') == 3
    assert (tmp_path / "drkit-known-hosts").read_text().splitlines()[0] == "east-1 ssh-ed25519 AAAA"


def test_the_servers_own_address_is_left_out_where_it_is_amazons() -> None:
    west = next(site for site in made_up().sites if site.name == "west").model_copy(update={"aws_endpoint": None})
    real = made_up().model_copy(update={"sites": (west,)})
    assert Paper(real, "east", "west").aws("target", "iam list-roles") == "aws iam list-roles --region west"
