"""Steps 13-20: what the region entered must have."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sabotage_hands import PREFIX, SOURCE, TARGET, Hands
from sabotage_rows import Sabotaged, broken, idle

from drkit.actions.aws_secrets import DIGEST_TAG, value_digest

ARTIFACTS = f"{PREFIX}-artifacts-{TARGET}"
RELEASE = Path(__file__).resolve().parents[2] / "drkit/sandbox/parts/order_app.py"


@contextmanager
def object_replaced(w: Hands, key: str, content: bytes | None) -> Iterator[None]:
    """An artifact has other content, or is not there, for a while."""
    s3 = w.aws("s3")
    before = s3.get_object(Bucket=ARTIFACTS, Key=key)["Body"].read()
    if content is None:
        s3.delete_object(Bucket=ARTIFACTS, Key=key)
    else:
        s3.put_object(Bucket=ARTIFACTS, Key=key, Body=content)
    try:
        yield
    finally:
        s3.put_object(Bucket=ARTIFACTS, Key=key, Body=before)


@contextmanager
def template_missing(w: Hands) -> Iterator[None]:
    with object_replaced(w, "cloudformation/network.json", None):
        yield


@contextmanager
def stack_of_somebody_else(w: Hands) -> Iterator[None]:
    cloud, name = w.aws("cloudformation"), f"{PREFIX}-network"
    body = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "experiment"}}}}
    cloud.create_stack(StackName=name, TemplateBody=json.dumps(body))
    try:
        yield
    finally:
        cloud.delete_stack(StackName=name)
        close_application(w)


def close_application(w: Hands) -> None:
    """The application's security group lets nobody in, as before."""
    ec2 = w.aws("ec2")
    named = [{"Name": "tag:Name", "Values": [f"{PREFIX}-app"]}]
    group = ec2.describe_security_groups(Filters=named)["SecurityGroups"][0]
    if group["IpPermissions"]:
        ec2.revoke_security_group_ingress(GroupId=group["GroupId"], IpPermissions=group["IpPermissions"])


@contextmanager
def no_way_in(w: Hands) -> Iterator[None]:
    """The public subnets have no route to the internet gateway."""
    ec2 = w.aws("ec2")
    tables = ec2.describe_route_tables(Filters=[{"Name": "tag:Name", "Values": [f"{PREFIX}-public"]}])["RouteTables"]
    table = tables[0]["RouteTableId"]
    gateway = next(route["GatewayId"] for route in tables[0]["Routes"] if route["GatewayId"].startswith("igw-"))
    default = {"RouteTableId": table, "DestinationCidrBlock": "0.0.0.0/0"}
    ec2.delete_route(**default)
    try:
        yield
    finally:
        ec2.create_route(**default, GatewayId=gateway)


@contextmanager
def no_path_from_onprem(w: Hands) -> Iterator[None]:
    before = w.parameter(f"/{PREFIX}/vpn/preferred")
    try:
        with w.cut(f"onprem-{TARGET}"):
            yield
    finally:
        w.set_parameter(f"/{PREFIX}/vpn/preferred", before)


@contextmanager
def key_disabled(w: Hands) -> Iterator[None]:
    kms, alias = w.aws("kms"), f"alias/{PREFIX}-data"
    key = kms.describe_key(KeyId=alias)["KeyMetadata"]["KeyId"]
    kms.disable_key(KeyId=key)
    try:
        yield
    finally:
        kms.enable_key(KeyId=key)
        for grant in kms.list_grants(KeyId=key)["Grants"]:
            kms.revoke_grant(KeyId=key, GrantId=grant["GrantId"])


@contextmanager
def key_gone(w: Hands) -> Iterator[None]:
    kms, alias = w.aws("kms"), f"alias/{PREFIX}-data"
    key = kms.describe_key(KeyId=alias)["KeyMetadata"]["KeyId"]
    kms.delete_alias(AliasName=alias)
    try:
        yield
    finally:
        kms.create_alias(AliasName=alias, TargetKeyId=key)


