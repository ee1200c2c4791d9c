"""The bench of links reads the shared data's places as the catalogue has them: Google's are zones there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity import cost
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
