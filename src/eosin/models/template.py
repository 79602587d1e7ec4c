"""The chat format of Qwen2.5-VL: special tokens, template, and Eosin's messages in the form processors take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eosin.core.nouns.sample import ImagePart, Message

IMAGE, VIDEO = "<|image_pad|>", "<|video_pad|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
END_OF_TEXT, TURN_START, TURN_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

# Order as in Qwen2.5-VL's vocabulary.
SPECIAL_TOKENS = (
    END_OF_TEXT, TURN_START, TURN_END, "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", VISION_START, VISION_END, "<|vision_pad|>", IMAGE, VIDEO,
)  # fmt: skip

SYSTEM_PROMPT = "You are a helpful assistant."

# Every turn is `<|im_start|>role\n...<|im_end|>\n`; without a system turn the default one is put first;
# an image stands as start, pad, end.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}"
    "{{- '<|im_start|>system\\n" + SYSTEM_PROMPT + "<|im_end|>\\n' -}}"
    "{%- endif -%}"
    "{%- for turn in messages -%}"
    "{{- '<|im_start|>' + turn['role'] + '\\n' -}}"
    "{%- set body = [{'type': 'text', 'text': turn['content']}] if turn['content'] is string else turn['content'] -%}"
    "{%- for part in body -%}"
    "{%- if part['type'] == 'image' -%}{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}"
    "{%- elif part['type'] == 'video' -%}{{- '<|vision_start|><|video_pad|><|vision_end|>' -}}"
    "{%- else -%}{{- part['text'] -}}{%- endif -%}"
    "{%- endfor -%}"
    "{{- '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)


def to_chat(messages: Sequence[Message], images: Sequence[Any] = ()) -> list[dict[str, Any]]:
    """Messages as transformers and TRL take them: content lists of image and text parts.

    Args:
        images: pictures that stand where the messages hold ImagePart; without them the parts stay empty
            placeholders, which TRL fills from the `images` column.
    """
    chat = []
    for message in messages:
        content: list[dict[str, Any]] = []
        for part in message.parts:
            if isinstance(part, ImagePart):
                content.append({"type": "image", "image": images[part.index]} if images else {"type": "image"})
            else:
                content.append({"type": "text", "text": escape_special(part.text)})
        chat.append({"role": message.role, "content": content})
    return chat


def escape_special(text: str) -> str:
    """Break special tokens inside plain text, so that a caption or question can never forge a turn or an image."""
    return text.replace("<|", "< |") if "<|" in text else text
