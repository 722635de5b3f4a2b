"""Make the provider that a policy asks for, or say what is wrong with the asking.

The policy itself lives above this package; what is read of it is written down in ``CarbonSettings``. Provider
modules are imported only when chosen: a cluster without a carbon feed does not pay for an HTTP client.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, Protocol

from metrics.carbon.cache import CachedProvider
from metrics.carbon.intensity import CarbonProvider, Kind

PROVIDER_KINDS: Final[Mapping[str, tuple[Kind, ...]]] = {
    "static": ("average", "marginal"),
    "file": ("average", "marginal"),
    "electricity-maps": ("average",),
    "watttime": ("marginal",),
    "gb": ("average",),
}
"""What each provider can give; for ``static`` and ``file`` the user declares it."""


class CarbonMisconfigured(ValueError):
    """The carbon part of the policy cannot work; the message says which key, what came, what was expected."""


class CarbonSettings(Protocol):
    """What ``build`` reads of the policy's ``carbon`` block. ``file_clock_start`` (ISO 8601 text, a datetime
    or Unix seconds) is the instant of the file that counts as the present when the process starts.
    """

    @property
    def provider(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def static(self) -> Mapping[str, float]: ...
    @property
    def file(self) -> str | None: ...
    @property
    def file_clock_start(self) -> str | datetime | float | None: ...
    @property
    def url(self) -> str | None: ...
    @property
    def token_file(self) -> str | None: ...
    @property
    def refresh_seconds(self) -> float: ...


def build(settings: CarbonSettings, started_at_seconds: float | None = None) -> CarbonProvider | None:
    """The provider of the policy, cached; ``None`` for provider ``none``. ``started_at_seconds``: see
    ``file.HourlyFile``; give the process' start, so that reloading the policy does not turn the clock back.

    Raises ``CarbonMisconfigured`` for an unknown provider, a missing key, or a kind the provider does not
    give: average and marginal intensities are never mixed.
    """
    name = settings.provider
    if name == "none":
        return None
    gives = PROVIDER_KINDS.get(name)
    if gives is None:
        expected = ", ".join([*PROVIDER_KINDS, "none"])
        raise CarbonMisconfigured(f"carbon.provider: got {name!r}, expected one of {expected}")
    kind = _kind(name, settings.kind, gives)
    provider = _provider(name, settings, kind, started_at_seconds)
    if name in ("static", "file"):
        # Both answer from memory; a cache would only hide a new file or a new hour.
        return provider
    if not settings.refresh_seconds > 0:
        raise CarbonMisconfigured(
            f"carbon.refreshSeconds: got {settings.refresh_seconds}, expected more than 0"
        )
    return CachedProvider(provider, settings.refresh_seconds)


def _kind(name: str, asked: str, gives: tuple[Kind, ...]) -> Kind:
    for kind in gives:
        if kind == asked:
            return kind
    if asked not in ("average", "marginal"):
        raise CarbonMisconfigured(f"carbon.kind: got {asked!r}, expected average or marginal")
    raise CarbonMisconfigured(
        f"carbon.kind: got {asked}, but carbon.provider {name} gives {gives[0]} intensities. Average and "
        f"marginal intensities differ by factors and must not be mixed; set carbon.kind to {gives[0]} "
        f"or choose a provider of {asked} intensities"
    )


def _provider(
    name: str, settings: CarbonSettings, kind: Kind, started_at_seconds: float | None
) -> CarbonProvider:
    if name == "static":
        from metrics.carbon.static import StaticTable

        return StaticTable(settings.static, kind)
    if name == "file":
        from metrics.carbon.file import HourlyFile

        if not settings.file:
            raise CarbonMisconfigured(
                "carbon.file: got nothing, expected the path of a CSV file for provider file"
            )
        return HourlyFile(
            settings.file, kind, clock_start_seconds(settings.file_clock_start), started_at_seconds
        )
    url = settings.url
    if url is not None and not url.startswith(("http://", "https://")):
        raise CarbonMisconfigured(
            f"carbon.url: got {url!r}, expected a URL that begins with https:// or http://"
        )
    if name == "gb":
        from metrics.carbon import gb

        return gb.GreatBritain(url or gb.BASE_URL)
    if not settings.token_file:
        holds = "user:password" if name == "watttime" else "the API token"
        raise CarbonMisconfigured(
            f"carbon.tokenFile: got nothing, expected the path of a file that holds {holds}"
        )
    if name == "watttime":
        from metrics.carbon import watttime

        return watttime.WattTime(url or watttime.BASE_URL, settings.token_file)
    from metrics.carbon import electricity_maps

    return electricity_maps.ElectricityMaps(url or electricity_maps.BASE_URL, settings.token_file)


def clock_start_seconds(value: str | datetime | float | None) -> float | None:
    """Unix seconds of ``carbon.fileClockStart``; times without a zone are UTC. Raises
    ``CarbonMisconfigured``.
    """
    if value is None or isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            raise CarbonMisconfigured(
                f"carbon.fileClockStart: got {value!r}, expected ISO 8601 like 2026-01-01T00:00:00Z"
            ) from None
    return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
