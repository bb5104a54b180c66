"""The prompts of `ocrsmith ocr`: by a short name, `locate:TEXT`, or given in full."""

from __future__ import annotations

from types import MappingProxyType

from ocrsmith.errors import SettingsError
from ocrsmith.text import IMAGE_TOKEN, PROMPTS, locate

NAMES = MappingProxyType(
    {
        "free": PROMPTS["free_ocr"],
        "markdown": PROMPTS["markdown"],
        "ground": PROMPTS["ocr_image"],
        "figure": PROMPTS["figure"],
        "describe": PROMPTS["describe"],
    }
)
_LOCATE = "locate:"


def choose_prompt(given: str) -> str:
    """The prompt itself.

    Args:
        given: a name of `NAMES` or of `text.PROMPTS`, `locate:TEXT`, or a text with `<image>` in it.

    Raises:
        SettingsError: it is none of these.
    """
    if given.startswith(_LOCATE):
        return locate(given.removeprefix(_LOCATE).strip())
    if IMAGE_TOKEN in given:
        return given
    prompt = NAMES.get(given) or PROMPTS.get(given)
    if prompt is None:
        raise SettingsError(
            f"{given!r} is neither the name of a prompt nor a prompt with {IMAGE_TOKEN} in it.",
            place="--prompt",
            mend=f"Use {', '.join(NAMES)}, locate:TEXT, or a text such as {PROMPTS['free_ocr']!r}.",
        )
    return prompt
