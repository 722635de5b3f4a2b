"""Where the API server is and how we are let in: the official client's loaders, with our words on failure."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cluster.api_errors import NotConfigured, in_words

_IN_POD = "the pod's service account"


def load_configuration(kubeconfig: str | None, context: str | None) -> Any:
    """Return the official client's Configuration for the given file, the pod or the user's default file.

    Raises NotConfigured.
    """
    # Imported here: the policy models are used by commands that never talk to an API server.
    from kubernetes.client.configuration import Configuration
    from kubernetes.config.config_exception import ConfigException
    from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME, load_incluster_config
    from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION, load_kube_config
    from yaml import YAMLError

    configuration = Configuration()
    in_pod = kubeconfig is None and context is None and bool(os.environ.get(SERVICE_HOST_ENV_NAME))
    place = _IN_POD if in_pod else kubeconfig or KUBE_CONFIG_DEFAULT_LOCATION
    try:
        if in_pod:
            load_incluster_config(client_configuration=configuration)
        else:
            load_kube_config(
                config_file=kubeconfig,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )
    except (ConfigException, OSError, ValueError, KeyError, TypeError, AttributeError, YAMLError) as error:
        raise NotConfigured(
            f"{place}: got {_problem(place, error)}, expected a kubeconfig"
            + (f" with context {context!r}" if context else "")
            + " or a pod's service account; give --kubeconfig, set KUBECONFIG or run in a pod"
        ) from error
    return configuration


def _problem(place: str, error: Exception) -> str:
    """What is wrong, in one line; KUBECONFIG may name several files."""
    from kubernetes.config.config_exception import ConfigException

    if not isinstance(error, ConfigException):
        return " ".join(in_words(error).split())
    files = [Path(file).expanduser() for file in place.split(os.pathsep) if file]
    there = place == _IN_POD or any(file.exists() for file in files)
    return str(error) if there else "no such file"


def authorisation(configuration: Any) -> dict[str, str]:
    """Return the request headers that let us in, refreshed by the official hook where they are old.

    Not safe to run twice at once. Raises NotConfigured when the credentials can no longer be read.
    """
    from kubernetes.config.config_exception import ConfigException

    try:
        settings = configuration.auth_settings().values()
    except (ConfigException, OSError, ValueError) as error:
        raise NotConfigured(
            f"credentials for {configuration.host}: got {in_words(error)}, expected a readable token; "
            "look at the token file or the exec plugin that the kubeconfig names"
        ) from error
    return {setting["key"]: setting["value"] for setting in settings if setting["value"]}