@contextmanager
def other_secret(w: Hands, name: str, change: dict[str, str], *, agreed: bool = False) -> Iterator[None]:
    """A secret has another value for a while; `agreed`: and the digest that is written beside it fits."""
    manager = w.aws("secretsmanager")
    before, tags = manager.get_secret_value(SecretId=name), manager.describe_secret(SecretId=name)["Tags"]
    value = json.loads(before["SecretString"]) | change
    manager.put_secret_value(SecretId=name, SecretString=json.dumps(value))
    if agreed:
        manager.tag_resource(SecretId=name, Tags=[{"Key": DIGEST_TAG, "Value": value_digest(value)}])
    try:
        yield
    finally:
        manager.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)
        manager.create_secret(
            Name=name, SecretString=before["SecretString"], ClientRequestToken=before["VersionId"], Tags=tags
        )


@contextmanager
def secret_stale(w: Hands) -> Iterator[None]:
    with other_secret(w, f"{PREFIX}/orders/db", {"password": "of last year"}):
        yield


@contextmanager
def login_not_taken(w: Hands) -> Iterator[None]:
    with other_secret(w, f"{PREFIX}/orders/db", {"password": "of tomorrow"}, agreed=True):
        yield


@contextmanager
def other_certificate(w: Hands, names: list[str], valid_for: timedelta) -> Iterator[None]:
    """The one certificate is another one for a while."""
    acm = w.aws("acm")
    arn = acm.list_certificates()["CertificateSummaryList"][0]["CertificateArn"]
    acm.import_certificate(CertificateArn=arn, **certificate(names, valid_for))
    try:
        yield
    finally:
        zone = w.environment.dns.zone if w.environment.dns else ""
        acm.import_certificate(
            CertificateArn=arn, **certificate([zone, f"*.{zone}", f"shop.{zone}"], timedelta(days=365))
        )


