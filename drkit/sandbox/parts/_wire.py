"""A few AWS calls of the sandbox's own parts, with the standard library: Route 53, S3 and DynamoDB reads and copies.

boto3 would cost each of these small processes 60 MB and half a second. The requests are the real wire protocol but for
the signature, which moto does not verify: only the credential scope is there, because the gateway reads the region
from it. Each call names its `caller`, so that the gateway's call log tells the sandbox's own traffic from drkit's.
"""

from __future__ import annotations

import http.client
import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit


class WireError(OSError):
    """The endpoint of `region` did not answer (`status` is None) or answered with an error."""

    def __init__(self, message: str, region: str, status: int | None = None) -> None:
        super().__init__(message)
        self.region = region
        self.status = status


class Wire:
    """One region's gateway, as seen by one caller. Not for use from several threads."""

    def __init__(self, url: str, region: str, caller: str, timeout_s: float = 2.0) -> None:
        self._netloc = urlsplit(url).netloc
        self._region = region
        self._caller = caller
        self._timeout_s = timeout_s

    def call(
        self,
        service: str,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        region: str | None = None,
    ) -> tuple[dict[str, str], bytes]:
        """Headers (lower case) and body of a 2xx answer. Raises WireError."""
        date = time.strftime("%Y%m%d", time.gmtime())
        scope = f"{date}/{region or self._region}/{service}/aws4_request"
        sent = {
            "Authorization": f"AWS4-HMAC-SHA256 Credential=sandbox/{scope}, SignedHeaders=host, Signature=0",
            "User-Agent": f"drkit app/{self._caller}",
            **(headers or {}),
        }
        connection = http.client.HTTPConnection(self._netloc, timeout=self._timeout_s)
        try:
            connection.request(method, target, body=body or None, headers=sent)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise WireError(f"{service} {method} {target}: {error or type(error).__name__}", self._region) from error
        finally:
            connection.close()
        if not 200 <= answer.status < 300:
            message = f"{service} {method} {target}: {answer.status} {content[:200]!r}"
            raise WireError(message, self._region, answer.status)
        return {name.lower(): value for name, value in answer.getheaders()}, content

    def dynamodb(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """One DynamoDB operation. Raises WireError."""
        headers = {"X-Amz-Target": f"DynamoDB_20120810.{operation}", "Content-Type": "application/x-amz-json-1.0"}
        answer: dict[str, Any] = json.loads(
            self.call("dynamodb", "POST", "/", body=json.dumps(body).encode(), headers=headers)[1]
        )
        return answer

    def list_objects(self, bucket: str) -> dict[str, str]:
        """Key → ETag of every object in a bucket. Raises WireError."""
        found: dict[str, str] = {}
        token: str | None = None
        while True:
            query = {"list-type": "2", **({"continuation-token": token} if token else {})}
            page = tree(self.call("s3", "GET", f"/{bucket}?{urlencode(query)}")[1])
            for entry in page.findall("Contents"):
                found[entry.findtext("Key", "")] = entry.findtext("ETag", "")
            token = page.findtext("NextContinuationToken")
            if page.findtext("IsTruncated") != "true" or not token:
                return found

    def get_object(self, bucket: str, key: str) -> tuple[bytes, dict[str, str]]:
        """Content and the headers that travel with it (content type, user metadata). Raises WireError."""
        headers, content = self.call("s3", "GET", _object(bucket, key))
        kept = {
            name: value for name, value in headers.items() if name == "content-type" or name.startswith("x-amz-meta-")
        }
        return content, kept

    def put_object(self, bucket: str, key: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Write an object. Raises WireError."""
        self.call("s3", "PUT", _object(bucket, key), body=content, headers=headers)

    def delete_object(self, bucket: str, key: str) -> None:
        """Delete an object. Raises WireError."""
        self.call("s3", "DELETE", _object(bucket, key))

    def record_sets(self, zone_name: str) -> list[ElementTree.Element]:
        """All record sets of the zone called `zone_name`, namespaces stripped; empty if there is no such zone."""
        zones = tree(self.call("route53", "GET", "/2013-04-01/hostedzone", region="us-east-1")[1])
        wanted = zone_name.rstrip(".") + "."
        ids = [zone.findtext("Id", "") for zone in zones.iter("HostedZone") if zone.findtext("Name") == wanted]
        if not ids:
            return []
        found: list[ElementTree.Element] = []
        query: dict[str, str] = {}
        while True:
            target = f"/2013-04-01{ids[0]}/rrset" + (f"?{urlencode(query)}" if query else "")
            page = tree(self.call("route53", "GET", target, region="us-east-1")[1])
            found.extend(page.iter("ResourceRecordSet"))
            if page.findtext("IsTruncated") != "true":
                return found
            names = {"name": "NextRecordName", "type": "NextRecordType", "identifier": "NextRecordIdentifier"}
            query = {name: value for name, tag in names.items() if (value := page.findtext(tag))}


def _object(bucket: str, key: str) -> str:
    return f"/{bucket}/{quote(key)}"


def tree(content: bytes) -> ElementTree.Element:
    """A parsed XML answer, its namespaces taken off."""
    root = ElementTree.fromstring(content)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
    return root
