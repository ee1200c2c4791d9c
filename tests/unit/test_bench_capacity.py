"""The bench of links reads the shared data's places as the catalogue has them: Google's are zones there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity import cost, hosters
from router.core.capacity import Agreed

PRICES = """src_provider,src_region,src_tier,dst_provider,dst_region,dst_tier,usd_per_gb
gcp,europe-west3-a,PREMIUM,gcp,us-east4-a,PREMIUM,0.08
gcp,us-east4-a,PREMIUM,gcp,europe-west3-a,PREMIUM,0.08
aws,eu-central-1,PREMIUM,aws,us-east-1,PREMIUM,0.02
aws,us-east-1,PREMIUM,aws,eu-central-1,PREMIUM,0.02
"""
DELAYS = """provider_a,region_a,provider_b,region_b,rtt_ms,quality
gcp,europe-west3-a,gcp,us-east4-a,90.0,both_directions_clean
aws,eu-central-1,aws,us-east-1,92.0,both_directions_clean
"""


def test_google_s_zones_are_its_regions_and_its_backbone_is_the_premium_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / cost.PRICES).write_text(PRICES)
    (tmp_path / cost.DELAYS).write_text(DELAYS)
    monkeypatch.setattr(cost, "DATA", tmp_path)
    asked = cost.pairs(Agreed(provider_ppm=1_000_000))
    assert [(way.name, way.uusd_gb, way.insured) for way in asked.ways] == [
        ("aws/eu-central-1/aws/us-east-1", 20_000, False),
        ("gcp/europe-west3/gcp/us-east4", 80_000, True),
    ]
    found = {one.name: one for one in cost.placements(asked)[0]}
    assert (found["premium-only"].rtt_ms, found["cheap-only"].rtt_ms) == (90.0, pytest.approx(92.0))
    assert found["cheap-only"].usd == pytest.approx(found["premium-only"].usd / 4)
    # Ours is as cheap but for the fiftieth that is kept on the premium way.
    assert found["ours"].usd == pytest.approx(0.98 * found["cheap-only"].usd + 0.02 * found["premium-only"].usd)


def test_hosters_pay_their_list_price_and_are_never_the_better_line() -> None:
    tokyo, osaka, vultr, linode = ("aws", "t"), ("gcp", "o"), ("vultr", "nrt"), ("linode", "id-cgk")
    price = {(tokyo, osaka): 0.114, (osaka, tokyo): 0.12, (tokyo, ("aws", "x")): 0.09}
    rtt = {(tokyo, osaka): 9.0, (("azure", "t"), osaka): 12.5}
    assert hosters.out_usd(linode, price) == 0.015
    assert hosters.out_usd(vultr, price) == 0.01
    assert hosters.out_usd(tokyo, price) == 0.114  # what it pays to others, not on its own backbone
    found = list(hosters.ways(3, 1, [tokyo, ("azure", "t"), vultr], [osaka, linode], price, rtt))
    assert {way.name: way.uusd_gb for way in found} == {
        "aws/t/linode/id-cgk": 64_500,
        "vultr/nrt/gcp/o": 65_000,
        "vultr/nrt/linode/id-cgk": 12_500,
    }  # nobody knows what azure/t pays
    assert {(way.rtt_us, way.group, way.hub, way.insured) for way in found} == {(12_500, 3, 1, False)}
    assert list(hosters.ways(0, 0, [vultr], [linode], price, rtt)) == []  # nothing was measured there