def certificate(names: list[str], valid_for: timedelta) -> dict[str, bytes]:
    """A self-signed certificate for these names."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=100)).not_valid_after(now + valid_for)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    return {
        "Certificate": signed.public_bytes(pem),
        "PrivateKey": key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain),
    }


@contextmanager
def certificate_expired(w: Hands) -> Iterator[None]:
    zone = w.environment.dns.zone if w.environment.dns else ""
    with other_certificate(w, [f"shop.{zone}"], timedelta(seconds=2)):
        time.sleep(2)  # one that is expired already is not taken
        yield


@contextmanager
def certificate_of_others(w: Hands) -> Iterator[None]:
    with other_certificate(w, ["shop.example.org"], timedelta(days=300)):
        yield


@contextmanager
def digest_missing(w: Hands) -> Iterator[None]:
    ecr, repository = w.aws("ecr"), f"{PREFIX}/worker"
    digest = json.loads(w.parameter(f"/{PREFIX}/release/live"))["images"][repository]
    image = ecr.batch_get_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])["images"][0]
    ecr.batch_delete_image(repositoryName=repository, imageIds=[{"imageDigest": digest}])
    try:
        yield
    finally:
        ecr.put_image(
            repositoryName=repository, imageManifest=image["imageManifest"], imageTag="2026.11.2", imageDigest=digest
        )


@contextmanager
def artifact_changed(w: Hands) -> Iterator[None]:
    key = json.loads(w.parameter(f"/{PREFIX}/release/live"))["artifact"]
    with object_replaced(w, key, RELEASE.read_bytes() + b"# one line more\n"):
        yield


@contextmanager
def image_gone(w: Hands) -> Iterator[None]:
    gone = json.dumps({"name": f"{PREFIX}-web-2026.11", "image": "ami-0123456789abcdef0"})
    with w.other_parameter(f"/{PREFIX}/ami/web", gone):
        yield


@contextmanager
def iam_writable(w: Hands) -> Iterator[Any]:
    """IAM takes writes for a moment: they are decided in the region that is down, whatever region is asked."""
    admin = w.aws("iam", SOURCE)
    w.endpoint(SOURCE, "ok")
    try:
        yield admin
    finally:
        w.endpoint(SOURCE, "refuse")


@contextmanager
def without_role(w: Hands, name: str) -> Iterator[None]:
    """A role is missing for a while."""
    with iam_writable(w) as iam:
        found = iam.get_role(RoleName=name)["Role"]
        iam.delete_role(RoleName=name)
    try:
        yield
    finally:
        with iam_writable(w) as iam:
            iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(found["AssumeRolePolicyDocument"]))


@contextmanager
def role_missing(w: Hands) -> Iterator[None]:
    with without_role(w, f"{PREFIX}-worker"):
        yield


@contextmanager
def emergency_role_missing(w: Hands) -> Iterator[None]:
    with without_role(w, f"{PREFIX}-break-glass"):
        yield


@contextmanager
def provider_missing(w: Hands) -> Iterator[None]:
    with iam_writable(w) as iam:
        arn = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"][0]["Arn"]
        found = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
        iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    try:
        yield
    finally:
        with iam_writable(w) as iam:
            iam.create_open_id_connect_provider(
                Url=f"https://{found['Url'].removeprefix('https://')}", ClientIDList=found["ClientIDList"],
                ThumbprintList=found["ThumbprintList"],
            )  # fmt: skip


STEPS = (
    Sabotaged(
        "network",
        real="templates, routes, gateways and groups as the API keeps them",
        metadata="no packet takes these routes",
        users="pages that load and cannot pay: servers without a way out",
        rows=(
            idle(r"app_open=False"),
            broken("the template is not in the bucket", template_missing, r"NoSuchKey|does not exist"),
            broken("somebody else's stack has the name", stack_of_somebody_else, r"public_way_out=True, app_open=True"),
            broken("the public subnets have no way out", no_way_in, r"internet gateway"),
        ),
    ),
    Sabotaged(
        "vpn",
        real="connections tried from every on-prem server",
        metadata="the preference: no BGP session is real",
        users="shops and warehouses that cannot book, while the web shop works",
        rows=(
            idle(r"preferred=us-east-1"),
            broken("on-prem does not get through to the region", no_path_from_onprem, r"stuck=.*onprem-1"),
        ),
    ),
    Sabotaged(
        "keys",
        real="something is encrypted and decrypted with the key; its state",
        metadata="a grant keeps nobody out",
        users="errors wherever stored data are read: the application may not decrypt them",
        rows=(
            idle(r"granted=\[\]"),
            broken("the key is disabled", key_disabled, r"state=Disabled"),
            broken("there is no key of that name", key_gone, r"no key alias/reliabletech-data"),
        ),
    ),
    Sabotaged(
        "secrets",
        real="values against their digests, versions, and the login that they hold",
        metadata="that a secret is a replica is a tag",
        users="the shop starts and cannot log in to its database",
        rows=(
            idle(r"role=replica"),
            broken("a secret is stale", secret_stale, r"orders/db in us-west-2 is not what was agreed on"),
            broken(
                "the database does not take the login",
                login_not_taken,
                r"database does not accept what reliabletech/orders/db holds",
            ),
        ),
    ),
    Sabotaged(
        "certificates",
        real="names and validity are read from the certificate itself",
        metadata="the load balancer that would show it",
        users="a browser's warning instead of the shop",
        rows=(
            broken("the certificate is expired", certificate_expired, r"days_left=-?0\.0"),
            broken("the certificate is for other names", certificate_of_others, r"missing=\[shop\."),
        ),
    ),
    Sabotaged(
        "images",
        real="manifests and the artifact are fetched and their digests computed",
        users="another release than the one they used a minute ago, or none",
        rows=(
            broken("an image's digest is missing", digest_missing, r"repository=reliabletech/worker.*present=False"),
            broken("the artifact has other bytes", artifact_changed, r"artifact_sha256=sha256:"),
        ),
    ),
    Sabotaged(
        "templates",
        real="versions and images as the API keeps them",
        metadata="no instance boots from them",
        users="last month's software on every new server",
        rows=(
            idle(r"default_version=1"),
            broken("the current image is not in this region", image_gone, r"ami-0123456789abcdef0"),
        ),
    ),
    Sabotaged(
        "identities",
        real="roles and providers are looked for; nothing is written",
        metadata="roles keep nobody out here",
        users="nothing yet; then services that start and may do nothing",
        rows=(
            broken("a role is missing", role_missing, r"missing=\[reliabletech-worker\]"),
            broken("the identity provider is missing", provider_missing, r"missing=\[oidc\."),
        ),
    ),
)
