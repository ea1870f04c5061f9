"""ACM: certificates that are issued, valid long enough, and for the names users ask for; read from the certificate."""

from __future__ import annotations

from datetime import UTC, datetime

from drkit.catalog import probe
from drkit.context import Context
from drkit.model.observation import Observation
from drkit.model.paper import Paper, lines, var
from drkit.model.params import Params, SiteName
from drkit.providers.aws import Aws


class Names(Params):
    """Names that must be covered."""

    site: SiteName = "target"
    """Region of the certificates."""
    names: list[str]
    """Host names that one certificate must cover, all of them."""
    days_min: float = 14.0
    """Days for which it must still be valid."""


class Certificates(Observation):
    """The best certificate for these names. `ok` is true only if nothing is wrong with it."""

    ok: bool
    arn: str | None = None
    status: str | None = None
    names: list[str]
    missing: list[str]
    days_left: float | None = None


@probe("aws.acm.certificates", plane="control")
async def certificates(ctx: Context, p: Names) -> Certificates:
    """Fetch every issued certificate and read names and expiry from the certificate itself."""
    aws = ctx.use(Aws)
    summaries = await aws.pages(p.site, "acm", "list_certificates", "CertificateSummaryList")
    found = [await _read(aws, p, summary["CertificateArn"]) for summary in summaries]
    best = max(found, key=lambda each: (each.ok, -len(each.missing), each.days_left or 0.0), default=None)
    return best or Certificates(ok=False, names=[], missing=sorted(p.names))


async def _read(aws: Aws, p: Names, arn: str) -> Certificates:
    described = (await aws.call(p.site, "acm", "describe_certificate", {"CertificateArn": arn}))["Certificate"]
    pem = (await aws.call(p.site, "acm", "get_certificate", {"CertificateArn": arn}))["Certificate"]
    names, days_left = understood(pem if isinstance(pem, bytes) else pem.encode(), datetime.now(UTC))
    missing = sorted(name for name in p.names if not covered(name, names))
    ok = described["Status"] == "ISSUED" and not missing and days_left >= p.days_min
    return Certificates(
        ok=ok, arn=arn, status=described["Status"], names=names, missing=missing, days_left=round(days_left, 2)
    )


def understood(pem: bytes, now: datetime) -> tuple[list[str], float]:
    """Names of a certificate, and for how many days it is still valid; 0 if it is not valid yet."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = sorted(extension.value.get_values_for_type(x509.DNSName))
    except x509.ExtensionNotFound:
        names = []
    if now < certificate.not_valid_before_utc:
        return names, 0.0
    return names, (certificate.not_valid_after_utc - now).total_seconds() / 86400


def covered(name: str, names: list[str]) -> bool:
    """Whether one of a certificate's names stands for this one; a wildcard covers one label."""
    return any(each == name or (each.startswith("*.") and name.partition(".")[2] == each[2:]) for each in names)


@certificates.by_hand
def look_at_certificates(p: Names, paper: Paper) -> str:
    """Every certificate: names and expiry."""
    shown = "Certificate.[Status,NotAfter,SubjectAlternativeNames]"
    listed = paper.aws(p.site, "acm list-certificates", query="CertificateSummaryList[].CertificateArn")
    each = paper.aws(p.site, "acm describe-certificate", certificate_arn=var("ARN"), query=shown)
    return lines(
        f"# one must be ISSUED, cover {', '.join(p.names)} and be valid for {p.days_min:g} days more",
        f"for ARN in $({listed}); do {each}; done",
    )
