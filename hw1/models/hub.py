"""timm's published weights: find the cached copy, check that the network answers, say what to download by hand."""

import http.client
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from timm.models import PretrainedCfg

TIMEOUT_S = 5.0
HUB_FILES = ("model.safetensors", "pytorch_model.bin")  # timm asks for them in this order


def cached_file(cfg: PretrainedCfg) -> Path | None:
    """Return the hub's file of these weights in the local cache; None if it was never downloaded."""
    if not cfg.hf_hub_id:
        return None
    repo, _, revision = cfg.hf_hub_id.partition("@")
    for name in [cfg.hf_hub_filename] if cfg.hf_hub_filename else HUB_FILES:
        path = try_to_load_from_cache(repo, name, cache_dir=constants.HF_HUB_CACHE, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
    return None


def why_unreachable(cfg: PretrainedCfg) -> str | None:
    """Return why the server of these weights does not answer within `TIMEOUT_S` seconds; None if it does.

    Call it before downloading: the hub's client repeats each failing request five times, which takes from 45 s to minutes.
    """
    if cfg.hf_hub_id and constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    address = urllib.parse.urljoin(constants.ENDPOINT if cfg.hf_hub_id else _first_url(cfg), "/")
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return None  # an error status is an answer
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        return None if isinstance(reason, ssl.SSLError) else f"{urllib.parse.urlsplit(address).netloc} cannot be reached ({reason})"
    return None


def how_to_download(cfg: PretrainedCfg) -> str:
    """Return which file to download on a machine with internet, and the key to set."""
    sources = []
    if cfg.hf_hub_id:
        sources.append(f"{cfg.hf_hub_filename or HUB_FILES[0]} of https://huggingface.co/{cfg.hf_hub_id}")
    if cfg.url and not _first_url(cfg).endswith(".npz"):  # JAX's format, which model.weights does not read
        sources.append(_first_url(cfg))
    tag = f" (tag {cfg.tag})" if cfg.tag else ""
    return f"download {' or '.join(sources)}{tag} and set model.weights to the file"


def _first_url(cfg: PretrainedCfg) -> str:
    """Return the url alone; timm's configuration may add the file name to store it under."""
    return cfg.url[0] if isinstance(cfg.url, tuple) else cfg.url or ""
