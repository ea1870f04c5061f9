"""Networks, load balancers, names: VPC, security groups, ALB, web ACL, certificates, the DNS zone.

The target is a pilot light: its VPC, subnets and load balancer are there, but private subnets have no way out, the
application's security group lets nobody in, and the listener answers 503.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from drkit.sandbox.parts._routing_state import CELLS
from drkit.sandbox.seed_base import PREFIX, TAGS, Clients, World, spec

_CIDR = {"source": "10.10", "target": "10.20"}
_ZONES = ("a", "b", "c")


def network(clients: Clients, world: World, region: str) -> dict[str, Any]:
    """VPC, subnets, routes, security groups; a way out and an open application group in the source only."""
    ec2 = clients(region, "ec2")
    side = "source" if region == world.source else "target"
    cidr = _CIDR[side]
    vpc = ec2.create_vpc(CidrBlock=f"{cidr}.0.0/16", TagSpecifications=spec("vpc", f"{PREFIX}-vpc"))["Vpc"]["VpcId"]
    subnets = {
        f"{kind}-{zone}": ec2.create_subnet(
            VpcId=vpc,
            CidrBlock=f"{cidr}.{base + number}.0/24",
            AvailabilityZone=f"{region}{zone}",
            TagSpecifications=spec("subnet", f"{PREFIX}-{kind}-{zone}"),
        )["Subnet"]["SubnetId"]
        for base, kind in ((0, "public"), (100, "private"))
        for number, zone in enumerate(_ZONES)
    }
    gateway = ec2.create_internet_gateway(TagSpecifications=spec("internet-gateway", f"{PREFIX}-igw"))
    gateway_id = gateway["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(VpcId=vpc, InternetGatewayId=gateway_id)
    tables = {kind: _route_table(ec2, vpc, kind, subnets) for kind in ("public", "private")}
    ec2.create_route(RouteTableId=tables["public"], DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway_id)
    groups = _security_groups(ec2, vpc)
    made = {"vpc": vpc, "subnets": subnets, "route_tables": tables, "security_groups": groups}
    if side == "source":
        made["nat"] = _way_out(ec2, subnets["public-a"], tables["private"])
        _open(ec2, groups["app"], 8080, groups["alb"])
    return made


def _route_table(ec2: Any, vpc: str, kind: str, subnets: dict[str, str]) -> str:
    made = ec2.create_route_table(VpcId=vpc, TagSpecifications=spec("route-table", f"{PREFIX}-{kind}"))
    table = str(made["RouteTable"]["RouteTableId"])
    for name, subnet in subnets.items():
        if name.startswith(kind):
            ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
    return table


def _security_groups(ec2: Any, vpc: str) -> dict[str, str]:
    groups = {
        name: ec2.create_security_group(
            GroupName=f"{PREFIX}-{name}",
            Description=f"{PREFIX} {name}",
            VpcId=vpc,
            TagSpecifications=spec("security-group", f"{PREFIX}-{name}"),
        )["GroupId"]
        for name in ("alb", "app", "db")
    }
    world_wide = [{"CidrIp": "0.0.0.0/0"}]
    ec2.authorize_security_group_ingress(
        GroupId=groups["alb"],
        IpPermissions=[{"IpProtocol": "tcp", "FromPort": 443, "ToPort": 443, "IpRanges": world_wide}],
    )
    _open(ec2, groups["db"], 5432, groups["app"])
    return groups


def _open(ec2: Any, group: str, port: int, source_group: str) -> None:
    pair = {"GroupId": source_group}
    permission = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "UserIdGroupPairs": [pair]}
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[permission])


def _way_out(ec2: Any, public_subnet: str, private_table: str) -> str:
    address = ec2.allocate_address(Domain="vpc")["AllocationId"]
    tags = spec("natgateway", f"{PREFIX}-nat")
    nat = ec2.create_nat_gateway(SubnetId=public_subnet, AllocationId=address, TagSpecifications=tags)
    nat_id = str(nat["NatGateway"]["NatGatewayId"])
    ec2.create_route(RouteTableId=private_table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat_id)
    return nat_id


def balancer(clients: Clients, world: World, region: str, net: dict[str, Any], certificate: str) -> dict[str, Any]:
    """ALB, target group, HTTPS listener, web ACL; in the target the listener answers 503 and has no web ACL yet."""
    elb, waf = clients(region, "elbv2"), clients(region, "wafv2")
    public = [subnet for name, subnet in net["subnets"].items() if name.startswith("public")]
    groups = [net["security_groups"]["alb"]]
    made = elb.create_load_balancer(Name=f"{PREFIX}-web", Subnets=public, SecurityGroups=groups, Tags=TAGS)
    alb = made["LoadBalancers"][0]["LoadBalancerArn"]
    group = elb.create_target_group(
        Name=f"{PREFIX}-web", Protocol="HTTP", Port=8080, VpcId=net["vpc"], HealthCheckPath="/healthz", Tags=TAGS
    )["TargetGroups"][0]["TargetGroupArn"]
    forward = {"Type": "forward", "TargetGroupArn": group}
    closed = {
        "Type": "fixed-response",
        "FixedResponseConfig": {"StatusCode": "503", "ContentType": "text/plain", "MessageBody": "standby"},
    }
    listener = elb.create_listener(
        LoadBalancerArn=alb,
        Protocol="HTTPS",
        Port=443,
        Certificates=[{"CertificateArn": certificate}],
        DefaultActions=[forward if region == world.source else closed],
    )["Listeners"][0]["ListenerArn"]
    acl = waf.create_web_acl(
        Name=f"{PREFIX}-web",
        Scope="REGIONAL",
        DefaultAction={"Allow": {}},
        Rules=[],
        VisibilityConfig=_visible(f"{PREFIX}-web"),
        Tags=TAGS,
    )["Summary"]
    if region == world.source:
        waf.associate_web_acl(WebACLArn=acl["ARN"], ResourceArn=alb)
    return {"alb": alb, "target_group": group, "listener": listener, "web_acl": acl["ARN"]}


def _visible(name: str) -> dict[str, Any]:
    return {"SampledRequestsEnabled": False, "CloudWatchMetricsEnabled": False, "MetricName": name}


def certificate(clients: Clients, world: World, region: str) -> str:
    """A real certificate for the service's names, valid for a year, imported; its ARN."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, world.zone)])
    names = [world.zone, f"*.{world.zone}", f"shop.{world.zone}"]
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    made = clients(region, "acm").import_certificate(
        Certificate=signed.public_bytes(serialization.Encoding.PEM), PrivateKey=private, Tags=TAGS
    )
    return str(made["CertificateArn"])


