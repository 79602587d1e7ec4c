"""`eosin push` against a stub of the hub on this machine, and the model card."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from eosin.chain.push import model_card, push
from eosin.core.errors import EosinError
from eosin.core.store import artifacts as store


class Stub(BaseHTTPRequestHandler):
    """As much of the hub as an upload of small files asks for; remembers what it was given."""

    files: dict[str, bytes] = {}
    created: list[dict[str, Any]] = []
    refuses = False

    def log_message(self, *_: Any) -> None:
        return

    def _say(self, value: Any, status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:  # noqa: N802
        self._say({"id": "lab/reader", "sha": "0" * 40, "siblings": []})

    def do_POST(self) -> None:  # noqa: N802
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.refuses:
            self._say({"error": "no"}, 403)
        elif self.path.endswith("/repos/create"):
            self.created.append(json.loads(body))
            self._say({"url": f"http://{self.headers['Host']}/lab/reader"})
        elif "/preupload/" in self.path:
            wanted = json.loads(body)["files"]
            self._say({"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted]})
        elif "/commit/" in self.path:
            for line in body.decode().splitlines():
                row = json.loads(line)
                if row["key"] == "file":
                    self.files[row["value"]["path"]] = base64.b64decode(row["value"]["content"])
            self._say({"success": True, "commitOid": "1" * 40, "commitUrl": f"http://{self.headers['Host']}/c/1"})
        else:
            self._say({})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Stub]]:
    from huggingface_hub import constants, hf_api

    Stub.files, Stub.created, Stub.refuses = {}, [], False
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    for module in (constants, hf_api):
        if hasattr(module, "ENDPOINT"):
            monkeypatch.setattr(module, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_stub")
    monkeypatch.setattr(hf_api, "get_token", lambda: "hf_stub", raising=False)
    yield Stub
    server.shutdown()


def checkpoint(folder: Path, base: str | None = None) -> Path:
    config = {"base_model_name_or_path": base, "peft_type": "LORA"} if base else {"architectures": ["Tiny"]}
    with store.writing(folder, "checkpoint") as writer:
        name = "adapter_config.json" if base else "config.json"
        (writer.dir / name).write_text(json.dumps(config), "utf-8")
        (writer.dir / "model.safetensors").write_bytes(b"weights")
        writer.facts.update({"stage": "rl", "step": 60, "grammar": {"tags": ["think", "answer"]}})
        writer.counts["parameters"] = 1234
    return folder


def test_a_checkpoint_is_uploaded_with_its_card_and_without_its_record(hub: type[Stub], tmp_path: Path) -> None:
    address = push(checkpoint(tmp_path / "checkpoint"), "lab/reader")
    assert address.endswith("/lab/reader")
    made = hub.created[0]
    assert (made.get("private") is True or made.get("visibility") == "private") and made["name"].endswith("reader")
    assert set(hub.files) == {"README.md", "config.json", "model.safetensors"}
    assert hub.files["model.safetensors"] == b"weights"
    card = hub.files["README.md"].decode()
    assert "Research use only, not for diagnosis" in card and "| optimiser steps | 60 |" in card and "1234" in card
    assert str(tmp_path) not in card
    head = yaml.safe_load(card.split("---")[1])
    assert head["library_name"] == "transformers" and head["pipeline_tag"] == "image-text-to-text"


def test_the_card_of_an_adapter_names_its_base(tmp_path: Path) -> None:
    card = model_card(checkpoint(tmp_path / "checkpoint", "Qwen/Qwen2.5-VL-7B-Instruct"))
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == "Qwen/Qwen2.5-VL-7B-Instruct" and head["library_name"] == "peft"


def test_a_checkpoint_without_a_card_gets_the_same_one(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "checkpoint")
    written = (folder / "README.md").read_text("utf-8")
    assert model_card(folder) == written
    (folder / "README.md").unlink()
    assert model_card(folder) == written


def test_what_cannot_be_pushed_is_refused(hub: type[Stub], tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(EosinError, match="only on this machine"):
        push(checkpoint(tmp_path / "adapter", "../base"), "lab/reader")
    with pytest.raises(EosinError):
        push(tmp_path / "base", "lab/reader")
    hub.refuses = True
    with pytest.raises(EosinError, match="did not take the checkpoint"):
        push(checkpoint(tmp_path / "whole"), "lab/reader")
    assert not hub.files
