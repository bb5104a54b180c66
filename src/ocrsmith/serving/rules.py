"""The n-gram rule of one request, as vLLM's clients send it, in the model's own decoding settings."""

from __future__ import annotations

from ocrsmith.engines.decoding import DecodingSettings
from ocrsmith.engines.openai_api import CELL_TOKEN_IDS
from ocrsmith.errors import SettingsError
from ocrsmith.serving.backends import ServedModel
from ocrsmith.serving.errors import bad_request, bad_value
from ocrsmith.serving.schemas import NGramRule


def decoding_for(model: ServedModel, rule: NGramRule | None) -> DecodingSettings | None:
    """The decoding settings of a request; None: the model's own.

    A whitelist comes as token ids and settings have tokens: only the model's own can be named, or an empty one.

    Raises:
        ApiError: 400; sizes that do not fit together, or another whitelist than the model's or none.
    """
    if rule is None:
        return None
    own = model.decoding
    values = own.model_dump()
    if rule.size is not None:
        values["ngram_size"] = rule.size
    if rule.window is not None:
        values["ngram_window"] = rule.window
    if rule.whitelist_ids is not None:
        values["ngram_whitelist"] = _whitelist(model, rule.whitelist_ids)
    try:
        return DecodingSettings.from_values(values)
    except SettingsError as error:
        raise bad_request(f"vllm_xargs: {error.problem}", "vllm_xargs") from None


def _whitelist(model: ServedModel, ids: tuple[int, ...]) -> tuple[str, ...]:
    if not ids:
        return ()
    known = model.whitelist_ids
    accepted = (set(known), set(CELL_TOKEN_IDS)) if _is_usual(model) else (set(known),)
    if set(ids) not in accepted:
        allowed = f"this model's whitelist is {sorted(known)}; give these ids, or []"
        raise bad_value("vllm_xargs.whitelist_token_ids", list(ids), allowed)
    return model.decoding.ngram_whitelist


def _is_usual(model: ServedModel) -> bool:
    """Whether the whitelist is the one that clients of DeepSeek-OCR send by its ids without looking."""
    return model.decoding.ngram_whitelist == DecodingSettings().ngram_whitelist
