"""The access leg of the emulated users: how long packets take between a user's position and a data center.

One way, in ms: ``LAST_MILE + km / 200 * STRETCH``, with ``km`` the great circle. The public Internet's shortest round
trips are about three times what light in vacuum would need (Bozkurt et al., "Why Is the Internet so Slow?!", PAM 2017),
which is twice the fibre time of the great circle: ``STRETCH``. The last mile is a judgement between fibre and DSL in
the FCC's "Measuring Broadband America" reports. A data center without a position is as far as the other side of the
world: users avoid it, and it works.
"""

from __future__ import annotations

from router.demo.geography import fibre_us, great_circle_km

LAST_MILE_US = 6_000
STRETCH = 2.0
FAR_US = 150_000


def access_us(
    latitude: float, longitude: float, data_center_latitude: float | None, data_center_longitude: float | None
) -> int:
    """One-way delay between a user and a data center, the same in both directions."""
    if data_center_latitude is None or data_center_longitude is None:
        return FAR_US
    km = great_circle_km(latitude, longitude, data_center_latitude, data_center_longitude)
    return round(LAST_MILE_US + fibre_us(km) * STRETCH)
