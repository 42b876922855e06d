"""Amazon's interfaces, spoken by boto3 with a server on loopback that answers as they do: JSON 1.1 for prices, XML for spot."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
from earthself.benchmark.cli import app
from earthself.benchmark.errors import BadOffers, CatalogueBroken
from earthself.benchmark.offers import from_aws
from earthself.benchmark.offers.model import Allocation, Cloud, Offer, Price
from typer.testing import CliRunner

REGION = "eu-central-1"


def term(amount, unit="Hrs", **attributes):
    dimension = {"unit": unit, "pricePerUnit": {"USD": amount}, "beginRange": "0", "endRange": "Inf"}
    return {"priceDimensions": {"A.B.C": dimension}, "effectiveDate": "2026-11-01T00:00:00Z", "termAttributes": attributes}


def product(name="m5.large", price="0.1150000000", reserved=(), **attributes):
    said = {
        "instanceType": name, "vcpu": "2", "memory": "8 GiB", "physicalProcessor": "Intel Xeon Platinum 8175",
        "processorArchitecture": "64-bit", "storage": "EBS only", "networkPerformance": "Up to 10 Gigabit",
        "regionCode": REGION, "operatingSystem": "Linux",
    } | attributes  # fmt: skip
    terms = {"OnDemand": {"A.B": term(price)}, "Reserved": {f"A.{number}": one for number, one in enumerate(reserved)}}
    return {"product": {"attributes": said, "sku": "A", "productFamily": "Compute Instance"}, "serviceCode": "AmazonEC2", "terms": terms}


RESERVED = [
    term("0.0720000000", LeaseContractLength="1yr", OfferingClass="standard", PurchaseOption="No Upfront"),
    term("0.0490000000", LeaseContractLength="3yr", OfferingClass="standard", PurchaseOption="No Upfront"),
    term("0.0300000000", LeaseContractLength="3yr", OfferingClass="standard", PurchaseOption="All Upfront"),
    term("0.0800000000", LeaseContractLength="1yr", OfferingClass="convertible", PurchaseOption="No Upfront"),
]
PAGES = [
    [product(reserved=RESERVED), product("c7g.large", "0.0800", physicalProcessor="AWS Graviton3 Processor", memory="4 GiB")],
    [
        product(
            "g5.xlarge", "1.2580", vcpu="4", memory="16 GiB", gpu="1", storage="1 x 250 GB NVMe SSD", networkPerformance="Up to 10 Gigabit"
        ),
        product("u-6tb1.metal", "0.0000000000", vcpu="448", memory="6,144 GiB"),
        product("x9.odd", "1.0", vcpu="NA", memory="NA"),
    ],
]
SPOT = [("eu-central-1a", "m5.large", "0.0412", 1), ("eu-central-1a", "m5.large", "0.0399", 2), ("eu-central-1b", "m5.large", "0.0500", 2),
        ("eu-central-1a", "z1.unknown", "0.1", 2)]  # fmt: skip


class Amazon(BaseHTTPRequestHandler):
    refuses = None

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.refuses:
            self._say(self.refuses, json.dumps({"__type": "AccessDeniedException", "message": "no"}), "application/x-amz-json-1.1")
        elif self.headers.get("X-Amz-Target") == "AWSPriceListService.GetProducts":
            asked = json.loads(body)
            wanted = {one["Field"]: one["Value"] for one in asked["Filters"]}
            assert wanted["operatingSystem"] == "Linux"
            assert wanted["tenancy"] == "Shared"
            page = int(asked.get("NextToken", 0))
            found = PAGES if wanted["regionCode"] == REGION else [[]]
            more = {"NextToken": str(page + 1)} if page + 1 < len(found) else {}
            answer = {"FormatVersion": "aws_v1", "PriceList": [json.dumps(one) for one in found[page]]} | more
            self._say(200, json.dumps(answer), "application/x-amz-json-1.1")
        else:
            assert parse_qs(body)["Action"] == ["DescribeSpotPriceHistory"]
            items = "".join(
                f"<item><instanceType>{name}</instanceType><productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>"
                f"<timestamp>2026-11-23T0{hour}:00:00.000Z</timestamp><availabilityZone>{zone}</availabilityZone></item>"
                for zone, name, price, hour in SPOT
            )
            space = 'xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"'
            name = "DescribeSpotPriceHistoryResponse"
            text = f"<{name} {space}><spotPriceHistorySet>{items}</spotPriceHistorySet></{name}>"
            self._say(200, text, "text/xml")

    def _say(self, status, text, kind):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


@pytest.fixture
def amazon(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Amazon,), {}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    for name in ("PRICING", "EC2"):
        monkeypatch.setenv(f"AWS_ENDPOINT_URL_{name}", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "k")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    yield server.RequestHandlerClass
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def found(amazon):
    reasons = Counter()
    return list(from_aws.rows([REGION], lambda why: reasons.update([why]))), reasons


def test_machines_of_all_pages_have_what_amazon_says_of_them(found):
    machines = {row.offer: row for row in found[0] if isinstance(row, Offer)}
    assert set(machines) == {"m5.large", "c7g.large", "g5.xlarge", "u-6tb1.metal"}
    m5, gpu = machines["m5.large"], machines["g5.xlarge"]
    assert (m5.vcpus, m5.memory_gib, m5.architecture, m5.gpus, m5.network_gbps, m5.disk_kind) == (2.0, 8.0, "x86_64", 0.0, 10.0, None)
    assert (gpu.gpus, gpu.disk_kind) == (1.0, "nvme ssd")
    assert machines["c7g.large"].architecture == "aarch64"
    assert machines["u-6tb1.metal"].memory_gib == 6144.0
    assert found[1]["no size is said"] == 1


def test_prices_are_those_on_demand_of_plain_reservations_and_of_the_newest_spot(found):
    of = {(p.allocation, p.term_months, p.zone): p.amount for p in found[0] if isinstance(p, Price) and p.offer == "m5.large"}
    assert of == {
        (Allocation.ON_DEMAND, None, ""): 0.115,
        (Allocation.RESERVED, 12, ""): 0.072,
        (Allocation.RESERVED, 36, ""): 0.049,
        (Allocation.SPOT, None, "eu-central-1a"): 0.0399,
        (Allocation.SPOT, None, "eu-central-1b"): 0.05,
    }
    assert {p.currency for p in found[0] if isinstance(p, Price)} == {"USD"}
    assert not [p for p in found[0] if isinstance(p, Price) and p.offer in ("u-6tb1.metal", "z1.unknown")], "0 is no price"
    assert found[1]["no price by the hour in dollars"] == 1
    assert found[1]["reservations with a payment in advance, or of another class"] == 2
    assert [row.cloud for row in found[0] if isinstance(row, Cloud)] == ["aws"]


def test_the_command_fills_the_catalogue(amazon, tmp_path):
    url = f"sqlite:///{tmp_path / 'p.db'}"
    done = CliRunner().invoke(app, ["offers", "load", "aws", REGION, "--database-url", url, "--json"])
    assert done.exit_code == 0, done.output
    shown = CliRunner().invoke(app, ["offers", "list", "--cloud", "aws", "--database-url", url, "--json"])
    assert json.loads(shown.stdout.splitlines()[0])["offer"] == "c7g.large"


def test_a_region_without_machines_is_named(amazon):
    with pytest.raises(BadOffers, match="'frankfurt'"):
        list(from_aws.rows(["frankfurt"]))


@pytest.mark.parametrize(("status", "error"), [(403, BadOffers), (500, CatalogueBroken)])
def test_what_amazon_refuses_is_said_with_the_rights_that_it_takes(amazon, status, error):
    amazon.refuses = status
    with pytest.raises(error, match="AccessDenied"):
        list(from_aws.rows([REGION]))


def test_without_credentials_it_is_said_how_to_give_them(amazon, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(BadOffers, match="AWS_PROFILE"):
        list(from_aws.rows([REGION]))


def test_an_amazon_that_is_away_is_worth_another_try(amazon, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", "http://127.0.0.1:9")
    with pytest.raises(CatalogueBroken, match="cannot be asked"):
        list(from_aws.rows([REGION]))
