"""Whether a model server answers: one question of its list of models, no key, no proxy, no redirect."""

from __future__ import annotations

import http.client
import json
from urllib.parse import urlsplit

__all__ = ["server_state"]

MAX_BYTES = 1 << 20


def server_state(url: str, timeout_s: float = 3.0) -> tuple[bool, str]:
    """Whether an OpenAI-compatible server answers at this base URL, and what it says, in words.

    Args:
        url: such as http://127.0.0.1:8000/v1.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return False, "not an address; expected for example http://127.0.0.1:8000/v1"
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.hostname, parts.port, timeout=timeout_s)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/models", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status in (401, 403):
            return True, "answers, and asks for a key"
        if answer.status != 200:
            return False, f"answers with status {answer.status}; is /v1 missing at the end?"
        names = [str(one["id"]) for one in json.loads(answer.read(MAX_BYTES))["data"]]
        return True, "serves " + (", ".join(names[:5]) or "no model")
    except (OSError, http.client.HTTPException) as exc:
        return False, f"no answer: {type(exc).__name__}"
    except (ValueError, KeyError, TypeError):
        return False, "answers, but not as an OpenAI-compatible server does"
    finally:
        connection.close()