def names(clients: Clients, world: World) -> dict[str, Any]:
    """The DNS zone: `shop` in weighted cells whose sides follow the routing controls, and names pinned to a region."""
    route53 = clients(world.source, "route53")
    zone = route53.create_hosted_zone(Name=world.zone, CallerReference=PREFIX)["HostedZone"]["Id"].split("/")[-1]
    changes = [_cell_alias(world, zone, cell, weight) for cell, weight in CELLS.items()]
    for region in world.regions:
        address = world.edges[region][0]
        changes += [_side(world, cell, region, address) for cell in CELLS]
        changes.append(_plain(world, f"shop-{region}", address))
        changes.append(_plain(world, f"db-{region}", world.databases[region][0]))
    changes.append(_record(world, "db", "CNAME", [f"db-{world.source}.{world.zone}"]))
    route53.change_resource_record_sets(
        HostedZoneId=zone,
        ChangeBatch={"Changes": [{"Action": "CREATE", "ResourceRecordSet": change} for change in changes]},
    )
    return {"zone": zone}


def _record(world: World, name: str, type_: str, values: list[str]) -> dict[str, Any]:
    records = [{"Value": value} for value in values]
    return {"Name": f"{name}.{world.zone}", "Type": type_, "TTL": world.ttl_s, "ResourceRecords": records}


def _plain(world: World, name: str, address: str) -> dict[str, Any]:
    return _record(world, name, "A", [address])


def _side(world: World, cell: str, region: str, address: str) -> dict[str, Any]:
    # The set identifier is the routing control's name: moto keeps no RECOVERY_CONTROL health checks to tie them by.
    return {**_record(world, f"{cell}.shop", "A", [address]), "SetIdentifier": f"{cell}/{region}", "Weight": 1}


def _cell_alias(world: World, zone: str, cell: str, weight: int) -> dict[str, Any]:
    target = {"HostedZoneId": zone, "DNSName": f"{cell}.shop.{world.zone}", "EvaluateTargetHealth": True}
    name = f"shop.{world.zone}"
    return {"Name": name, "Type": "A", "SetIdentifier": cell, "Weight": weight, "AliasTarget": target}


NETWORK_TEMPLATE = json.dumps(
    {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "What the standby network lacks until it is needed: a way out for private subnets.",
        "Parameters": {"PublicSubnet": {"Type": "String"}, "PrivateRouteTable": {"Type": "String"}},
        "Resources": {
            "Address": {"Type": "AWS::EC2::EIP", "Properties": {"Domain": "vpc"}},
            "Nat": {
                "Type": "AWS::EC2::NatGateway",
                "Properties": {
                    "AllocationId": {"Fn::GetAtt": ["Address", "AllocationId"]},
                    "SubnetId": {"Ref": "PublicSubnet"},
                    "Tags": [{"Key": "Name", "Value": f"{PREFIX}-nat"}],
                },
            },
            "WayOut": {
                "Type": "AWS::EC2::Route",
                "Properties": {
                    "RouteTableId": {"Ref": "PrivateRouteTable"},
                    "DestinationCidrBlock": "0.0.0.0/0",
                    "NatGatewayId": {"Ref": "Nat"},
                },
            },
        },
        "Outputs": {"Nat": {"Value": {"Ref": "Nat"}}},
    },
    indent=1,
)
"""CloudFormation template in the artifacts buckets, `cloudformation/network.json`."""
