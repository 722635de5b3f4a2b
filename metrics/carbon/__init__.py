"""Grid carbon intensity: what a kilowatt-hour emits, here and now, or a reason why that is not known.

One file a provider, each the only place that knows its interface. A provider is either **average** (all
generation of the zone, imports included) or **marginal** (the plants that answer one more kilowatt): the two
differ by factors and rank zones differently, so one process uses one kind. ``build`` refuses a policy that
would mix them.

Units: grams of CO2 equivalent per kilowatt-hour; times in Unix seconds.
"""

from metrics.carbon.build import CarbonMisconfigured, CarbonSettings, build
from metrics.carbon.intensity import CarbonProvider, Intensity, Kind

__all__ = ["CarbonMisconfigured", "CarbonProvider", "CarbonSettings", "Intensity", "Kind", "build"]
